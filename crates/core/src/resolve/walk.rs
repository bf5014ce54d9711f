//! The walk: how values are had from derivations, without recursion.
//!
//! A walk evaluates one root under one set of choices. It goes down through lookups and
//! derivations on a stack of its own, and blocks only on a derivation that runs, which in turn
//! waits for no walk: a derivation is started when its arguments are had. What a derivation ended
//! with is remembered together with the choices that it saw, and is reused where those are equal.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::task::{self, Poll};

use super::memo::{Choice, Examined, Found, Lookup, Memo, NONE, Need, Run, Saw, Slot, State};
use crate::context::{Binding, Cursor, EntryId};
use crate::derive::{ArgSpec, Stop};
use crate::index::Index;
use crate::protocol::Value;
use crate::{Instant, KeyRef};

/// The evaluation of one root.
pub(super) struct Walk {
    id: u32,
    frames: Vec<Frame>,
    /// The choices met, in order; the first `given` of them were given.
    pub(super) choices: Vec<Choice>,
    pub(super) given: usize,
    /// What the root ended with.
    pub(super) root: Need,
    /// The root's own outcome, if it is a derivation.
    pub(super) outcome: Option<u32>,
    /// The outcome that it waits for.
    blocked: u32,
    /// The derivation that is its root, until it is entered.
    entrance: u32,
    /// The slots on its stack of which another walk is the `walker`: 1 while they are on it.
    beside: Index,
}

enum Frame {
    /// Looks for the first binding of a key that yields.
    Lookup { key: KeyRef, newest: u32, at: At, saw: Vec<u32>, examined: Examined },
    /// Gathers the arguments of a derivation. When planning, one of those had already `may_stop` it.
    Derive { slot: u32, arg: Next, wants: Option<ArgSpec>, saw: Vec<u32>, last_need: u32, may_stop: bool },
}

/// What a derivation that gathers its arguments does next. (Ending it right where an argument
/// fails would recurse, as deep as the chain is long.)
#[derive(Clone, Copy)]
enum Next {
    Arg(u32),
    End(Short),
}

/// Why a derivation does not get to run.
#[derive(Clone, Copy)]
enum Short {
    Missing,
    Unequal,
    NeedFailed,
}

/// Which binding of a key is next.
#[derive(Clone, Copy)]
enum At {
    Slot(u32),
    Below(u32),
}

impl Walk {
    /// Of the root `entry`, a derivation of `key`, with these choices given.
    pub(super) fn of(memo: &mut Memo, id: u32, key: KeyRef, entry: EntryId, choices: Vec<Choice>) -> Self {
        let mut walk = Self::new(id, key, choices);
        let slot = memo.slot_of_root(key, entry);
        walk.entrance = slot;
        walk
    }

    /// Of a lookup of `key`.
    pub(super) fn of_key(memo: &mut Memo, id: u32, key: KeyRef) -> Self {
        let mut walk = Self::new(id, key, Vec::new());
        walk.look_up(memo, key);
        walk
    }

    fn new(id: u32, key: KeyRef, choices: Vec<Choice>) -> Self {
        Self {
            id,
            frames: Vec::new(),
            given: choices.len(),
            choices,
            root: Need { key, found: Found::Absent, lookup: NONE, before: NONE },
            outcome: None,
            blocked: NONE,
            entrance: NONE,
            beside: Index::default(),
        }
    }

    /// Goes on as far as it can. Ready when `root` is had, or can't be.
    pub(super) fn poll(&mut self, memo: &mut Memo, cx: &mut task::Context<'_>) -> Poll<()> {
        if self.blocked != NONE {
            let outcome = self.blocked;
            if memo.known.is_open_before(outcome, self.choice(outcome)) {
                return Poll::Pending;
            }
            self.blocked = NONE;
            match memo.known.outcomes[outcome as usize].state {
                State::Retry => self.enter(memo, memo.known.outcomes[outcome as usize].slot, cx),
                _ => self.ended(memo, outcome),
            }
        }
        if self.entrance != NONE {
            let slot = core::mem::replace(&mut self.entrance, NONE);
            self.enter(memo, slot, cx);
        }
        loop {
            if self.blocked != NONE {
                return Poll::Pending;
            }
            let Some(frame) = self.frames.last() else { return Poll::Ready(()) };
            match *frame {
                Frame::Derive { slot, arg: Next::Arg(arg), .. } => self.next_argument(memo, slot, arg, cx),
                // Planning: an argument before the one that fails may end it first.
                Frame::Derive { arg: Next::End(Short::NeedFailed), may_stop: true, .. } => {
                    self.end_derivation(memo, State::WouldRun);
                }
                Frame::Derive { arg: Next::End(why), .. } => {
                    self.end_derivation(
                        memo,
                        match why {
                            Short::Missing => State::Missing,
                            Short::Unequal => State::Unequal,
                            Short::NeedFailed => State::NeedFailed,
                        },
                    );
                }
                Frame::Lookup { at, .. } => self.next_binding(memo, at, cx),
            }
        }
    }

