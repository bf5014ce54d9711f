//! Whose turn comes next of a root, which has as many candidates as there are choices on the way to it.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::task;

use super::super::candidate::{AttemptState, Forks, Level, MAX_FORKS, Turn};
use super::super::memo::{Choice, Found};
use super::Session;

/// What comes next of a root.
pub(super) enum Next {
    /// This one has its endpoint.
    Connect(u32),
    /// This one waits for a derivation.
    Walking(u32),
    /// Nothing now.
    Later,
    /// Nothing ever.
    Over,
}

impl Session<'_> {
    /// Whether it is not known yet if a better protected candidate has had its turn.
    pub(super) fn is_held(&self, root: u32) -> bool {
        if self.allow_downgrade || self.walking.is_empty() {
            return false;
        }
        let protection = self.offer(root).endpoint.declared_protection();
        self.walking.iter().any(|(id, _)| {
            let other = self.memo.record.attempts[*id as usize].root;
            self.offer(other).endpoint.declared_protection() > protection
        })
    }

    /// Whether the policy forbids it, or it would be a downgrade. It is over then.
    pub(super) fn is_refused(&mut self, root: u32) -> bool {
        let offer = self.offer(root);
        let protection = offer.endpoint.declared_protection();
        let why = if protection < self.protected && !self.allow_downgrade {
            Cow::Borrowed("a better protected transport comes before, and none less protected may follow it")
        } else if let Some(why) = self.frame.inherited.policy().refuses(offer.key(), protection) {
            why
        } else {
            return false;
        };
        self.memo.record.roots[root as usize].turn = Turn::Over;
        self.add_attempt(root, Found::Absent, AttemptState::Refused(why));
        true
    }

    /// The first candidate of a root: with the first of every choice that there may be.
    pub(super) fn first_of(&mut self, root: u32, cx: &mut task::Context<'_>) -> Next {
        let (id, walk) = self.attempt(root, Vec::new());
        if let Some(mut walk) = walk {
            let pending = walk.poll(&mut self.memo, cx).is_pending();
            if !pending {
                self.walked(id, &walk);
            }
            if pending || !walk.choices.is_empty() {
                self.memo.record.roots[root as usize].turn = Turn::Come(self.forks.len() as u32);
                let mut forks = Forks::new(root);
                forks.open(&mut walk);
                forks.walking = u32::from(pending);
                self.forks.push(forks);
                if pending {
                    self.walking.push((id, walk));
                    return Next::Walking(id);
                }
            }
        }
        match (&self.memo.record.attempts[id as usize].state, self.memo.record.roots[root as usize].turn) {
            (AttemptState::Parked, turn) => {
                if turn == Turn::NotYet {
                    self.memo.record.roots[root as usize].turn = Turn::Over;
                }
                Next::Connect(id)
            }
            (_, Turn::Come(forks)) => self.next_of(forks, cx),
            _ => Next::Over,
        }
    }

    /// The next candidate of these forks: of a group whose turn it is, if there is one.
    pub(super) fn next_of(&mut self, forks: u32, cx: &mut task::Context<'_>) -> Next {
        let first_count = self.first_group_count;
        let here = &mut self.forks[forks as usize];
        let suits = |id: &u32| here.turns.suits(self.memo.record.attempts[*id as usize].group, first_count);
        if let Some(i) = here.parked.iter().position(suits) {
            return Next::Connect(here.parked.remove(i));
        }
        while self.refuted.is_none() {
            let Some(choices) = self.fork(forks) else { break };
            let (id, walk) = self.attempt(self.forks[forks as usize].root, choices);
            let Some(mut walk) = walk else { unreachable!("only derivations fork") };
            let pending = walk.poll(&mut self.memo, cx).is_pending();
            self.forks[forks as usize].open(&mut walk);
            if pending {
                self.walking.push((id, walk));
                self.forks[forks as usize].walking += 1;
                return Next::Walking(id);
            }
            self.walked(id, &walk);
            let here = &mut self.forks[forks as usize];
            let attempt = &self.memo.record.attempts[id as usize];
            if matches!(attempt.state, AttemptState::Parked) {
                if here.turns.suits(attempt.group, first_count) {
                    return Next::Connect(id);
                }
                here.parked.push(id);
            }
        }
        let here = &mut self.forks[forks as usize];
        if !here.parked.is_empty() {
            return Next::Connect(here.parked.remove(0));
        }
        let open = |level: &Level| self.memo.record.known.values_of(level.outcome).1;
        match here.made < MAX_FORKS && (here.walking > 0 || here.levels.iter().any(open)) {
            true => Next::Later,
            false => Next::Over,
        }
    }

    /// The choices of the next fork.
    fn fork(&mut self, forks: u32) -> Option<Vec<Choice>> {
        let here = &mut self.forks[forks as usize];
        if here.made == MAX_FORKS {
            return None;
        }
        let mut i = here.levels.len();
        while i > 0 {
            i -= 1;
            let level = &mut here.levels[i];
            let (values, open) = self.memo.record.known.values_of(level.outcome);
            if (level.next as usize) < values {
                let mut choices = level.before.clone();
                choices.push(Choice { outcome: level.outcome, index: level.next });
                level.next += 1;
                here.made += 1;
                return Some(choices);
            }
            if !open {
                here.levels.remove(i);
            }
        }
        None
    }
}
