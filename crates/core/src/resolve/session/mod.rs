//! One resolution: gives candidates their turns, connects them, and takes the first that succeeds.

mod forks;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::{poll_fn, ready};
use core::mem::take;
use core::task::{self, Poll};

use self::forks::Next;
use super::Settings;
use super::candidate::{Attempt, AttemptState, Forks, Level, MAX_FORKS, Root, Turn, roots};
use super::direct::{Last, Past};
use super::memo::{Choice, Found, Memo};
use super::outcome::{Error, Resolved, Unfolded};
use super::record::{Record, describe};
use super::walk::Walk;
use super::why::cause;
use crate::connect::Frame;
use crate::context::{Binding, Offer};
use crate::few::Few;
use crate::log::{after, step};
use crate::race::{Action, Event, Race};
use crate::report::Report;
use crate::{BoxFuture, ConnectError, Flow, Instant, Protection, SharedRuntime};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Connect,
    /// Have the endpoints, connect nothing.
    Unfold,
    /// Run nothing.
    Plan,
}

/// Borrows from the frame what connecting attempts borrow as well.
pub(super) struct Session<'a> {
    frame: &'a Frame<'a>,
    offers: &'a [Offer],
    mode: Mode,
    first_group_count: u32,
    allow_downgrade: bool,
    memo: Memo<'a>,
    /// Roots before this one are over.
    live: u32,
    /// Of the roots that have choices, or that wait to have them.
    forks: Vec<Forks>,
    /// What is under way: walks, and connections.
    walking: Vec<(u32, Walk)>,
    /// Walks of attempts that have had their time: others may still get what these waited for.
    late: Vec<(u32, Walk)>,
    connecting: Few<(u32, Connecting<'a>), 1>,
    /// The first attempt to connect, if it was made before.
    begun: Option<Connecting<'a>>,
    race: Race,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    /// The best protection that has had its turn.
    protected: Protection,
    /// The attempt of which a derivation failed because a peer is not who it should be.
    refuted: Option<u32>,
}

pub(super) type Connecting<'a> = BoxFuture<'a, Result<Flow, ConnectError>>;

/// How it ended for all.
pub(super) enum End {
    Connected {
        attempt: u32,
        flow: Flow,
    },
    /// All have failed.
    Lost,
    /// A peer was found not to be who it should, or not to accept us.
    Final {
        attempt: u32,
    },
    Deadline,
}

impl<'a> Session<'a> {
    pub(super) fn new(frame: &'a Frame<'a>, settings: Settings, mode: Mode) -> Self {
        let runtime = frame.inherited.runtime.as_ref();
        let now = now(runtime);
        let mut memo = Memo::new(frame.ctx(), runtime, mode == Mode::Plan);
        let (roots, ranks) = roots(frame.ctx());
        (memo.record.roots, memo.record.began) = (roots, now);
        Self {
            frame,
            offers: frame.ctx().offers(),
            mode,
            race: Race::new(settings.race, ranks),
            first_group_count: settings.first_group_count,
            allow_downgrade: settings.allow_downgrade,
            memo,
            live: 0,
            forks: Vec::new(),
            walking: Vec::new(),
            late: Vec::new(),
            connecting: Few::new(),
            begun: None,
            timer: None,
            protected: Protection::Clear,
            refuted: None,
        }
    }

    /// Goes on where the direct way ended: with what was run last, and what the first attempt to
    /// connect failed with.
    pub(super) fn after(mut self, last: Last, failed: Option<ConnectError>) -> Self {
        self.memo.past = Some(Past::new(self.frame.take_ran(), last));
        self.begun = failed.map(|error| Box::pin(ready(Err(error))) as _);
        self
    }

    /// What the direct way did, which ended with a connection.
    pub(super) fn retraced(mut self) -> Box<Record> {
        self.memo.past = Some(Past::new(self.frame.take_ran(), None));
        let mut cx = task::Context::from_waker(task::Waker::noop());
        let mut roots = 0..self.memo.record.roots.len() as u32;
        let winner = roots.find_map(|root| match self.first_of(root, &mut cx) {
            Next::Connect(id) => Some(id),
            _ => {
                self.memo.record.roots[root as usize].turn = Turn::Over;
                None
            }
        });
        if let Some(id) = winner {
            self.memo.record.attempts[id as usize].state = AttemptState::Connected;
        }
        let mut record = self.finish(&End::Lost);
        record.winner = winner;
        record
    }