    /// The argument at `arg` of the derivation on top, or, if it has all, the derivation itself.
    fn next_argument(&mut self, memo: &mut Memo, slot: u32, arg: u32, cx: &mut task::Context<'_>) {
        let Some(spec) = memo.derivation(slot).spec(arg as usize) else { return self.run(memo, slot, cx) };
        if let Some(Frame::Derive { wants, .. }) = self.frames.last_mut() {
            *wants = Some(spec);
        }
        self.look_up(memo, spec.key);
    }

    fn look_up(&mut self, memo: &mut Memo, key: KeyRef) {
        let Some((entry, bound, below)) = memo.known.ctx.next(key, Cursor::Node(0)) else {
            return self.found(memo, key, Found::Absent, NONE, &[]);
        };
        if let Binding::Value(_) = bound.binding {
            return self.found(memo, key, Found::Value(entry), NONE, &[]);
        }
        let newest = memo.newest_slot(key, entry, below);
        let mut next = memo.slots[newest as usize].lookups;
        while next != NONE {
            let lookup = &memo.known.lookups[next as usize];
            if self.agrees(&lookup.saw) {
                let found = lookup.found;
                let saw = self.meet(&lookup.saw);
                return self.found(memo, key, found, next, &saw);
            }
            next = lookup.next;
        }
        self.frames.push(Frame::Lookup {
            key,
            newest,
            at: At::Slot(newest),
            saw: Vec::new(),
            examined: Examined::new(),
        });
    }

    /// Looks at the next binding of the lookup on top.
    fn next_binding(&mut self, memo: &mut Memo, at: At, cx: &mut task::Context<'_>) {
        let slot = match at {
            At::Slot(slot) => Some(slot),
            At::Below(slot) => memo.older(slot, self.lookup_key()),
        };
        let Some(slot) = slot else { return self.end_lookup(memo, Found::Absent) };
        if let Some(Frame::Lookup { at, .. }) = self.frames.last_mut() {
            *at = At::Below(slot);
        }
        let Slot { entry, derivation, .. } = &memo.slots[slot as usize];
        match derivation {
            Some(_) => self.enter(memo, slot, cx),
            None => self.end_lookup(memo, Found::Value(*entry)),
        }
    }

    fn lookup_key(&self) -> KeyRef {
        match self.frames.last() {
            Some(Frame::Lookup { key, .. }) => *key,
            _ => self.root.key,
        }
    }

    /// Only when planning: whether the cycle that `slot` closes stands behind an argument that may
    /// be absent yet, and end a derivation on it before the cycle is reached.
    fn may_not_come_to(&self, slot: u32) -> bool {
        for frame in self.frames.iter().rev() {
            match frame {
                Frame::Derive { may_stop: true, .. } => return true,
                Frame::Derive { slot: here, .. } if *here == slot => return false,
                _ => {}
            }
        }
        false
    }

    /// Evaluates the derivation at `slot`: from memory, by waiting, or by gathering its arguments.
    fn enter(&mut self, memo: &mut Memo, slot: u32, cx: &mut task::Context<'_>) {
        if self.is_on_stack(memo, slot) {
            if self.may_not_come_to(slot) {
                let outcome = memo.add_outcome(slot, State::WouldRun, NONE, None, None);
                return self.ended(memo, outcome);
            }
            return self.cycle(memo, slot);
        }
        // Of what is being made of choices this walk has to see them itself, to fork over them.
        let known = self.remembered(memo, slot).or_else(|| memo.shared_outcome(slot, NONE, &[], None, cx));
        if let Some(outcome) = known {
            return self.ended_or_wait(memo, outcome);
        }
        self.set_on_stack(memo, slot);
        self.frames.push(Frame::Derive {
            slot,
            arg: Next::Arg(0),
            wants: None,
            saw: Vec::new(),
            last_need: NONE,
            may_stop: false,
        });
    }

