//! What a resolution knows: what was found for keys, what derivations ended with under which
//! choices, and the derivations that still run.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::iter::successors;
use core::mem::replace;
use core::task::{self, Poll};
use core::time::Duration;

use super::direct::Past;
use super::record::{Record, shown};
use crate::context::{Binding, Context, Entry, EntryId};
use crate::derive::{Derivation, ErasedStream, Had, Halt, Started, Stop, Yielded};
use crate::index::Index;
use crate::log::{after, step};
use crate::protocol::Value;
use crate::report::ReadOutcome;
use crate::shared::{Joined, Origin, Ticket};
use crate::{BoxFuture, Instant, KeyRef, SharedRuntime};

/// Up to this many slots are scanned.
const SCANNED: usize = 8;
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
pub(super) struct Slot<'a> {
    pub(super) entry: &'a Entry,
    pub(super) id: EntryId,
    pub(super) shared: bool,
    /// Its outcomes, as a list through `Outcome::next`.
    pub(super) outcomes: u32,
    /// The lookups of the key that looked at more than one binding, as a list through
    /// `Lookup::next`, if this is its newest binding.
    pub(super) lookups: u32,
    /// The walk that is evaluating it now. (Racing walks may be more than one: see `Walk::beside`.)
    pub(super) walker: u32,
}

/// One derivation that a lookup looked at. What was found stands in the last of a lookup.
pub(super) struct Lookup {
    pub(super) examined: u32,
    /// The one that was looked at before.
    pub(super) before: u32,
    pub(super) found: Found,
    pub(super) saw: Saw,
    pub(super) next: u32,
}

/// The choices that something depends on, in `Known::choices`; `NONE` most of the time.
pub(super) type Saw = u32;

/// What a derivation ended with under certain choices.
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) entry: EntryId,
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
    Many(Box<Values>),
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

pub(super) struct Values {
    pub(super) values: Vec<Result<Value, Stop>>,
    /// More may come.
    pub(super) open: bool,
}

/// What one resolution found out. It outlives the resolution, for the report.
pub(super) struct Known {
    pub(super) ctx: Context,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) lookups: Vec<Lookup>,
    pub(super) needs: Vec<Need>,
    /// When derivations were started, and how long they took.
    pub(super) times: Vec<(Instant, Option<Duration>)>,
    choices: Vec<Box<[Choice]>>,
    /// What another resolution made these outcomes from, in order.
    pub(super) shared: Vec<(u32, Origin)>,
}