    pub(super) async fn run(&mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    pub(super) fn resolved(self, end: End) -> Result<Resolved, Error> {
        let record = self.finish(&end);
        match end {
            End::Connected { flow, .. } => Ok(Resolved::new(flow, record)),
            _ => Err(Error::new(record)),
        }
    }

    pub(super) fn unfolded(self, end: End) -> Result<Unfolded, Error> {
        Unfolded::new(self.finish(&end))
    }

    /// Walks each root once, running nothing.
    pub(super) fn plan(mut self, cx: &mut task::Context<'_>) -> Report {
        for root in 0..self.memo.record.roots.len() as u32 {
            if !self.is_refused(root) {
                let (id, walk) = self.attempt(root, Vec::new());
                if let Some(mut walk) = walk {
                    // Nothing runs, so nothing is waited for.
                    let _ = walk.poll(&mut self.memo, cx);
                    self.walked(id, &walk);
                }
                self.memo.record.attempts[id as usize].state = AttemptState::NoEndpoint;
            }
        }
        let mut record = self.finish(&End::Lost);
        record.planned = true;
        record.report()
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<End> {
        if self.memo.poll(cx) {
            self.poll_walking(cx);
            self.race.input(Event::Supply, self.now());
        }
        if let Some(attempt) = self.refuted {
            return Poll::Ready(End::Final { attempt });
        }
        // After the walks: what they have begun to connect has never been polled, and would wake nobody.
        if let Some(end) = self.poll_connecting(cx) {
            return Poll::Ready(end);
        }
        loop {
            let now = self.now();
            match self.race.poll(now) {
                Action::Start { rank } => {
                    if let Some(end) = self.start(rank, cx) {
                        return Poll::Ready(end);
                    }
                }
                // The time may have come since they were polled: they may say what they were waiting for.
                Action::Expire { id } => match self.poll_connecting(cx) {
                    Some(end) => return Poll::Ready(end),
                    None => self.expire(id),
                },
                Action::GiveUp => {
                    return Poll::Ready(self.poll_connecting(cx).unwrap_or(End::Deadline));
                }
                Action::Lost => return Poll::Ready(End::Lost),
                Action::Wait(until) => {
                    if self.wait(until, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Waits until then, or for an event if there is no such time. A new timer is polled at once:
    /// it would not wake anybody otherwise.
    fn wait(&mut self, until: Option<Instant>, cx: &mut task::Context<'_>) -> Poll<()> {
        let (Some(until), Some(runtime)) = (until, &self.frame.inherited.runtime) else {
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(at, _)| *at != until) {
            self.timer = Some((until, runtime.sleep_until(until)));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        task::ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }

    /// Lets connecting attempts go on; the first that is there wins, the rest are dropped.
    fn poll_connecting(&mut self, cx: &mut task::Context<'_>) -> Option<End> {
        let mut i = 0;
        while i < self.connecting.len() {
            match self.connecting[i].1.as_mut().poll(cx) {
                Poll::Pending => i += 1,
                Poll::Ready(result) => {
                    let (id, _) = self.connecting.remove(i);
                    if let Some(end) = self.connected(id, result) {
                        return Some(end);
                    }
                }
            }
        }
        None
    }

    fn connected(&mut self, id: u32, result: Result<Flow, ConnectError>) -> Option<End> {
        self.took(id);
        step(|| match &result {
            Ok(_) => {
                format!("{}: connected{}", self.told(id), after(self.memo.record.attempts[id as usize].took))
            }
            Err(error) => format!("{}: failed: {}", self.told(id), cause(error).what),
        });
        match result {
            Ok(flow) => {
                self.memo.record.attempts[id as usize].state = AttemptState::Connected;
                Some(End::Connected { attempt: id, flow })
            }
            Err(error) => {
                let is_final = error.is_final();
                self.memo.record.attempts[id as usize].state = AttemptState::Failed(error);
                self.race.input(Event::Ended { id }, self.now());
                is_final.then_some(End::Final { attempt: id })
            }
        }
    }

    /// Lets walks go on that waited for a derivation. Their turn has come: what has its endpoint
    /// is connected.
    fn poll_walking(&mut self, cx: &mut task::Context<'_>) {
        for (id, mut walk) in take(&mut self.walking) {
            let pending = walk.poll(&mut self.memo, cx).is_pending();
            let root = self.memo.record.attempts[id as usize].root;
            if let Turn::Come(forks) = self.memo.record.roots[root as usize].turn {
                let forks = &mut self.forks[forks as usize];
                forks.walking -= u32::from(!pending);
                forks.open(&mut walk);
            }
            if pending {
                self.walking.push((id, walk));
                continue;
            }
            self.walked(id, &walk);
            if matches!(self.memo.record.attempts[id as usize].state, AttemptState::Parked) {
                let connecting = self.connect(id);
                connecting.into_iter().for_each(|connecting| self.connecting.push((id, connecting)));
            } else {
                self.race.input(Event::Ended { id }, self.now());
            }
        }
    }

    /// Gives the next candidate of `rank` its turn.
    fn start(&mut self, rank: u32, cx: &mut task::Context<'_>) -> Option<End> {
        while self.memo.record.roots.get(self.live as usize).is_some_and(|root| root.turn == Turn::Over) {
            self.live += 1;
        }
        let mut later = false;
        let mut next = self.live;
        while let Some(Root { rank: of, turn, .. }) = self.memo.record.roots.get(next as usize).copied() {
            if of > rank {
                break;
            }
            let root = next;
            next += 1;
            if of < rank || turn == Turn::Over {
                continue;
            }
            if self.is_held(root) {
                later = true;
                continue;
            }
            if self.is_refused(root) {
                continue;
            }
            let next = match turn {
                Turn::Come(forks) => self.next_of(forks, cx),
                _ => self.first_of(root, cx),
            };
            if let Some(attempt) = self.refuted {
                return Some(End::Final { attempt });
            }
            match next {
                Next::Connect(id) => {
                    self.race.input(Event::Started { id, rank }, self.now());
                    let mut connecting = self.connect(id)?;
                    if let Poll::Ready(result) = connecting.as_mut().poll(cx) {
                        return self.connected(id, result);
                    }
                    self.connecting.push((id, connecting));
                    return None;
                }
                Next::Walking(id) => {
                    self.race.input(Event::Started { id, rank }, self.now());
                    return None;
                }
                Next::Later => later = true,
                Next::Over => self.memo.record.roots[root as usize].turn = Turn::Over,
            }
        }
        self.race.input(Event::Dry { rank, forever: !later }, self.now());
        None
    }

    /// A new attempt, and the walk to its endpoint if that is derived.
    fn attempt(&mut self, root: u32, choices: Vec<Choice>) -> (u32, Option<Walk>) {
        let id = self.memo.record.roots[root as usize].entry;
        let entry = self.frame.ctx().entry(id);
        if matches!(entry.binding, Binding::Value(_)) {
            let attempt = self.add_attempt(root, Found::Value(id), AttemptState::UnderWay);
            self.has_endpoint(attempt);
            return (attempt, None);
        }
        let attempt = self.add_attempt(root, Found::Absent, AttemptState::UnderWay);
        (attempt, Some(Walk::of(&mut self.memo, attempt, (id, entry), choices)))
    }

    fn add_attempt(&mut self, root: u32, found: Found, state: AttemptState) -> u32 {
        let (started, took) = (self.now(), None);
        self.memo.record.attempts.push(Attempt {
            root,
            found,
            outcome: None,
            state,
            group: None,
            started,
            took,
        });
        self.memo.record.attempts.len() as u32 - 1
    }

    /// A walk is done: there is an endpoint, or there is none.
    fn walked(&mut self, id: u32, walk: &Walk) {
        let attempt = &mut self.memo.record.attempts[id as usize];
        (attempt.found, attempt.outcome) = (walk.root.found, walk.outcome);
        match attempt.found {
            Found::Value(_) | Found::Derived(..) => return self.has_endpoint(id),
            Found::Failed(..) => self.has_turn(id),
            Found::Absent | Found::Maybe(_) => {}
        }
        self.memo.record.attempts[id as usize].state = AttemptState::NoEndpoint;
        self.took(id);
        step(|| match walk.root.found {
            Found::Failed(..) => {
                format!(
                    "{}: failed: {}",
                    self.told(id),
                    self.memo.record.known.why_failed(walk.root.found).what
                )
            }
            _ => {
                format!(
                    "{}: not available: {}",
                    self.told(id),
                    self.memo.record.known.why_absent(walk.outcome).what
                )
            }
        });
        if self.memo.record.known.is_refuted(walk.root.found) {
            self.refuted = self.refuted.or(Some(id));
        }
    }

    fn has_endpoint(&mut self, id: u32) {
        self.has_turn(id);
        let attempt = &self.memo.record.attempts[id as usize];
        let endpoint = self.offer(attempt.root).endpoint;
        let group = self.memo.record.known.value(attempt.found).and_then(|value| endpoint.group(&**value));
        let attempt = &mut self.memo.record.attempts[id as usize];
        (attempt.group, attempt.state) = (group, AttemptState::Parked);
    }

    /// It is no absentee: nothing less protected may follow.
    fn has_turn(&mut self, id: u32) {
        let protection =
            self.offer(self.memo.record.attempts[id as usize].root).endpoint.declared_protection();
        self.protected = self.protected.max(protection);
    }

    /// Begins to connect an attempt whose endpoint is had and whose turn has come.
    fn connect(&mut self, id: u32) -> Option<Connecting<'a>> {
        let attempt = &mut self.memo.record.attempts[id as usize];
        let (root, found) = (self.memo.record.roots[attempt.root as usize], attempt.found);
        if let Turn::Come(forks) = root.turn {
            self.forks[forks as usize].turns.take(attempt.group);
        }
        if self.mode == Mode::Unfold {
            self.race.input(Event::Ended { id }, self.now());
            return None;
        }
        attempt.state = AttemptState::UnderWay;
        if self.begun.is_some() {
            return self.begun.take();
        }
        step(|| format!("{}: connecting", self.told(id)));
        let endpoint = self.offers[root.offer as usize].endpoint;
        let value = self.memo.record.known.value(found);
        let connecting =
            value.and_then(|value| endpoint.connect(&**value, self.frame.cx(id, self.race.expires(id))));
        if connecting.is_none() {
            unreachable!("parked attempts have an endpoint of their protocol");
        }
        connecting
    }

    /// As it is called in the log.
    fn told(&self, id: u32) -> String {
        let attempt = &self.memo.record.attempts[id as usize];
        let offer = self.offer(attempt.root);
        match self.memo.record.known.value(attempt.found) {
            Some(value) => format!("{} {}", offer.key(), describe(offer, value)),
            None => offer.key().to_string(),
        }
    }

    fn expire(&mut self, id: u32) {
        // It ended when it was polled last.
        if !matches!(self.memo.record.attempts[id as usize].state, AttemptState::UnderWay) {
            return;
        }
        self.took(id);
        step(|| format!("{}: timed out", self.told(id)));
        if let Some(i) = self.connecting.position(|(other, _)| *other == id) {
            drop(self.connecting.remove(i));
        }
        if let Some(i) = self.walking.iter().position(|(other, _)| *other == id) {
            self.late.push(self.walking.remove(i));
            if let Turn::Come(forks) =
                self.memo.record.roots[self.memo.record.attempts[id as usize].root as usize].turn
            {
                self.forks[forks as usize].walking -= 1;
            }
            // Whether it would have been absent is not known: it may have been protected.
            self.has_turn(id);
        }
        let allowed = self.race.attempt_timeout().unwrap_or_default();
        self.memo.record.attempts[id as usize].state = AttemptState::Expired(allowed);
        let now = self.now();
        self.race.input(Event::Ended { id }, now);
        self.race.input(Event::Supply, now);
    }

    fn offer(&self, root: u32) -> &'a Offer {
        &self.offers[self.memo.record.roots[root as usize].offer as usize]
    }

    fn took(&mut self, id: u32) {
        if let Some(runtime) = self.memo.runtime {
            let attempt = &mut self.memo.record.attempts[id as usize];
            attempt.took = Some(runtime.now().since(attempt.started));
        }
    }

    fn now(&self) -> Instant {
        now(self.memo.runtime)
    }

    /// Drops what is under way, and keeps what is known.
    fn finish(mut self, end: &End) -> Box<Record> {
        drop(take(&mut self.connecting));
        drop(take(&mut self.memo.running));
        if matches!(end, End::Deadline) {
            self.late.append(&mut self.walking);
        }
        for (id, mut walk) in take(&mut self.late) {
            walk.give_up(&mut self.memo);
            let attempt = &mut self.memo.record.attempts[id as usize];
            (attempt.found, attempt.outcome) = (walk.root.found, walk.outcome);
        }
        let mut record = self.memo.record;
        let known = &record.known;
        let more = |level: &Level| {
            let (values, open) = known.values_of(level.outcome);
            open || (level.next as usize) < values
        };
        let full = |forks: &&Forks| forks.made == MAX_FORKS && forks.levels.iter().any(more);
        record.over_limit = self.forks.iter().filter(full).map(|forks| forks.root).collect();
        record.trace = self.frame.take_trace();
        let runtime = self.frame.inherited.runtime.as_ref();
        (record.ended, record.clock) = (now(runtime), runtime.is_some());
        match end {
            End::Connected { attempt, .. } => record.winner = Some(*attempt),
            End::Final { attempt } => record.decided = Some(*attempt),
            End::Deadline => record.deadline_passed = true,
            End::Lost => {}
        }
        record
    }
}

fn now(runtime: Option<&SharedRuntime>) -> Instant {
    runtime.map_or(Instant::default(), |runtime| runtime.now())
}
