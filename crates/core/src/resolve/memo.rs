//! What a resolution knows: what was found for keys, what derivations ended with under which
//! choices, and the derivations that still run.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::iter::successors;
use core::task::{self, Poll};
use core::time::Duration;

use crate::context::{Binding, Context, Cursor, EntryId};
use crate::derive::{Derivation, ErasedStream, Had, Halt, Stop, Yielded};
use crate::few::Few;
use crate::index::Index;
use crate::lock::Lock;
use crate::protocol::Value;
use crate::shared::{Joined, Origin, Ticket};
use crate::{BoxFuture, Instant, KeyRef, SharedRuntime};

/// "No number".
pub(super) const NONE: u32 = u32::MAX;

/// What was found for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A binding that is a value.
    Value(EntryId),
    /// A value of a derivation: the outcome, and which of its values.
    Derived(u32, u32),
    /// No binding yielded.
    Absent,
    /// This outcome failed; which of its values, if it is one of them that did.
    Failed(u32, u32),
    /// Only when planning: this derivation would run.
    Maybe(u32),
}

/// One argument as it was had, or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub(super) key: KeyRef,
    pub(super) found: Found,
    /// The lookup, if derivations were looked at.
    pub(super) lookup: u32,
    /// What the same derivation had before, in `Known::needs`.
    pub(super) before: u32,
}

/// Which value of a many-valued outcome a walk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) outcome: u32,
    pub(super) index: u32,
}

/// A binding of a key whose newest binding is a derivation.
pub(super) struct Slot {
    pub(super) entry: EntryId,
    /// What is bound, if it is a derivation: a copy at hand, for it is asked at every argument.
    pub(super) derivation: Option<Arc<dyn Derivation>>,
    /// Where the search for the next older binding goes on; its slot, once reached.
    pub(super) below: Cursor,
    pub(super) older: u32,
    /// Its outcomes, as a list through `Outcome::next`.
    pub(super) outcomes: u32,
    /// The lookups of the key, as a list through `Lookup::next`, if this is its newest binding.
    pub(super) lookups: u32,
    /// The walk that is evaluating it now. (Racing walks may be more than one: see `Walk::beside`.)
    pub(super) walker: u32,
}

/// What was found for a key under certain choices.
pub(super) struct Lookup {
    pub(super) found: Found,
    pub(super) examined: Examined,
    pub(super) saw: Saw,
    pub(super) next: u32,
}

/// The outcomes that a lookup looked at, in order.
pub(super) type Examined = Few<u32, 1>;

/// The choices that an outcome depends on: none, most of the time.
pub(super) type Saw = Option<Box<[Choice]>>;

/// What a derivation ended with under certain choices.
pub(super) struct Outcome {
    pub(super) slot: u32,
    pub(super) entry: EntryId,
    pub(super) state: State,
    /// The last that it had or failed to have, in `Known::needs`.
    pub(super) last_need: u32,
    /// Its times, in `Known::times`, if there is a clock.
    pub(super) time: u32,
    pub(super) saw: Saw,
    pub(super) next: u32,
}

pub(super) enum State {
    Running,
    One(Value),
    Many {
        values: Vec<Result<Value, Stop>>,
        /// More may come.
        open: bool,
    },
    Declined(Cow<'static, str>),
    /// The guard that is its last need did not hold.
    Unequal,
    /// Its last need is absent.
    Missing,
    Failed(Arc<dyn Error + Send + Sync>),
    /// Its last need failed.
    NeedFailed,
    Cycle(Arc<[KeyRef]>),
    /// Another resolution ran it, and failed: whoever waited asks again.
    Retry,
    /// Only when planning: it would run.
    WouldRun,
}

/// What one resolution found out. It outlives the resolution, for the report.
pub(super) struct Known {
    pub(super) ctx: Context,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) needs: Vec<Need>,
    /// When derivations were started, and how long they took.
    pub(super) times: Vec<(Instant, Option<Duration>)>,
    /// What another resolution made these outcomes from, in order.
    pub(super) shared: Vec<(u32, Origin)>,
}

