//! The walk: how values are had from derivations, without recursion.
//!
//! A walk evaluates one root under one set of choices. It goes down through lookups and
//! derivations on a stack of its own, and blocks only on a derivation that runs, which in turn
//! waits for no walk: a derivation is started when its arguments are had. What a derivation ended
//! with is remembered together with the choices that it saw, and is reused where those are equal.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::replace;
use core::task::{self, Poll};

use super::memo::{Choice, Found, Lookup, Memo, NONE, Need, Saw, State, is_unfinished};
use crate::Instant;
use crate::KeyRef;
use crate::context::{Binding, Entry, EntryId};
use crate::derive::{ArgSpec, Stop};
use crate::index::Index;
use crate::protocol::Value;

/// The evaluation of one root.
pub(super) struct Walk {
    id: u32,
    next: Next,
    frames: Vec<Frame>,
    /// The choices met, in order; the first `given` of them were given.
    pub(super) choices: Vec<Choice>,
    pub(super) given: usize,
    /// What the root ended with.
    pub(super) root: Need,
    /// The root's own outcome, if it is a derivation.
    pub(super) outcome: Option<u32>,
    /// The slots on its stack of which another walk is the `walker`: 1 while they are on it.
    beside: Index,
}

/// Looks for the first binding of a key that yields, and gathers the arguments of the one that it is
/// at.
struct Frame {
    /// The binding that it is at.
    slot: u32,
    /// The newest binding of the key; `NONE` if only this one is wanted, which is the root.
    newest: u32,
    /// The last step of the lookup, and what it saw so far.
    examined: u32,
    examined_saw: Saw,
    /// The next argument, the last that was had, and what they saw.
    arg: u32,
    last_need: u32,
    saw: Saw,
    /// When planning: one of the arguments may end the derivation before the rest is looked at.
    may_stop: bool,
}

/// What a walk does next. (Ending a derivation right where an argument fails would recurse, as deep as
/// the chain is long.)
#[derive(Clone, Copy)]
enum Next {
    /// Look a key up that has no frame yet.
    LookUp(KeyRef),
    /// Evaluate the binding that the frame on top is at.
    Enter,
    /// Have its next argument.
    Gather,
    /// Take this outcome of it, once it is there.
    Await(u32),
    Done,
}

impl Walk {
    /// Of the root `entry`, a derivation of `key`, with these choices given.
    pub(super) fn of<'a>(
        memo: &mut Memo<'a>,
        id: u32,
        (entry_id, entry): (EntryId, &'a Entry),
        choices: Vec<Choice>,
    ) -> Self {
        let mut walk = Self::new(id, entry.key, Next::Enter, choices);
        walk.frames.push(Frame::new(memo.slot(entry_id, entry), NONE));
        walk
    }

    /// Of a lookup of `key`.
    pub(super) fn of_key(id: u32, key: KeyRef) -> Self {
        Self::new(id, key, Next::LookUp(key), Vec::new())
    }

    fn new(id: u32, key: KeyRef, next: Next, choices: Vec<Choice>) -> Self {
        Self {
            id,
            next,
            frames: Vec::with_capacity(4),
            given: choices.len(),
            choices,
            root: Need { key, found: Found::Absent, lookup: NONE, before: NONE },
            outcome: None,
            beside: Index::default(),
        }
    }

