//! One resolution: gives candidates their turns, connects them, and takes the first that succeeds.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::mem::take;
use core::task::{self, Poll};
use core::time::Duration;

use super::Settings;
use super::outcome::{Error, Resolved, Unfolded};
use super::record::Record;
use super::walk::{Choice, Found, Memo, Walk};
use crate::context::{Context, EntryId, Offer};
use crate::race::{Action, Event, Race, Turns};
use crate::report::Report;
use crate::{BoxFuture, ConnectCx, ConnectError, Flow, Instant, Protection, SharedRuntime};

/// How many choices one binding may fork into.
const MAX_FORKS: u32 = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Connect,
    /// Have the endpoints, connect nothing.
    Unfold,
    /// Run nothing.
    Plan,
}

pub(super) struct Session {
    mode: Mode,
    settings: Settings,
    memo: Memo,
    roots: Vec<Root>,
    /// Roots before this one are over.
    live: u32,
    /// Of the roots that have had a turn.
    forks: Vec<Forks>,
    attempts: Vec<Attempt>,
    /// Attempts that are under way.
    walking: Vec<u32>,
    connecting: Vec<(u32, Connecting)>,
    race: Race,
    began: Instant,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    /// The best protection that has had its turn.
    protected: Protection,
}

type Connecting = BoxFuture<'static, Result<Flow, ConnectError>>;

/// A binding of an offered endpoint key.
#[derive(Clone, Copy)]
pub(super) struct Root {
    pub(super) entry: EntryId,
    /// Its offer, as an index into the context's.
    pub(super) offer: u32,
    rank: u32,
    pub(super) turn: Turn,
}

/// How far a root has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    NotYet,
    /// Its forks, as an index.
    Come(u32),
    /// There is nothing more of it.
    Over,
}

/// The choices of a root, in order.
struct Forks {
    root: u32,
    /// The deepest last: each varies one choice and gives what comes before it.
    levels: Vec<Level>,
    /// Attempts that have an endpoint, but of a group whose turn it is not.
    parked: Vec<u32>,
    /// How many are under way that may open new levels.
    walking: u32,
    made: u32,
    turns: Turns,
}

struct Level {
    before: Vec<Choice>,
    outcome: u32,
    next: u32,
}

/// One candidate that has had its turn.
pub(super) struct Attempt {
    pub(super) root: u32,
    pub(super) walk: Walk,
    given: u32,
    pub(super) state: AttemptState,
    pub(super) group: Option<u32>,
    pub(super) cx: Option<ConnectCx>,
    pub(super) started: Instant,
    pub(super) took: Option<Duration>,
}

pub(super) enum AttemptState {
    /// Its endpoint is being had, or it is being connected.
    UnderWay,
    /// Its endpoint is had, its turn to connect has not come.
    Parked,
    Connected,
    /// Its walk found that it is none, or failed.
    NoEndpoint,
    Failed(ConnectError),
    Expired(Duration),
    Refused(Cow<'static, str>),
}

/// How it ended for all.
enum End {
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

impl Session {
    pub(super) fn new(ctx: Context, settings: Settings, mode: Mode) -> Self {
        let now = now(settings.inherited.runtime.as_ref());
        let (roots, ranks) = roots(&ctx);
        Self {
            mode,
            race: Race::new(settings.race.clone(), ranks, now),
            memo: Memo::new(ctx, settings.inherited.runtime.clone(), mode == Mode::Plan),
            settings,
            roots,
            live: 0,
            forks: Vec::new(),
            attempts: Vec::new(),
            walking: Vec::new(),
            connecting: Vec::new(),
            began: now,
            timer: None,
            protected: Protection::Clear,
        }
    }

    pub(super) async fn run(mut self) -> Result<Resolved, Error> {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let mut record = self.record();
        match end {
            End::Connected { attempt, flow } => {
                record.winner = Some(attempt);
                return Ok(Resolved::new(flow, record));
            }
            End::Lost => {}
            End::Final { attempt } => record.decided = Some(attempt),
            End::Deadline => record.deadline_passed = true,
        }
        Err(Error::new(record))
    }

    pub(super) async fn unfold(mut self) -> Result<Unfolded, Error> {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let mut record = self.record();
        record.deadline_passed = matches!(end, End::Deadline);
        Unfolded::new(record)
    }

