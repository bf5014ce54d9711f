//! The direct way: what most resolutions come to, where the candidates' turns come one after the other, each
//! derivation gives one value at once and nothing fails.
//!
//! It keeps nothing but what derivations gave. Where it ends, it leaves that behind, and a session goes the
//! same way over it (`Past`), in the same order and running nothing twice: to go on, or to report.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use core::task;

use super::memo::{State, Work, begun};
use super::session::Connecting;
use crate::connect::{Frame, Trace};
use crate::context::{Binding, Context, EntryId};
use crate::derive::{Derivation, Had, Halt, Started, Yielded};
use crate::few::Few;
use crate::protocol::Value;

/// How many derivations are looked at, and how deep they lie at most: beyond, a session goes on, which
/// remembers more and does not recurse.
const LOOKED_AT: u32 = 32;

/// The end of the direct way: a session has to go on.
struct Beyond;

/// What the last that was run is up to, if it has not ended with one value.
pub(super) type Last = Option<Box<(State, Option<Work>)>>;

struct Direct<'a> {
    ctx: &'a Context,
    /// What was run.
    trace: Option<Box<Trace>>,
    last: Last,
    /// How many derivations may still be looked at.
    left: u32,
}

/// What derivations gave before, in the order in which they were run.
pub(super) struct Past {
    ran: Few<Ran, 4>,
    next: usize,
    last: Last,
}

/// A derivation that ended: with its value, or why it declined.
#[derive(Clone)]
pub(crate) struct Ran {
    entry: EntryId,
    end: Result<Value, Cow<'static, str>>,
}

/// A value that was found.
#[derive(Clone, Copy)]
enum Found<'a> {
    Bound(&'a Value),
    /// By what ran, as an index.
    Derived(usize),
}

/// Begins to connect the first candidate that has an endpoint, unless a session has to go on. What was run is
/// left in the frame, and in `last`.
pub(super) fn connect<'a>(
    frame: &'a Frame<'a>,
    last: &mut Last,
    cx: &mut task::Context<'_>,
) -> Option<Connecting<'a>> {
    let mut direct = Direct { ctx: frame.ctx(), trace: None, last: None, left: LOOKED_AT };
    let connecting = direct.connect(frame, cx).ok();
    if direct.trace.is_some() {
        frame.set_trace(direct.trace);
    }
    *last = direct.last;
    connecting
}

impl<'a> Direct<'a> {
    fn connect(
        &mut self,
        frame: &'a Frame<'a>,
        cx: &mut task::Context<'_>,
    ) -> Result<Connecting<'a>, Beyond> {
        let ctx = self.ctx;
        let offers = ctx.offers();
        let mut attempt = 0;
        for (i, offer) in offers.iter().enumerate() {
            if offers.get(i + 1).is_some_and(|next| next.rank() == offer.rank()) {
                return Err(Beyond);
            }
            let mut root = ctx.newest(offer.key());
            while let Some((id, entry)) = root {
                let found = match &entry.binding {
                    Binding::Value(value) => Some(Found::Bound(value)),
                    Binding::Derivation(derivation) => self.derive(id, &**derivation, cx)?,
                    Binding::Nothing => None,
                };
                if let Some(found) = found {
                    let connecting = offer.endpoint.connect(&**self.value(found), frame.cx(attempt, None));
                    return connecting.ok_or(Beyond);
                }
                attempt += 1;
                root = ctx.older(id, entry);
            }
        }
        Err(Beyond)
    }

    /// The value of an argument, if there is one.
    fn look_up(
        &mut self,
        key: crate::KeyRef,
        cx: &mut task::Context<'_>,
    ) -> Result<Option<Found<'a>>, Beyond> {
        let mut next = self.ctx.newest(key);
        while let Some((id, entry)) = next {
            match &entry.binding {
                Binding::Value(value) => return Ok(Some(Found::Bound(value))),
                Binding::Derivation(derivation) => {
                    if let Some(found) = self.derive(id, &**derivation, cx)? {
                        return Ok(Some(found));
                    }
                }
                Binding::Nothing => return Ok(None),
            }
            next = self.ctx.older(id, entry);
        }
        Ok(None)
    }

    /// The value of a derivation, if it does not decline.
    fn derive(
        &mut self,
        entry: EntryId,
        derivation: &'a dyn Derivation,
        cx: &mut task::Context<'_>,
    ) -> Result<Option<Found<'a>>, Beyond> {
        if let Some(trace) = &self.trace
            && let Some(i) = trace.ran.position(|ran| ran.entry == entry)
        {
            return Ok(trace.ran[i].end.is_ok().then_some(Found::Derived(i)));
        }
        if self.left == 0 || derivation.shared().is_some() {
            return Err(Beyond);
        }
        self.left -= 1;
        let args = derivation.specs();
        let mut found: [Option<Found<'a>>; 12] = [None; 12];
        for (i, arg) in args.iter().enumerate() {
            found[i] = self.look_up(arg.key, cx)?;
            match found[i] {
                None if !arg.optional => return Ok(None),
                Some(found) if arg.guard && !derivation.accepts(i, &**self.value(found)) => {
                    return Ok(None);
                }
                _ => {}
            }
        }
        let mut had: [Had<'_>; 12] = [None; 12];
        let had = &mut had[..args.len()];
        for (had, found) in had.iter_mut().zip(&found) {
            *had = found.map(|found| self.value(found));
        }
        let (value, why) = match derivation.start(had, cx) {
            Started::Ended(Ok(Yielded::One(value))) => (Some(value), "".into()),
            Started::Ended(Err(Halt::Decline(why))) => (None, why),
            other => {
                self.last = Some(Box::new(begun(other, cx)));
                return Err(Beyond);
            }
        };
        let ran = &mut self.trace.get_or_insert_default().ran;
        let found = value.is_some().then_some(Found::Derived(ran.len()));
        ran.push(Ran { entry, end: value.ok_or(why) });
        Ok(found)
    }

    fn value<'v>(&'v self, found: Found<'v>) -> &'v Value {
        match found {
            Found::Bound(value) => value,
            Found::Derived(i) => match self.trace.as_ref().map(|trace| &trace.ran[i].end) {
                Some(Ok(value)) => value,
                _ => unreachable!("what did not run, or declined, is not found"),
            },
        }
    }
}

impl Past {
    pub(super) fn new(ran: Few<Ran, 4>, last: Last) -> Self {
        Self { ran, next: 0, last }
    }

    /// What the next derivation ended with, or is up to. They come in the order in which they were run.
    pub(super) fn next(&mut self, entry: EntryId) -> Option<(State, Option<Work>)> {
        let Some(ran) = self.ran.get(self.next) else { return self.last.take().map(|last| *last) };
        debug_assert!(ran.entry == entry, "the same way is gone again");
        self.next += 1;
        let state = match ran.end.clone() {
            Ok(value) => State::One(value),
            Err(why) => State::Declined(why),
        };
        Some((state, None))
    }
}
