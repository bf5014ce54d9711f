//! The direct way: what most resolutions come to, where the candidates' turns come one after the other, each
//! derivation gives one value at once and nothing fails.
//!
//! It keeps nothing but what derivations gave. Where it ends, it leaves that behind, and a session goes the
//! same way over it (`Past`), in the same order and running nothing twice: to go on, or to report.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::task;

use super::memo::{State, Work, begin};
use super::session::Connecting;
use crate::connect::Frame;
use crate::context::{Binding, Context, EntryId};
use crate::derive::{Derivation, Had};
use crate::protocol::Value;

/// How many derivations are looked at, and how deep they lie at most: beyond, a session goes on, which
/// remembers more and does not recurse.
const LOOKED_AT: u32 = 32;

/// The end of the direct way: a session has to go on.
pub(super) struct Beyond;

pub(super) struct Direct<'a> {
    ctx: &'a Context,
    ran: Vec<Ran>,
    /// What the last that was run is up to, if it has not ended with one value.
    last: Option<(State, Option<Work>)>,
    /// How many derivations may still be looked at.
    left: u32,
}

/// What derivations gave before, in the order in which they were run.
#[derive(Default)]
pub(super) struct Past {
    ran: Vec<Ran>,
    next: usize,
    last: Option<(State, Option<Work>)>,
}

/// A derivation that ended: with its value, or why it declined.
#[derive(Clone)]
pub(super) struct Ran {
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

impl<'a> Direct<'a> {
    pub(super) fn new(ctx: &'a Context) -> Self {
        Self { ctx, ran: Vec::new(), last: None, left: LOOKED_AT }
    }

    /// Begins to connect the first candidate that has an endpoint.
    pub(super) fn connect(
        &mut self,
        frame: &'a Frame<'a>,
        cx: &mut task::Context<'_>,
    ) -> Result<Connecting<'a>, Beyond> {
        let offers = self.ctx.offers();
        let mut attempt = 0;
        for (i, offer) in offers.iter().enumerate() {
            if offers.get(i + 1).is_some_and(|next| next.rank() == offer.rank()) {
                return Err(Beyond);
            }
            let mut root = self.ctx.newest(offer.key());
            while let Some((id, entry)) = root {
                let found = match &entry.binding {
                    Binding::Value(value) => Some(Found::Bound(value)),
                    Binding::Derivation(derivation) => self.derive(id, &**derivation, cx)?,
                    Binding::Nothing => None,
                };
                if let Some(found) = found {
                    let connecting = offer.endpoint.connect(&**self.value(found), frame.cx(attempt));
                    return connecting.ok_or(Beyond);
                }
                attempt += 1;
                root = self.ctx.older(id, entry);
            }
        }
        Err(Beyond)
    }

    /// All that was run to have a connection.
    pub(super) fn into_ran(self) -> Vec<Ran> {
        self.ran
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
        if let Some(i) = self.ran.iter().position(|ran| ran.entry == entry) {
            return Ok(self.ran[i].end.is_ok().then_some(Found::Derived(i)));
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
        let end = match begin(derivation, had, cx) {
            (State::One(value), _) => Ok(value),
            (State::Declined(why), _) => Err(why),
            other => {
                self.last = Some(other);
                return Err(Beyond);
            }
        };
        let found = end.is_ok().then_some(Found::Derived(self.ran.len()));
        if self.ran.is_empty() {
            self.ran = Vec::with_capacity(4);
        }
        self.ran.push(Ran { entry, end });
        Ok(found)
    }

    fn value<'v>(&'v self, found: Found<'v>) -> &'v Value {
        match found {
            Found::Bound(value) => value,
            Found::Derived(i) => match &self.ran[i].end {
                Ok(value) => value,
                Err(_) => unreachable!("what declined is not found"),
            },
        }
    }
}

impl Past {
    /// What the next derivation ended with, or is up to. They come in the order in which they were run.
    pub(super) fn next(&mut self, entry: EntryId) -> Option<(State, Option<Work>)> {
        let Some(ran) = self.ran.get(self.next) else { return self.last.take() };
        debug_assert!(ran.entry == entry, "the same way is gone again");
        self.next += 1;
        let state = match ran.end.clone() {
            Ok(value) => State::One(value),
            Err(why) => State::Declined(why),
        };
        Some((state, None))
    }
}

impl From<Direct<'_>> for Past {
    fn from(direct: Direct<'_>) -> Self {
        Self { ran: direct.ran, next: 0, last: direct.last }
    }
}

impl From<Vec<Ran>> for Past {
    fn from(ran: Vec<Ran>) -> Self {
        Self { ran, next: 0, last: None }
    }
}