    /// Walks each root once, running nothing.
    pub(super) fn plan(mut self, cx: &mut task::Context<'_>) -> Report {
        for root in 0..self.roots.len() as u32 {
            if !self.is_refused(root) {
                let id = self.attempt(root, Vec::new());
                // Nothing runs, so nothing is waited for.
                let _ = self.attempts[id as usize].walk.poll(&mut self.memo, cx);
                self.attempts[id as usize].state = AttemptState::NoEndpoint;
            }
        }
        let mut record = self.record();
        record.planned = true;
        record.report()
    }

    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<End> {
        if self.memo.poll(cx) {
            self.poll_walking(cx);
            self.race.input(Event::Supply, self.now());
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
                Action::Expire { id } => self.expire(id),
                Action::GiveUp => return Poll::Ready(End::Deadline),
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
        let (Some(until), Some(runtime)) = (until, &self.settings.inherited.runtime) else {
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
            let (id, connecting) = &mut self.connecting[i];
            let id = *id;
            match connecting.as_mut().poll(cx) {
                Poll::Pending => i += 1,
                Poll::Ready(result) => {
                    drop(self.connecting.remove(i));
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
        match result {
            Ok(flow) => {
                self.attempts[id as usize].state = AttemptState::Connected;
                Some(End::Connected { attempt: id, flow })
            }
            Err(error) => {
                let is_final = error.is_final();
                self.attempts[id as usize].state = AttemptState::Failed(error);
                self.race.input(Event::Ended { id }, self.now());
                is_final.then_some(End::Final { attempt: id })
            }
        }
    }

    /// Lets walks go on that waited for a derivation. Their turn has come: what has its endpoint
    /// is connected.
    fn poll_walking(&mut self, cx: &mut task::Context<'_>) {
        for id in take(&mut self.walking) {
            let attempt = &mut self.attempts[id as usize];
            if attempt.walk.poll(&mut self.memo, cx).is_pending() {
                self.walking.push(id);
                continue;
            }
            if let Turn::Come(forks) = self.roots[attempt.root as usize].turn {
                self.forks[forks as usize].walking -= 1;
                self.walked(id, forks);
                if matches!(self.attempts[id as usize].state, AttemptState::Parked) {
                    self.connect(id, forks);
                } else {
                    self.race.input(Event::Ended { id }, self.now());
                }
            }
        }
    }

    /// Gives the next candidate of `rank` its turn.
    fn start(&mut self, rank: u32, cx: &mut task::Context<'_>) -> Option<End> {
        let mut later = false;
        while self.roots.get(self.live as usize).is_some_and(|root| root.turn == Turn::Over) {
            self.live += 1;
        }
        for root in self.roots_of(rank) {
            if self.roots[root as usize].turn == Turn::Over {
                continue;
            }
            if self.is_held(root) {
                later = true;
                continue;
            }
            if self.is_refused(root) {
                continue;
            }
            let forks = self.forks_of(root);
            match self.next_of(forks, cx) {
                Next::Connect(id) => {
                    self.race.input(Event::Started { id, rank }, self.now());
                    self.connect(id, forks);
                    return self.poll_newest(cx);
                }
                Next::Walking(id) => {
                    self.race.input(Event::Started { id, rank }, self.now());
                    return None;
                }
                Next::Later => later = true,
                Next::Over => self.roots[root as usize].turn = Turn::Over,
            }
        }
        self.race.input(Event::Dry { rank, forever: !later }, self.now());
        None
    }

    /// The roots of `rank`, in order.
    fn roots_of(&self, rank: u32) -> core::ops::Range<u32> {
        let start = self.roots.partition_point(|root| root.rank < rank);
        let end = self.roots.partition_point(|root| root.rank <= rank);
        self.live.max(start as u32)..end as u32
    }

    /// Whether it is not known yet if a better protected candidate has had its turn.
    fn is_held(&self, root: u32) -> bool {
        if self.settings.allow_downgrade {
            return false;
        }
        let protection = self.offer(root).endpoint.declared_protection();
        self.walking.iter().any(|&id| {
            let other = self.attempts[id as usize].root;
            self.offer(other).endpoint.declared_protection() > protection
        })
    }

    /// Whether the policy forbids it, or it would be a downgrade. It is over then.
    fn is_refused(&mut self, root: u32) -> bool {
        let offer = self.offer(root);
        let protection = offer.endpoint.declared_protection();
        let why = if protection < self.protected && !self.settings.allow_downgrade {
            Cow::Borrowed(
                "a better protected transport was tried before, and must not be followed by this one",
            )
        } else if let Some(why) = self.settings.inherited.policy().refuses(offer.key(), protection) {
            Cow::Borrowed(why)
        } else {
            return false;
        };
        self.roots[root as usize].turn = Turn::Over;
        let id = self.attempt(root, Vec::new());
        self.attempts[id as usize].state = AttemptState::Refused(why);
        true
    }

    fn forks_of(&mut self, root: u32) -> u32 {
        if let Turn::Come(forks) = self.roots[root as usize].turn {
            return forks;
        }
        let forks = self.forks.len() as u32;
        self.forks.push(Forks {
            root,
            levels: Vec::new(),
            parked: Vec::new(),
            walking: 0,
            made: 0,
            turns: Turns::default(),
        });
        self.roots[root as usize].turn = Turn::Come(forks);
        forks
    }

    /// The next candidate of these forks: of a group whose turn it is, if there is one.
    fn next_of(&mut self, forks: u32, cx: &mut task::Context<'_>) -> Next {
        let first_count = self.settings.first_group_count;
        let here = &mut self.forks[forks as usize];
        let suits = |id: &u32| here.turns.suits(self.attempts[*id as usize].group, first_count);
        if let Some(i) = here.parked.iter().position(suits) {
            return Next::Connect(here.parked.remove(i));
        }
        while let Some(choices) = self.fork(forks) {
            let root = self.forks[forks as usize].root;
            let id = self.attempt(root, choices);
            if self.attempts[id as usize].walk.poll(&mut self.memo, cx).is_pending() {
                self.walking.push(id);
                self.forks[forks as usize].walking += 1;
                return Next::Walking(id);
            }
            self.walked(id, forks);
            if matches!(self.attempts[id as usize].state, AttemptState::Parked) {
                let here = &mut self.forks[forks as usize];
                if here.turns.suits(self.attempts[id as usize].group, first_count) {
                    here.parked.pop();
                    return Next::Connect(id);
                }
            }
        }
        let here = &mut self.forks[forks as usize];
        if !here.parked.is_empty() {
            return Next::Connect(here.parked.remove(0));
        }
        let open = |level: &Level| self.memo.known.values_of(level.outcome).1;
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
        if here.made == 0 {
            here.made = 1;
            return Some(Vec::new());
        }
        let mut i = here.levels.len();
        while i > 0 {
            i -= 1;
            let level = &mut here.levels[i];
            let (values, open) = self.memo.known.values_of(level.outcome);
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

    fn attempt(&mut self, root: u32, choices: Vec<Choice>) -> u32 {
        let id = self.attempts.len() as u32;
        let Root { entry, .. } = self.roots[root as usize];
        let key = self.offer(root).key();
        let given = choices.len() as u32;
        let walk = Walk::of(&mut self.memo, id, key, entry, choices);
        let state = AttemptState::UnderWay;
        let started = self.now();
        self.attempts.push(Attempt { root, walk, given, state, group: None, cx: None, started, took: None });
        id
    }

    /// A walk is done: the choices that it met fork, and its endpoint, if it has one, is parked.
    fn walked(&mut self, id: u32, forks: u32) {
        let attempt = &mut self.attempts[id as usize];
        let here = &mut self.forks[forks as usize];
        for i in attempt.given as usize..attempt.walk.choices.len() {
            let Choice { outcome, .. } = attempt.walk.choices[i];
            here.levels.push(Level { before: attempt.walk.choices[..i].to_vec(), outcome, next: 1 });
        }
        let found = attempt.walk.root.found;
        if let Some(endpoint) = self.memo.known.value(found) {
            let offer = self.memo.known.ctx.offers()[self.roots[attempt.root as usize].offer as usize];
            attempt.group = offer.endpoint.group(&**endpoint);
            attempt.state = AttemptState::Parked;
            here.parked.push(id);
        } else {
            attempt.state = AttemptState::NoEndpoint;
        }
        if found != Found::Absent {
            let root = self.attempts[id as usize].root;
            self.protected = self.protected.max(self.offer(root).endpoint.declared_protection());
        }
        if matches!(self.attempts[id as usize].state, AttemptState::NoEndpoint) {
            self.took(id);
        }
    }

    /// Connects an attempt whose endpoint is had and whose turn has come.
    fn connect(&mut self, id: u32, forks: u32) {
        let here = &mut self.forks[forks as usize];
        here.parked.retain(|parked| *parked != id);
        let attempt = &mut self.attempts[id as usize];
        here.turns.take(attempt.group);
        if self.mode == Mode::Unfold {
            self.race.input(Event::Ended { id }, self.now());
            return;
        }
        attempt.state = AttemptState::UnderWay;
        let known = &self.memo.known;
        let cx = ConnectCx::inherit(known.ctx.clone(), self.settings.inherited.clone());
        attempt.cx = Some(cx.clone());
        let Some(endpoint) = known.value(attempt.walk.root.found) else {
            unreachable!("parked attempts have an endpoint")
        };
        let offer = known.ctx.offers()[self.roots[attempt.root as usize].offer as usize];
        let Some(connecting) = offer.endpoint.connect(&**endpoint, cx) else {
            unreachable!("an endpoint key binds endpoints of its protocol")
        };
        self.connecting.push((id, connecting));
    }

    /// Lets the attempt that was started last begin.
    fn poll_newest(&mut self, cx: &mut task::Context<'_>) -> Option<End> {
        let (id, connecting) = self.connecting.last_mut()?;
        let id = *id;
        let Poll::Ready(result) = connecting.as_mut().poll(cx) else { return None };
        self.connecting.pop();
        self.connected(id, result)
    }

    fn expire(&mut self, id: u32) {
        self.connecting.retain(|(other, _)| *other != id);
        self.took(id);
        let attempt = &mut self.attempts[id as usize];
        if self.walking.contains(&id) {
            self.walking.retain(|other| *other != id);
            self.memo.abandon(&attempt.walk);
            if let Turn::Come(forks) = self.roots[attempt.root as usize].turn {
                self.forks[forks as usize].walking -= 1;
            }
        }
        let allowed = self.settings.race.attempt_timeout.unwrap_or_default();
        attempt.state = AttemptState::Expired(allowed);
        // It may have been protected: whether it would have been absent is not known.
        let root = attempt.root;
        self.protected = self.protected.max(self.offer(root).endpoint.declared_protection());
        let now = self.now();
        self.race.input(Event::Ended { id }, now);
        self.race.input(Event::Supply, now);
    }

    fn offer(&self, root: u32) -> &Offer {
        &self.memo.known.ctx.offers()[self.roots[root as usize].offer as usize]
    }

    fn took(&mut self, id: u32) {
        let now = self.now();
        let attempt = &mut self.attempts[id as usize];
        attempt.took = Some(now.since(attempt.started));
    }

    fn now(&self) -> Instant {
        now(self.settings.inherited.runtime.as_ref())
    }

    /// Drops what is under way, and keeps what is known.
    fn record(self) -> Record {
        let ended = self.now();
        let full = |forks: &&Forks| forks.made == MAX_FORKS && !forks.levels.is_empty();
        Record {
            over_limit: self.forks.iter().filter(full).map(|forks| forks.root).collect(),
            known: self.memo.known,
            roots: self.roots,
            attempts: self.attempts,
            winner: None,
            decided: None,
            setup: None,
            planned: false,
            deadline_passed: false,
            began: self.began,
            ended,
            clock: self.settings.inherited.runtime.is_some(),
        }
    }
}

/// What comes next of some forks.
enum Next {
    /// This one has its endpoint.
    Connect(u32),
    /// This one waits for a derivation.
    Walking(u32),
    /// Nothing now.
    Later,
    /// Nothing ever.
    Over,
}

fn now(runtime: Option<&SharedRuntime>) -> Instant {
    runtime.map_or(Instant::default(), |runtime| runtime.now())
}

/// All bindings of all offered keys in order, and how many ranks there are.
fn roots(ctx: &Context) -> (Vec<Root>, u32) {
    let offers = ctx.offers();
    let mut roots: Vec<Root> = Vec::with_capacity(offers.len());
    let (mut rank, mut start) = (0, 0);
    for (i, offer) in offers.iter().enumerate() {
        if i > 0 && offer.rank() != offers[i - 1].rank() && roots.len() > start {
            roots[start..].sort_unstable_by_key(|root| root.entry);
            (rank, start) = (rank + 1, roots.len());
        }
        let offered = ctx.bindings(offer.key());
        roots.extend(offered.map(|(entry, _)| Root { entry, offer: i as u32, rank, turn: Turn::NotYet }));
    }
    roots[start..].sort_unstable_by_key(|root| root.entry);
    let ranks = roots.last().map_or(0, |root| root.rank + 1);
    (roots, ranks)
}