    /// Goes on as far as it can. Ready when `root` is had, or can't be.
    pub(super) fn poll(&mut self, memo: &mut Memo<'_>, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut next = self.next;
        loop {
            next = match next {
                Next::LookUp(key) => self.look_up(memo, key),
                Next::Enter => self.enter(memo, cx),
                Next::Gather => self.gather(memo, cx),
                Next::Await(outcome) if memo.record.known.is_open_before(outcome, self.choice(outcome)) => {
                    self.next = next;
                    return Poll::Pending;
                }
                Next::Await(outcome) => match memo.record.known.outcomes[outcome as usize].state {
                    State::Retry => Next::Enter,
                    _ => self.ended(memo, outcome),
                },
                Next::Done => {
                    self.next = next;
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Ends without what it waits for, as if that had failed: reports tell the way to it. It is remembered so: not before
    /// all is over.
    pub(super) fn give_up(&mut self, memo: &mut Memo<'_>) {
        let Next::Await(unfinished) = self.next else { return };
        self.next = self.take(memo, unfinished, Found::Failed(unfinished, NONE), NONE);
        while let Next::Await(above) = self.next {
            self.next = self.ended(memo, above);
        }
    }

    /// Evaluates the binding that the frame on top is at: takes the value, or has an outcome from
    /// memory, by waiting, or by gathering arguments.
    fn enter(&mut self, memo: &mut Memo<'_>, cx: &mut task::Context<'_>) -> Next {
        let Some(frame) = self.frames.last_mut() else { return Next::Done };
        let slot = frame.slot;
        (frame.arg, frame.last_need, frame.saw, frame.may_stop) = (0, NONE, NONE, false);
        let here = &memo.slots[slot as usize];
        if matches!(here.entry.binding, Binding::Value(_)) {
            return self.end_lookup(memo, Found::Value(here.id));
        }
        if self.is_on_stack(memo, slot) {
            return self.cycle(memo, slot);
        }
        // Of what is being made of choices this walk has to see them itself, to fork over them.
        let known = self.remembered(memo, slot).or_else(|| memo.shared_outcome(slot, NONE, &[], NONE, cx));
        if let Some(outcome) = known {
            return Next::Await(outcome);
        }
        self.set_on_stack(memo, slot);
        Next::Gather
    }

    /// Has the arguments of the derivation on top, and runs it if it has all.
    fn gather(&mut self, memo: &mut Memo<'_>, cx: &mut task::Context<'_>) -> Next {
        let Some(frame) = self.frames.last_mut() else { return Next::Done };
        let args = memo.derivation(frame.slot).specs();
        while let Some(arg) = args.get(frame.arg as usize) {
            let found = match memo.ctx.newest(arg.key) {
                None => Found::Absent,
                Some((id, Entry { binding: Binding::Value(_), .. })) => Found::Value(id),
                Some(derivation) => return self.look_up_derived(memo, derivation),
            };
            if let Some(end) = frame.take(memo, arg, found, NONE, NONE) {
                return self.end(memo, end);
            }
        }
        self.run(memo, cx)
    }

    fn look_up(&mut self, memo: &mut Memo<'_>, key: KeyRef) -> Next {
        match memo.ctx.newest(key) {
            None => self.found(memo, Found::Absent, NONE, NONE),
            Some((id, Entry { binding: Binding::Value(_), .. })) => {
                self.found(memo, Found::Value(id), NONE, NONE)
            }
            Some(derivation) => self.look_up_derived(memo, derivation),
        }
    }

    /// Looks up a key whose newest binding is this derivation.
    #[inline]
    fn look_up_derived<'a>(&mut self, memo: &mut Memo<'a>, (id, entry): (EntryId, &'a Entry)) -> Next {
        let slot = memo.slot(id, entry);
        let mut lookup = memo.slots[slot as usize].lookups;
        while let Some(&Lookup { found, saw, next, .. }) = memo.record.known.lookups.get(lookup as usize) {
            if self.agrees(memo, saw) {
                self.meet(memo, saw);
                return self.found(memo, found, lookup, saw);
            }
            lookup = next;
        }
        self.frames.push(Frame::new(slot, slot));
        Next::Enter
    }

    /// All arguments are had: an outcome of the same choices, or a run.
    fn run(&mut self, memo: &mut Memo<'_>, cx: &mut task::Context<'_>) -> Next {
        let Some(&Frame { slot, last_need, saw, .. }) = self.frames.last() else { return Next::Done };
        // Another walk, or another resolution, may have started it since this one entered.
        let mut known = self.remembered(memo, slot);
        let mut origin = None;
        if known.is_none() && memo.slots[slot as usize].shared {
            let made_from = memo.record.known.origin(last_need, memo.record.known.choices(saw));
            known = memo.shared_outcome(slot, last_need, &made_from.choices, saw, cx);
            origin = Some(made_from);
        }
        if let Some(outcome) = known {
            self.clear_on_stack(memo, slot);
            return Next::Await(outcome);
        }
        let started = memo.runtime.map(|runtime| runtime.now());
        let state = memo.start(slot, last_need, origin, cx);
        let (is_one, goes_on) = (matches!(state, State::One(_)), is_unfinished(&state));
        let outcome = self.end_at(memo, state, started);
        if !goes_on {
            memo.took(outcome);
        }
        if is_one {
            return self.take(memo, outcome, Found::Derived(outcome, 0), saw);
        }
        if !goes_on {
            memo.tell_of_one_run(outcome);
        }
        Next::Await(outcome)
    }

    /// The outcome of the derivation at `slot` that holds for this walk.
    fn remembered(&self, memo: &Memo<'_>, slot: u32) -> Option<u32> {
        let mut next = memo.slots[slot as usize].outcomes;
        while let Some(outcome) = memo.record.known.outcomes.get(next as usize) {
            if self.agrees(memo, outcome.saw) {
                return Some(next);
            }
            next = outcome.next;
        }
        None
    }

    /// The derivation on top ends, with what was seen so far.
    fn end(&mut self, memo: &mut Memo<'_>, state: State) -> Next {
        Next::Await(self.end_at(memo, state, None))
    }

    #[inline]
    fn end_at(&mut self, memo: &mut Memo<'_>, state: State, started: Option<Instant>) -> u32 {
        let Some(&Frame { slot, last_need, saw, .. }) = self.frames.last() else {
            unreachable!("called for the derivation on top of the stack")
        };
        self.clear_on_stack(memo, slot);
        // All on the stack will end: what a deep one leaves grows once.
        memo.record.known.outcomes.reserve(self.frames.len());
        memo.record.known.needs.reserve(self.frames.len());
        memo.add_outcome(slot, state, last_need, saw, started)
    }

    /// An outcome is there.
    fn ended(&mut self, memo: &mut Memo<'_>, outcome: u32) -> Next {
        let mut saw = memo.record.known.outcomes[outcome as usize].saw;
        self.meet(memo, saw);
        let found = match &memo.record.known.outcomes[outcome as usize].state {
            State::One(_) => Found::Derived(outcome, 0),
            State::Many(many) => {
                let index = self.choice(outcome);
                let found = match many.values.get(index as usize) {
                    Some(Ok(_)) => Found::Derived(outcome, index),
                    Some(Err(Stop::Fail(_))) => Found::Failed(outcome, index),
                    Some(Err(Stop::Decline(_))) | None => Found::Absent,
                };
                if many.open || many.values.len() > 1 {
                    let own = memo.record.known.saw([Choice { outcome, index }].into());
                    self.meet(memo, own);
                    saw = memo.record.known.both(saw, own);
                }
                found
            }
            State::Declined(_) | State::Unequal | State::Missing => Found::Absent,
            State::Failed(_) | State::NeedFailed | State::Cycle(_) => Found::Failed(outcome, NONE),
            State::WouldRun => Found::Maybe(outcome),
            State::Running | State::Retry => unreachable!("waited for until it ended"),
        };
        self.take(memo, outcome, found, saw)
    }

    /// What an outcome means is found: the lookup on top takes it, or goes on to the next older
    /// binding.
    fn take(&mut self, memo: &mut Memo<'_>, outcome: u32, found: Found, saw: Saw) -> Next {
        let Some(frame) = self.frames.last_mut() else { return Next::Done };
        if frame.newest == NONE {
            self.frames.pop();
            (self.root.found, self.outcome) = (found, Some(outcome));
            return Next::Done;
        }
        frame.examined_saw = memo.record.known.both(frame.examined_saw, saw);
        if found != Found::Absent && frame.examined == NONE {
            // Nothing but this one was looked at: the outcome says it all.
            let saw = frame.examined_saw;
            self.frames.pop();
            return self.found(memo, found, NONE, saw);
        }
        let step = Lookup { examined: outcome, before: frame.examined, found, saw: NONE, next: NONE };
        frame.examined = memo.record.known.lookups.len() as u32;
        memo.record.known.lookups.push(step);
        if found != Found::Absent {
            return self.end_lookup(memo, found);
        }
        match memo.older(frame.slot) {
            Some(older) => {
                frame.slot = older;
                Next::Enter
            }
            None => self.end_lookup(memo, Found::Absent),
        }
    }

    /// The lookup on top, of several bindings, is done.
    fn end_lookup(&mut self, memo: &mut Memo<'_>, found: Found) -> Next {
        let Some(Frame { newest, examined, examined_saw, .. }) = self.frames.pop() else { return Next::Done };
        let last = &mut memo.record.known.lookups[examined as usize];
        let next = replace(&mut memo.slots[newest as usize].lookups, examined);
        (last.found, last.saw, last.next) = (found, examined_saw, next);
        self.found(memo, found, examined, examined_saw)
    }

    /// A lookup is done: the derivation that asked takes the argument, or ends.
    fn found(&mut self, memo: &mut Memo<'_>, found: Found, lookup: u32, saw: Saw) -> Next {
        let Some(frame) = self.frames.last_mut() else {
            (self.root.found, self.root.lookup) = (found, lookup);
            return Next::Done;
        };
        let arg = &memo.derivation(frame.slot).specs()[frame.arg as usize];
        match frame.take(memo, arg, found, lookup, saw) {
            Some(end) => self.end(memo, end),
            None => Next::Gather,
        }
    }

    /// `slot`, to which the frame on top came again, needs itself: all derivations from there to the
    /// top of the stack fail.
    fn cycle(&mut self, memo: &mut Memo<'_>, slot: u32) -> Next {
        if self.may_not_come_to(slot) {
            return Next::Await(memo.add_outcome(slot, State::WouldRun, NONE, NONE, None));
        }
        let Some(again) = self.frames.pop() else { return Next::Done };
        let start = self.frames.iter().rposition(|frame| frame.slot == slot).unwrap_or(0);
        // What was seen on the way to each derivation, at twice its place on the cycle, and then by it.
        let mut seen = Vec::new();
        let mut path = Vec::new();
        for (i, frame) in self.frames[start..].iter().enumerate() {
            let before = if i == 0 { again.examined_saw } else { frame.examined_saw };
            seen.extend(
                [(2 * i, before), (2 * i + 1, frame.saw)].into_iter().filter(|(_, saw)| *saw != NONE),
            );
            path.push(memo.slots[frame.slot as usize].entry.key);
        }
        // Wherever it was entered, it is the same cycle.
        let first = (0..path.len()).min_by_key(|&i| path[i].name()).unwrap_or(0);
        path.rotate_left(first);
        path.push(path[0]);
        let path: Arc<[KeyRef]> = path.into();
        let (mut first, mut saw) = (usize::MAX, NONE);
        while let Some(i) = self.frames.len().checked_sub(start + 1) {
            // Each in the order in which it would see it itself, in which forks will vary it, whichever was
            // asked first.
            let own = seen.partition_point(|(at, _)| *at <= 2 * i);
            if own != first {
                let in_order = seen[own..].iter().chain(&seen[..own]);
                saw = in_order.fold(NONE, |all, (_, saw)| memo.record.known.both(all, *saw));
                first = own;
            }
            let frame = &mut self.frames[start + i];
            frame.saw = saw;
            let bottom = frame.slot == slot;
            let outcome = self.end_at(memo, State::Cycle(path.clone()), None);
            if bottom {
                return Next::Await(outcome);
            }
            self.frames.pop();
        }
        unreachable!("the derivation was found on the stack")
    }

    /// Only when planning: whether the cycle that `slot` closes stands behind an argument that may
    /// be absent yet, and end a derivation on it before the cycle is reached.
    fn may_not_come_to(&self, slot: u32) -> bool {
        let mut frames = self.frames.iter().rev().skip(1);
        frames.find(|frame| frame.may_stop || frame.slot == slot).is_some_and(|frame| frame.may_stop)
    }

    fn is_on_stack(&self, memo: &Memo<'_>, slot: u32) -> bool {
        memo.slots[slot as usize].walker == self.id || self.beside.get(slot as usize + 1) == Some(1)
    }

    fn set_on_stack(&mut self, memo: &mut Memo<'_>, slot: u32) {
        let walker = &mut memo.slots[slot as usize].walker;
        if *walker == NONE {
            *walker = self.id;
        } else {
            self.beside.insert(slot as usize + 1, 1);
        }
    }

    fn clear_on_stack(&mut self, memo: &mut Memo<'_>, slot: u32) {
        let walker = &mut memo.slots[slot as usize].walker;
        if *walker == self.id {
            *walker = NONE;
        } else {
            self.beside.insert(slot as usize + 1, 0);
        }
    }

    /// Whether an outcome that saw these choices holds for this walk. A choice not met yet will be
    /// the first.
    fn agrees(&self, memo: &Memo<'_>, saw: Saw) -> bool {
        saw == NONE
            || memo.record.known.choices(saw).iter().all(|seen| self.choice(seen.outcome) == seen.index)
    }

    fn choice(&self, outcome: u32) -> u32 {
        self.choices.iter().find(|choice| choice.outcome == outcome).map_or(0, |choice| choice.index)
    }

    /// Notes the choices that were not met before: all of them the first.
    fn meet(&mut self, memo: &Memo<'_>, saw: Saw) {
        if saw == NONE {
            return;
        }
        for seen in memo.record.known.choices(saw) {
            if !self.choices.iter().any(|choice| choice.outcome == seen.outcome) {
                self.choices.push(*seen);
            }
        }
    }
}

impl Frame {
    fn new(slot: u32, newest: u32) -> Self {
        Self {
            slot,
            newest,
            examined: NONE,
            examined_saw: NONE,
            arg: 0,
            last_need: NONE,
            saw: NONE,
            may_stop: false,
        }
    }

    /// Takes what was found for the next argument. What the derivation ends with, if it can't do with
    /// that.
    fn take(
        &mut self,
        memo: &mut Memo<'_>,
        arg: &ArgSpec,
        found: Found,
        lookup: u32,
        saw: Saw,
    ) -> Option<State> {
        let need = Need { key: arg.key, found, lookup, before: self.last_need };
        self.last_need = memo.record.known.needs.len() as u32;
        memo.record.known.needs.push(need);
        self.saw = memo.record.known.both(self.saw, saw);
        match found {
            Found::Absent if !arg.optional => return Some(State::Missing),
            Found::Value(_) | Found::Derived(..) if arg.guard => {
                let accepts = |value: &Value| memo.derivation(self.slot).accepts(self.arg as usize, &**value);
                if !memo.record.known.value(found).is_some_and(accepts) {
                    return Some(State::Unequal);
                }
            }
            // Planning: an argument before may end it first.
            Found::Failed(..) if self.may_stop => return Some(State::WouldRun),
            Found::Failed(..) => return Some(State::NeedFailed),
            Found::Maybe(_) => self.may_stop |= !arg.optional,
            _ => {}
        }
        self.arg += 1;
        None
    }
}