    /// All arguments are had: an outcome of the same choices, or a run.
    fn run(&mut self, memo: &mut Memo, slot: u32, cx: &mut task::Context<'_>) {
        let Some(Frame::Derive { last_need, saw, .. }) = self.frames.last() else { return };
        let last_need = *last_need;
        if memo.planning {
            return self.end_derivation(memo, State::WouldRun);
        }
        // Another walk, or another resolution, may have started it since this one entered.
        let mut known = self.remembered(memo, slot);
        let mut origin = None;
        if known.is_none() && memo.derivation(slot).shared().is_some() {
            let saw = self.choices_at(saw);
            let made_from = memo.known.origin(last_need, saw.as_deref().unwrap_or_default());
            known = memo.shared_outcome(slot, last_need, &made_from.choices, saw, cx);
            origin = Some(made_from);
        }
        if let Some(outcome) = known {
            self.clear_on_stack(memo, slot);
            self.frames.pop();
            return self.ended_or_wait(memo, outcome);
        }
        let started = memo.runtime.as_ref().map(|runtime| runtime.now());
        let mut work = memo.start(slot, last_need, origin);
        let state = match work.poll(cx) {
            Poll::Ready(result) => memo.settle(result, &mut work, cx),
            Poll::Pending => State::Running,
        };
        let unfinished = matches!(state, State::Running | State::Many { open: true, .. });
        let outcome = self.end_derivation_at(memo, state, started);
        if unfinished {
            memo.running.get_mut().push(Run { outcome, work });
        } else {
            memo.took(outcome);
        }
        self.ended_or_wait(memo, outcome);
    }

    /// The outcome of the derivation at `slot` that holds for this walk.
    fn remembered(&self, memo: &Memo, slot: u32) -> Option<u32> {
        let mut next = memo.slots[slot as usize].outcomes;
        while next != NONE {
            let outcome = &memo.known.outcomes[next as usize];
            if self.agrees(&outcome.saw) {
                return Some(next);
            }
            next = outcome.next;
        }
        None
    }

    fn ended_or_wait(&mut self, memo: &mut Memo, outcome: u32) {
        if memo.known.is_open_before(outcome, self.choice(outcome)) {
            self.blocked = outcome;
        } else {
            self.ended(memo, outcome);
        }
    }

    /// The derivation on top ends, with what was seen so far.
    fn end_derivation(&mut self, memo: &mut Memo, state: State) {
        let outcome = self.end_derivation_at(memo, state, None);
        self.ended(memo, outcome);
    }

    fn end_derivation_at(&mut self, memo: &mut Memo, state: State, started: Option<Instant>) -> u32 {
        let Some(Frame::Derive { slot, saw, last_need, .. }) = self.frames.pop() else {
            unreachable!("called for the derivation on top of the stack")
        };
        self.clear_on_stack(memo, slot);
        memo.add_outcome(slot, state, last_need, self.choices_at(&saw), started)
    }

    /// An outcome is there: its lookup takes it, or goes on to the next older binding.
    fn ended(&mut self, memo: &mut Memo, outcome: u32) {
        let mut saw = self.meet(&memo.known.outcomes[outcome as usize].saw);
        let found = match &memo.known.outcomes[outcome as usize].state {
            State::One(_) => Found::Derived(outcome, 0),
            State::Many { values, open } => {
                let mut index = 0;
                if *open || values.len() > 1 {
                    let position = self.position(outcome);
                    index = self.choices[position as usize].index;
                    if !saw.contains(&position) {
                        saw.push(position);
                    }
                }
                match values.get(index as usize) {
                    Some(Ok(_)) => Found::Derived(outcome, index),
                    Some(Err(Stop::Fail(_))) => Found::Failed(outcome, index),
                    Some(Err(Stop::Decline(_))) | None => Found::Absent,
                }
            }
            State::Declined(_) | State::Unequal | State::Missing => Found::Absent,
            State::Failed(_) | State::NeedFailed | State::Cycle(_) => Found::Failed(outcome, NONE),
            State::WouldRun => Found::Maybe(outcome),
            State::Running | State::Retry => unreachable!("waited for until it ended"),
        };
        match self.frames.last_mut() {
            Some(Frame::Lookup { saw: all, examined, .. }) => {
                examined.push(outcome);
                add(all, &saw);
                if found != Found::Absent {
                    self.end_lookup(memo, found);
                }
            }
            Some(Frame::Derive { .. }) => unreachable!("derivations are entered from lookups"),
            None => {
                self.root.found = found;
                self.outcome = Some(outcome);
            }
        }
    }

    fn end_lookup(&mut self, memo: &mut Memo, found: Found) {
        let Some(Frame::Lookup { key, newest, saw, examined, .. }) = self.frames.pop() else {
            unreachable!("called for the lookup on top of the stack")
        };
        let lookup = memo.known.lookups.len() as u32;
        let next = core::mem::replace(&mut memo.slots[newest as usize].lookups, lookup);
        memo.known.lookups.push(Lookup { found, examined, saw: self.choices_at(&saw), next });
        self.found(memo, key, found, lookup, &saw);
    }