/// What one resolution found out, and what it takes to find out more.
pub(super) struct Memo {
    pub(super) known: Known,
    pub(super) runtime: Option<SharedRuntime>,
    /// Whether derivations are not to be run.
    pub(super) planning: bool,
    pub(super) slots: Vec<Slot>,
    /// From a key to the slot of its newest binding.
    pub(super) index: Index,
    /// The slot of the root that was looked for last.
    pub(super) last_root: Option<(KeyRef, u32)>,
    /// In a lock not to be locked, but to be `Sync`: what is left of a resolution is shared.
    pub(super) running: Lock<Vec<Run>>,
}

/// A derivation that runs, or a stream of values that goes on.
pub(super) struct Run {
    pub(super) outcome: u32,
    pub(super) work: Work,
}

pub(super) enum Work {
    Future(BoxFuture<'static, Result<Yielded, Halt>>),
    Stream(ErasedStream),
    /// It is shared with other resolutions: this one began it (`mine`), or another.
    Joined {
        joined: Joined,
        mine: bool,
    },
}

impl Known {
    pub(super) fn new(ctx: Context) -> Self {
        let (outcomes, lookups, needs, times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { ctx, outcomes, lookups, needs, times, shared: Vec::new() }
    }

    /// What an outcome had or failed to have, last first.
    pub(super) fn needs_of(&self, outcome: u32) -> impl Iterator<Item = &Need> {
        self.needs_from(self.outcomes[outcome as usize].last_need)
    }

    pub(super) fn needs_from(&self, last_need: u32) -> impl Iterator<Item = &Need> {
        successors(self.needs.get(last_need as usize), |need| self.needs.get(need.before as usize))
    }

    pub(super) fn last_need(&self, outcome: u32) -> u32 {
        self.outcomes[outcome as usize].last_need
    }

    /// The outcomes that a lookup looked at, in order.
    pub(super) fn examined(&self, need: &Need) -> impl DoubleEndedIterator<Item = u32> {
        self.lookups.get(need.lookup as usize).into_iter().flat_map(|lookup| lookup.examined.iter().copied())
    }

    pub(super) fn took(&self, outcome: u32) -> Option<Duration> {
        self.times.get(self.outcomes[outcome as usize].time as usize)?.1
    }

    /// How many values an outcome has, and whether more may come.
    pub(super) fn values_of(&self, outcome: u32) -> (usize, bool) {
        match &self.outcomes[outcome as usize].state {
            State::Many { values, open } => (values.len(), *open),
            State::Running => (0, true),
            _ => (1, false),
        }
    }

    /// Whether the value at `index` of `outcome` is not known yet.
    pub(super) fn is_open_before(&self, outcome: u32, index: u32) -> bool {
        let (values, open) = self.values_of(outcome);
        open && index as usize >= values
    }

    pub(super) fn value(&self, found: Found) -> Option<&Value> {
        match found {
            Found::Value(entry) => match &self.ctx.entry(entry).binding {
                Binding::Value(value) => Some(value),
                _ => None,
            },
            Found::Derived(outcome, index) => match &self.outcomes[outcome as usize].state {
                State::One(value) => Some(value),
                State::Many { values, .. } => values.get(index as usize)?.as_ref().ok(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Memo {
    pub(super) fn new(ctx: Context, runtime: Option<SharedRuntime>, planning: bool) -> Self {
        Self {
            known: Known::new(ctx),
            runtime,
            planning,
            slots: Vec::new(),
            index: Index::default(),
            last_root: None,
            running: Lock::new(Vec::new()),
        }
    }

    /// Drops what runs.
    pub(super) fn stop(&mut self) {
        self.running.get_mut().clear();
    }

    /// Lets everything that runs go on. Whether anything ended or gave a value.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> bool {
        let mut progress = false;
        let mut i = 0;
        while i < self.running.get_mut().len() {
            let mut run = self.running.get_mut().swap_remove(i);
            let before = self.known.values_of(run.outcome).0;
            let state = match core::mem::replace(
                &mut self.known.outcomes[run.outcome as usize].state,
                State::Running,
            ) {
                State::Running => match run.work.poll(cx) {
                    Poll::Ready(Err(Halt::Fail(_) | Halt::Decline(_))) if run.work.is_theirs() => {
                        let never = Choice { outcome: run.outcome, index: NONE };
                        self.known.outcomes[run.outcome as usize].saw = Some(Box::new([never]));
                        State::Retry
                    }
                    Poll::Ready(result) => self.settle(result, &mut run.work, cx),
                    Poll::Pending => State::Running,
                },
                State::Many { values, open: true } => drain(values, &mut run.work, cx),
                ended => ended,
            };
            let unfinished = matches!(state, State::Running | State::Many { open: true, .. });
            self.known.outcomes[run.outcome as usize].state = state;
            progress |= !unfinished || self.known.values_of(run.outcome).0 > before;
            if unfinished {
                // Back to its place, for those behind have not been polled yet.
                let running = self.running.get_mut();
                running.push(run);
                let last = running.len() - 1;
                running.swap(i, last);
                i += 1;
            } else {
                self.took(run.outcome);
            }
        }
        progress
    }

    pub(super) fn derivation(&self, slot: u32) -> &dyn Derivation {
        match &self.slots[slot as usize].derivation {
            Some(derivation) => &**derivation,
            None => unreachable!("entered slots are derivations"),
        }
    }

    /// Runs the derivation at `slot`, which has an origin if it is shared.
    pub(super) fn start(&mut self, slot: u32, last_need: u32, origin: Option<Origin>) -> Work {
        let derivation = self.derivation(slot);
        let mut few: [Had<'_>; 8] = [None; 8];
        let count = self.known.needs_from(last_need).count();
        let mut more;
        let had = if count <= few.len() {
            &mut few[..count]
        } else {
            more = alloc::vec![None; count];
            &mut more[..]
        };
        for (had, need) in had.iter_mut().rev().zip(self.known.needs_from(last_need)) {
            *had = self.known.value(need.found);
        }
        let future = derivation.run(had);
        match derivation.shared().zip(origin) {
            None => Work::Future(future),
            Some((shared, origin)) => Work::Joined { joined: shared.begin(future, origin), mine: true },
        }
    }

    /// What a finished work means.
    pub(super) fn settle(
        &mut self,
        result: Result<Yielded, Halt>,
        work: &mut Work,
        cx: &mut task::Context<'_>,
    ) -> State {
        match result {
            Ok(Yielded::One(value)) => State::One(value),
            Ok(Yielded::Many(values)) if values.is_empty() => State::Declined("it gave no value".into()),
            Ok(Yielded::Many(values)) => {
                State::Many { values: values.into_iter().map(Ok).collect(), open: false }
            }
            Ok(Yielded::Stream(stream)) => {
                *work = Work::Stream(stream);
                drain(Vec::new(), work, cx)
            }
            Err(Halt::Decline(why)) => State::Declined(why),
            Err(Halt::Fail(error)) => State::Failed(error),
        }
    }

    pub(super) fn took(&mut self, outcome: u32) {
        let time = self.known.outcomes[outcome as usize].time;
        if let (Some((started, took)), Some(runtime)) =
            (self.known.times.get_mut(time as usize), &self.runtime)
        {
            *took = Some(runtime.now().since(*started));
        }
    }

    pub(super) fn add_outcome(
        &mut self,
        slot: u32,
        state: State,
        last_need: u32,
        saw: Saw,
        started: Option<Instant>,
    ) -> u32 {
        let number = self.known.outcomes.len() as u32;
        let here = &mut self.slots[slot as usize];
        let next = core::mem::replace(&mut here.outcomes, number);
        let time = started.map_or(NONE, |started| {
            self.known.times.push((started, None));
            self.known.times.len() as u32 - 1
        });
        self.known.outcomes.push(Outcome { slot, entry: here.entry, state, last_need, time, saw, next });
        number
    }

    /// If the derivation at `slot` is shared and another resolution has its outcome, or makes it of
    /// `choices`: that, for whoever `saw` the same.
    pub(super) fn shared_outcome(
        &mut self,
        slot: u32,
        last_need: u32,
        choices: &[(usize, u32)],
        saw: Saw,
        cx: &mut task::Context<'_>,
    ) -> Option<u32> {
        let shared = self.derivation(slot).shared().filter(|_| !self.planning)?;
        // What this resolution has, it had for other choices.
        let (ticket, origin) = shared.find(&self.known.ctx, choices, &self.had(slot))?;
        let state = match &ticket {
            Ticket::Done(value) => State::One(value.clone()),
            // Polled at once: it would not wake anybody otherwise.
            Ticket::Running(joined) => match joined.poll(cx) {
                Poll::Pending => State::Running,
                Poll::Ready(Ok(Yielded::One(value))) => State::One(value),
                Poll::Ready(_) => return None,
            },
        };
        let running = matches!(state, State::Running);
        let outcome = self.add_outcome(slot, state, last_need, saw, None);
        self.known.shared.push((outcome, origin));
        if let (true, Ticket::Running(joined)) = (running, ticket) {
            self.running.get_mut().push(Run { outcome, work: Work::Joined { joined, mine: false } });
        }
        Some(outcome)
    }

    /// The values that this resolution had of the derivation at `slot`.
    fn had(&self, slot: u32) -> Vec<Value> {
        let first = self.known.outcomes.get(self.slots[slot as usize].outcomes as usize);
        let outcomes = successors(first, |outcome| self.known.outcomes.get(outcome.next as usize));
        let value = |outcome: &Outcome| match &outcome.state {
            State::One(value) => Some(value.clone()),
            _ => None,
        };
        outcomes.filter_map(value).collect()
    }

    pub(super) fn newest_slot(&mut self, key: KeyRef, entry: EntryId, below: Cursor) -> u32 {
        if let Some(found) = self.index.get(key.address()) {
            return found;
        }
        let slot = self.add_slot(entry, below);
        self.index.insert(key.address(), slot);
        slot
    }

    pub(super) fn add_slot(&mut self, entry: EntryId, below: Cursor) -> u32 {
        let derivation = match &self.known.ctx.entry(entry).binding {
            Binding::Derivation(derivation) => Some(derivation.clone()),
            _ => None,
        };
        let (older, outcomes, lookups, walker) = (NONE, NONE, NONE, NONE);
        self.slots.push(Slot { entry, derivation, below, older, outcomes, lookups, walker });
        self.slots.len() as u32 - 1
    }

    /// The slot of the next older binding.
    pub(super) fn older(&mut self, slot: u32, key: KeyRef) -> Option<u32> {
        let Slot { older, below, .. } = self.slots[slot as usize];
        if older != NONE {
            return Some(older);
        }
        let (entry, _, below) = self.known.ctx.next(key, below)?;
        let older = self.add_slot(entry, below);
        self.slots[slot as usize].older = older;
        Some(older)
    }

    /// The slot of a root: the same as if a lookup of its key had come to it.
    pub(super) fn slot_of_root(&mut self, key: KeyRef, root: EntryId) -> u32 {
        let Some((entry, _, below)) = self.known.ctx.next(key, Cursor::Node(0)) else {
            unreachable!("roots are bindings of this context")
        };
        let mut slot = self.newest_slot(key, entry, below);
        // Roots come newest first, so the search goes on where the last one ended.
        match self.last_root {
            Some((of, last)) if of == key && self.slots[last as usize].entry <= root => slot = last,
            _ => {}
        }
        while self.slots[slot as usize].entry != root {
            match self.older(slot, key) {
                Some(older) => slot = older,
                None => unreachable!("roots are bindings of this context"),
            }
        }
        self.last_root = Some((key, slot));
        slot
    }
}

/// Takes the values that are there.
fn drain(mut values: Vec<Result<Value, Stop>>, work: &mut Work, cx: &mut task::Context<'_>) -> State {
    let Work::Stream(stream) = work else { return State::Many { values, open: false } };
    loop {
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(value)) => values.push(value),
            Poll::Ready(None) if values.is_empty() => return State::Declined("it gave no value".into()),
            Poll::Ready(None) => return State::Many { values, open: false },
            // Nothing yet: whoever asks for the first value waits.
            Poll::Pending => return State::Many { values, open: true },
        }
    }
}

impl Work {
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Yielded, Halt>> {
        match self {
            Self::Future(future) => future.as_mut().poll(cx),
            Self::Joined { joined, .. } => joined.poll(cx),
            Self::Stream(_) => Poll::Pending,
        }
    }

    pub(super) fn is_theirs(&self) -> bool {
        matches!(self, Self::Joined { mine: false, .. })
    }
}