/// What one resolution found out, and what it takes to find out more.
pub(super) struct Memo<'a> {
    pub(super) ctx: &'a Context,
    /// What is left when it is over, filled in as it goes.
    pub(super) record: Box<Record>,
    pub(super) runtime: Option<&'a SharedRuntime>,
    /// Whether derivations are not to be run.
    pub(super) planning: bool,
    pub(super) slots: Vec<Slot<'a>>,
    /// From entries to slots, once there are more than are scanned.
    index: Index,
    pub(super) running: Vec<Run>,
    /// What derivations gave before, on the direct way.
    pub(super) past: Option<Past>,
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
        let (outcomes, lookups, needs) = (Vec::new(), Vec::new(), Vec::new());
        let (times, choices, shared) = (Vec::new(), Vec::new(), Vec::new());
        Self { ctx, outcomes, lookups, needs, times, choices, shared }
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

    /// The outcomes that a lookup looked at, of the oldest binding first.
    pub(super) fn examined(&self, need: &Need) -> impl Iterator<Item = u32> {
        let only = match need.found {
            Found::Derived(outcome, _) | Found::Failed(outcome, _) | Found::Maybe(outcome) => Some(outcome),
            Found::Value(_) | Found::Absent => None,
        };
        let only = only.filter(|_| need.lookup == NONE);
        let steps =
            successors(self.lookups.get(need.lookup as usize), |step| self.lookups.get(step.before as usize));
        only.into_iter().chain(steps.map(|step| step.examined))
    }

    pub(super) fn choices(&self, saw: Saw) -> &[Choice] {
        self.choices.get(saw as usize).map_or(&[], |choices| choices)
    }

    pub(super) fn saw(&mut self, choices: Box<[Choice]>) -> Saw {
        self.choices.push(choices);
        self.choices.len() as u32 - 1
    }

    /// The choices of both.
    #[inline]
    pub(super) fn both(&mut self, a: Saw, b: Saw) -> Saw {
        if b == NONE || a == b { a } else { self.union(a, b) }
    }

    #[cold]
    fn union(&mut self, a: Saw, b: Saw) -> Saw {
        let new = |choice: &&Choice| !self.choices(a).contains(choice);
        if self.choices(b).iter().any(|choice| new(&choice)) {
            let all = self.choices(a).iter().chain(self.choices(b).iter().filter(new)).copied().collect();
            return self.saw(all);
        }
        a
    }

    pub(super) fn took(&self, outcome: u32) -> Option<Duration> {
        self.times.get(self.outcomes[outcome as usize].time as usize)?.1
    }

    /// How many values an outcome has, and whether more may come.
    pub(super) fn values_of(&self, outcome: u32) -> (usize, bool) {
        match &self.outcomes[outcome as usize].state {
            State::Many(many) => (many.values.len(), many.open),
            State::Running => (0, true),
            _ => (1, false),
        }
    }

    /// Whether the value at `index` of `outcome` is not known yet.
    pub(super) fn is_open_before(&self, outcome: u32, index: u32) -> bool {
        let (values, open) = self.values_of(outcome);
        open && index as usize >= values
    }

    #[inline]
    pub(super) fn value(&self, found: Found) -> Option<&Value> {
        match found {
            Found::Value(entry) => match &self.ctx.entry(entry).binding {
                Binding::Value(value) => Some(value),
                _ => None,
            },
            Found::Derived(outcome, index) => match &self.outcomes[outcome as usize].state {
                State::One(value) => Some(value),
                State::Many(many) => many.values.get(index as usize)?.as_ref().ok(),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'a> Memo<'a> {
    pub(super) fn new(ctx: &'a Context, runtime: Option<&'a SharedRuntime>, planning: bool) -> Self {
        let (slots, index, running) = (Vec::new(), Index::default(), Vec::new());
        let (record, past) = (Box::new(Record::new(ctx.clone())), None);
        Self { ctx, record, runtime, planning, slots, index, running, past }
    }

    /// Lets everything that runs go on. Whether anything ended or gave a value.
    pub(super) fn poll(&mut self, cx: &mut task::Context<'_>) -> bool {
        let mut progress = false;
        let mut i = 0;
        while i < self.running.len() {
            let mut run = self.running.swap_remove(i);
            let before = self.record.known.values_of(run.outcome).0;
            let state =
                match replace(&mut self.record.known.outcomes[run.outcome as usize].state, State::Running) {
                    State::Running => match run.work.poll(cx) {
                        Poll::Ready(Err(Halt::Fail(_) | Halt::Decline(_))) if run.work.is_theirs() => {
                            let never = Choice { outcome: run.outcome, index: NONE };
                            self.record.known.outcomes[run.outcome as usize].saw =
                                self.record.known.saw(Box::new([never]));
                            State::Retry
                        }
                        Poll::Ready(result) => {
                            let (state, more) = settle(result, cx);
                            if let Some(work) = more {
                                run.work = work;
                            }
                            state
                        }
                        Poll::Pending => State::Running,
                    },
                    State::Many(many) => match &mut run.work {
                        Work::Stream(stream) => drain(many.values, stream, cx),
                        _ => State::Many(many),
                    },
                    ended => ended,
                };
            let unfinished = is_unfinished(&state);
            self.record.known.outcomes[run.outcome as usize].state = state;
            progress |= !unfinished || self.record.known.values_of(run.outcome).0 > before;
            if unfinished {
                // Back to its place, for those behind have not been polled yet.
                self.running.push(run);
                let last = self.running.len() - 1;
                self.running.swap(i, last);
                i += 1;
            } else {
                self.took(run.outcome);
                step(|| self.told(run.outcome));
            }
        }
        progress
    }

    pub(super) fn derivation(&self, slot: u32) -> &'a dyn Derivation {
        match &self.slots[slot as usize].entry.binding {
            Binding::Derivation(derivation) => &**derivation,
            _ => unreachable!("entered slots are derivations"),
        }
    }

    /// Runs the derivation at `slot`, whose arguments are the needs up to `last_need`, and which has
    /// an origin if it is shared. What it is up to, which is to be the next outcome.
    pub(super) fn start(
        &mut self,
        slot: u32,
        last_need: u32,
        origin: Option<Origin>,
        cx: &mut task::Context<'_>,
    ) -> State {
        if (self.past.is_some() || self.planning)
            && let Some(known) = self.known_before(slot)
        {
            return self.go_on(known);
        }
        let derivation = self.derivation(slot);
        let mut few: [Had<'_>; 12] = [None; 12];
        let had = &mut few[..derivation.specs().len()];
        for (had, need) in had.iter_mut().rev().zip(self.record.known.needs_from(last_need)) {
            *had = self.record.known.value(need.found);
        }
        match derivation.shared().zip(origin) {
            None => match derivation.start(had, cx) {
                Started::Ended(Ok(Yielded::One(value))) => State::One(value),
                other => self.go_on(begun(other, cx)),
            },
            Some((shared, origin)) => {
                let joined = shared.begin(derivation.run(had), origin);
                match joined.poll(cx) {
                    Poll::Ready(result) => self.go_on(settle(result, cx)),
                    Poll::Pending => self.go_on((State::Running, Some(Work::Joined { joined, mine: true }))),
                }
            }
        }
    }

    /// Logs what came of a derivation that was over at once, if it was run.
    pub(super) fn tell_of_one_run(&self, outcome: u32) {
        if !self.planning && self.past.is_none() {
            step(|| self.told(outcome));
        }
    }

    /// What came of a derivation, for the log.
    fn told(&self, outcome: u32) -> String {
        let known = &self.record.known;
        let key = known.ctx.entry(known.outcomes[outcome as usize].entry).key;
        let took = after(known.took(outcome));
        match known.read_outcome(outcome, 0) {
            ReadOutcome::Declined(why) => format!("{key}: declined{took}: {why}"),
            ReadOutcome::Failed(why) => format!("{key}: failed{took}: {}", why.what),
            _ => {
                let values =
                    (0..known.values_of(outcome).0 as u32).map(|choice| Found::Derived(outcome, choice));
                let values: Vec<_> = values.filter_map(|it| shown(key, known.value(it)?)).collect();
                format!("{key}: derived{took}: {}", values.join(", "))
            }
        }
    }

    /// Keeps what goes on, of what is to be the next outcome.
    fn go_on(&mut self, (state, work): (State, Option<Work>)) -> State {
        let outcome = self.record.known.outcomes.len() as u32;
        self.running.extend(work.map(|work| Run { outcome, work }));
        state
    }

    /// What a derivation is up to that is not to be run: it was run before, or we are planning.
    #[cold]
    fn known_before(&mut self, slot: u32) -> Option<(State, Option<Work>)> {
        let before = self.past.as_mut().and_then(|past| past.next(self.slots[slot as usize].id));
        if before.is_none() {
            self.past = None;
        }
        before.or_else(|| self.planning.then_some((State::WouldRun, None)))
    }

    #[inline]
    pub(super) fn took(&mut self, outcome: u32) {
        let time = self.record.known.outcomes[outcome as usize].time;
        if let (Some((started, took)), Some(runtime)) =
            (self.record.known.times.get_mut(time as usize), self.runtime)
        {
            *took = Some(runtime.now().since(*started));
        }
    }

    #[inline]
    pub(super) fn add_outcome(
        &mut self,
        slot: u32,
        state: State,
        last_need: u32,
        saw: Saw,
        started: Option<Instant>,
    ) -> u32 {
        let number = self.record.known.outcomes.len() as u32;
        let here = &mut self.slots[slot as usize];
        let next = replace(&mut here.outcomes, number);
        let time = started.map_or(NONE, |started| {
            self.record.known.times.push((started, None));
            self.record.known.times.len() as u32 - 1
        });
        self.record.known.outcomes.push(Outcome { entry: here.id, state, last_need, time, saw, next });
        number
    }

    /// If the derivation at `slot` is shared and another resolution has its outcome, or makes it of
    /// `choices`: that, for whoever `saw` the same.
    #[inline]
    pub(super) fn shared_outcome(
        &mut self,
        slot: u32,
        last_need: u32,
        choices: &[(usize, u32)],
        saw: Saw,
        cx: &mut task::Context<'_>,
    ) -> Option<u32> {
        if self.planning || !self.slots[slot as usize].shared {
            return None;
        }
        let shared = self.derivation(slot).shared()?;
        // What this resolution has, it had for other choices.
        let (ticket, origin) = shared.find(self.ctx, choices, &self.had(slot))?;
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
        self.record.known.shared.push((outcome, origin));
        if let (true, Ticket::Running(joined)) = (running, ticket) {
            self.running.push(Run { outcome, work: Work::Joined { joined, mine: false } });
        }
        Some(outcome)
    }

    /// The values that this resolution had of the derivation at `slot`.
    fn had(&self, slot: u32) -> Vec<Value> {
        let first = self.record.known.outcomes.get(self.slots[slot as usize].outcomes as usize);
        let outcomes = successors(first, |outcome| self.record.known.outcomes.get(outcome.next as usize));
        let value = |outcome: &Outcome| match &outcome.state {
            State::One(value) => Some(value.clone()),
            _ => None,
        };
        outcomes.filter_map(value).collect()
    }

    /// The slot of a binding.
    pub(super) fn slot(&mut self, id: EntryId, entry: &'a Entry) -> u32 {
        let new = self.slots.len();
        if new < SCANNED {
            if let Some(slot) = self.slots.iter().position(|slot| core::ptr::eq(slot.entry, entry)) {
                return slot as u32;
            }
        } else {
            if new == SCANNED {
                for (i, slot) in self.slots.iter().enumerate() {
                    self.index.get_or_insert(address(slot.entry), i as u32);
                }
            }
            let slot = self.index.get_or_insert(address(entry), new as u32);
            if slot != new as u32 {
                return slot;
            }
        }
        let shared = matches!(&entry.binding, Binding::Derivation(it) if it.shared().is_some());
        self.slots.push(Slot { entry, id, shared, outcomes: NONE, lookups: NONE, walker: NONE });
        new as u32
    }

    /// The slot of the next older binding.
    pub(super) fn older(&mut self, slot: u32) -> Option<u32> {
        let Slot { entry, id, .. } = self.slots[slot as usize];
        let (id, older) = self.ctx.older(id, entry)?;
        Some(self.slot(id, older))
    }
}

fn address(entry: &Entry) -> usize {
    core::ptr::from_ref(entry) as usize
}

/// Whether an outcome is not all there.
pub(super) fn is_unfinished(state: &State) -> bool {
    match state {
        State::Running => true,
        State::Many(many) => many.open,
        _ => false,
    }
}

/// What a derivation that was started is up to, and what goes on.
pub(super) fn begun(started: Started, cx: &mut task::Context<'_>) -> (State, Option<Work>) {
    match started {
        Started::Ended(result) => settle(result, cx),
        Started::Running(future) => (State::Running, Some(Work::Future(future))),
    }
}

/// What a result means, and what goes on after it.
fn settle(result: Result<Yielded, Halt>, cx: &mut task::Context<'_>) -> (State, Option<Work>) {
    let state = match result {
        Ok(Yielded::One(value)) => State::One(value),
        Ok(Yielded::Many(values)) => State::many(values.into_iter().map(Ok).collect(), false),
        Ok(Yielded::Stream(mut stream)) => {
            let state = drain(Vec::new(), &mut stream, cx);
            let more = is_unfinished(&state).then_some(Work::Stream(stream));
            return (state, more);
        }
        Err(Halt::Decline(why)) => State::Declined(why),
        Err(Halt::Fail(error)) => State::Failed(error),
    };
    (state, None)
}

/// Takes the values that are there.
fn drain(
    mut values: Vec<Result<Value, Stop>>,
    stream: &mut ErasedStream,
    cx: &mut task::Context<'_>,
) -> State {
    loop {
        match stream.as_mut().poll_next(cx) {
            Poll::Ready(Some(value)) => values.push(value),
            Poll::Ready(None) => return State::many(values, false),
            // Nothing yet: whoever asks for the first value waits.
            Poll::Pending => return State::many(values, true),
        }
    }
}

impl State {
    fn many(values: Vec<Result<Value, Stop>>, open: bool) -> Self {
        if values.is_empty() && !open {
            return Self::Declined("it gave no value".into());
        }
        Self::Many(Box::new(Values { values, open }))
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