    /// A lookup is done: the derivation that asked takes the argument, or is to end.
    fn found(&mut self, memo: &mut Memo, key: KeyRef, found: Found, lookup: u32, saw: &[u32]) {
        let Some(Frame::Derive { slot, arg: next, wants, saw: all, last_need, may_stop }) =
            self.frames.last_mut()
        else {
            self.root = Need { key, found, lookup, before: NONE };
            return;
        };
        add(all, saw);
        memo.known.needs.push(Need { key, found, lookup, before: *last_need });
        *last_need = memo.known.needs.len() as u32 - 1;
        let (Next::Arg(arg), Some(spec)) = (*next, *wants) else {
            unreachable!("an ended derivation looks nothing up")
        };
        let accepts = |value: &Value| memo.derivation(*slot).accepts(arg as usize, &**value);
        let accepted = || memo.known.value(found).is_some_and(accepts);
        *next = match found {
            Found::Failed(..) => Next::End(Short::NeedFailed),
            Found::Absent if !spec.optional => Next::End(Short::Missing),
            Found::Value(_) | Found::Derived(..) if spec.guard && !accepted() => Next::End(Short::Unequal),
            _ => {
                *may_stop |= matches!(found, Found::Maybe(_)) && !spec.optional;
                Next::Arg(arg + 1)
            }
        };
    }

    /// `slot` needs itself: all derivations from it to the top of the stack fail.
    fn cycle(&mut self, memo: &mut Memo, slot: u32) {
        let mut start = self.frames.len();
        let mut path = Vec::new();
        let mut saw = Vec::new();
        loop {
            start -= 1;
            match &self.frames[start] {
                Frame::Derive { slot: here, saw: seen, .. } => {
                    path.push(memo.known.ctx.entry(memo.slots[*here as usize].entry).key);
                    add(&mut saw, seen);
                    if *here == slot {
                        break;
                    }
                }
                Frame::Lookup { saw: seen, .. } => add(&mut saw, seen),
            }
        }
        path.reverse();
        // Wherever it was entered, it is the same cycle.
        let first = (0..path.len()).min_by_key(|&i| path[i].name()).unwrap_or(0);
        path.rotate_left(first);
        path.push(path[0]);
        let path: Arc<[KeyRef]> = path.into();
        loop {
            match self.frames.last_mut() {
                Some(Frame::Derive { slot: here, saw: seen, .. }) => {
                    let bottom = *here == slot;
                    *seen = saw.clone();
                    let outcome = self.end_derivation_at(memo, State::Cycle(path.clone()), None);
                    if bottom {
                        return self.ended(memo, outcome);
                    }
                }
                Some(Frame::Lookup { .. }) => drop(self.frames.pop()),
                None => unreachable!("the derivation was found on the stack"),
            }
        }
    }

    fn is_on_stack(&self, memo: &Memo, slot: u32) -> bool {
        memo.slots[slot as usize].walker == self.id || self.beside.get(slot as usize + 1) == Some(1)
    }

    fn set_on_stack(&mut self, memo: &mut Memo, slot: u32) {
        let walker = &mut memo.slots[slot as usize].walker;
        if *walker == NONE {
            *walker = self.id;
        } else {
            self.beside.insert(slot as usize + 1, 1);
        }
    }

    fn clear_on_stack(&mut self, memo: &mut Memo, slot: u32) {
        let walker = &mut memo.slots[slot as usize].walker;
        if *walker == self.id {
            *walker = NONE;
        } else {
            self.beside.insert(slot as usize + 1, 0);
        }
    }

    /// Whether an outcome that saw these choices holds for this walk. A choice not met yet will be
    /// the first.
    fn agrees(&self, saw: &Saw) -> bool {
        saw.iter().flatten().all(|seen| self.choice(seen.outcome) == seen.index)
    }

    fn choice(&self, outcome: u32) -> u32 {
        self.choices.iter().find(|choice| choice.outcome == outcome).map_or(0, |choice| choice.index)
    }

    /// Where the choice for `outcome` stands among those met; met now if it was not before.
    fn position(&mut self, outcome: u32) -> u32 {
        let met = self.choices.iter().position(|choice| choice.outcome == outcome);
        met.unwrap_or_else(|| {
            self.choices.push(Choice { outcome, index: 0 });
            self.choices.len() - 1
        }) as u32
    }

    fn choices_at(&self, positions: &[u32]) -> Saw {
        let choices = || positions.iter().map(|&position| self.choices[position as usize]).collect();
        (!positions.is_empty()).then(choices)
    }

    fn meet(&mut self, saw: &Saw) -> Vec<u32> {
        saw.iter().flatten().map(|seen| self.position(seen.outcome)).collect()
    }
}

/// Adds the positions that are new, in order.
fn add(all: &mut Vec<u32>, saw: &[u32]) {
    for position in saw {
        if !all.contains(position) {
            all.push(*position);
        }
    }
}
