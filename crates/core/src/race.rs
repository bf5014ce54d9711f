//! Racing (Happy Eyeballs, RFC 8305, over any mix of transports) without I/O and without a clock:
//! events and the time come in, actions come out.
//!
//! Candidates come in ranks: those of a rank race, and the next rank waits until all of the ranks
//! before have failed, or for the head start. Within what may start, one starts at once when
//! nothing runs or one has ended, else after the delay.

use core::time::Duration;

use crate::Instant;
use crate::few::Few;

/// The Connection Attempt Delay that RFC 8305 section 8 recommends.
pub(crate) const DEFAULT_DELAY: Duration = Duration::from_millis(250);
/// The least that RFC 8305 section 8 allows.
pub(crate) const MIN_DELAY: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(crate) struct RaceConfig {
    /// Between two starts while none ends; `None` without a clock.
    pub(crate) delay: Option<Duration>,
    /// After which the next rank joins one that has not failed.
    pub(crate) head_start: Option<Duration>,
    /// How long one attempt may take.
    pub(crate) attempt_timeout: Option<Duration>,
    /// When everything must be done.
    pub(crate) deadline: Option<Instant>,
}

/// What the driver tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// As asked, this attempt was started.
    Started { id: u32, rank: u32 },
    /// This attempt failed, or turned out to be none.
    Ended { id: u32 },
    /// Asked to start, but the rank has nothing to start, now or ever.
    Dry { rank: u32, forever: bool },
    /// The ranks that were dry for now may have something again.
    Supply,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start the next of this rank; answer with `Started` or `Dry`.
    Start { rank: u32 },
    /// This attempt has had its time: stop it; answer with `Ended`.
    Expire { id: u32 },
    /// The deadline has passed.
    GiveUp,
    /// All have failed.
    Lost,
    /// Nothing to do until an event, or until then.
    Wait(Option<Instant>),
}

#[derive(Debug)]
pub(crate) struct Race {
    config: RaceConfig,
    ranks: u32,
    /// Ranks before this one have nothing more.
    first: u32,
    /// The ranks that may start, from `first` on.
    open: Few<Rank, 1>,
    running: Few<Running, 1>,
    /// Another may start now, or at this time.
    next: Next,
}

#[derive(Debug)]
struct Rank {
    supply: Supply,
    opened: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    Unknown,
    Dry,
    Exhausted,
}

#[derive(Debug)]
struct Running {
    id: u32,
    rank: u32,
    expires: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Now,
    At(Instant),
    WhenOneEnds,
}

impl Race {
    /// A race of this many ranks.
    pub(crate) fn new(config: RaceConfig, ranks: u32, now: Instant) -> Self {
        Self { config, ranks, first: 0, open: Few::new(), running: Few::new(), next: Next::Now }.opened(now)
    }

    fn opened(mut self, now: Instant) -> Self {
        if self.ranks > 0 {
            self.open.push(Rank::new(now));
        }
        self
    }

    pub(crate) fn input(&mut self, event: Event, now: Instant) {
        match event {
            Event::Started { id, rank } => {
                let expires = self.config.attempt_timeout.map(|timeout| now + timeout);
                self.running.push(Running { id, rank, expires });
                self.next = self.config.delay.map_or(Next::WhenOneEnds, |delay| Next::At(now + delay));
            }
            Event::Ended { id } => {
                if let Some(i) = self.running.position(|running| running.id == id) {
                    self.running.remove(i);
                }
                self.next = Next::Now;
            }
            Event::Dry { rank, forever } => {
                if let Some(rank) = self.open.get_mut((rank - self.first) as usize) {
                    rank.supply = if forever { Supply::Exhausted } else { Supply::Dry };
                }
            }
            Event::Supply => {
                for i in 0..self.open.len() {
                    if self.open[i].supply == Supply::Dry {
                        self.open[i].supply = Supply::Unknown;
                    }
                }
            }
        }
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Action {
        if self.config.deadline.is_some_and(|deadline| deadline <= now) {
            return Action::GiveUp;
        }
        if let Some(late) = self.running.iter().find(|running| running.expires.is_some_and(|at| at <= now)) {
            return Action::Expire { id: late.id };
        }
        self.close_ranks();
        if self.open.is_empty() {
            if self.first == self.ranks {
                return Action::Lost;
            }
            self.open.push(Rank::new(now));
        }
        self.open_by_head_start(now);
        let supplied = self.open.position(|rank| rank.supply == Supply::Unknown);
        let may_start = match self.next {
            Next::Now => true,
            Next::At(at) => at <= now || self.running.is_empty(),
            Next::WhenOneEnds => self.running.is_empty(),
        };
        match supplied {
            Some(open) if may_start => Action::Start { rank: self.first + open as u32 },
            _ => Action::Wait(self.wake(supplied.is_some())),
        }
    }

    /// Drops ranks in front that have nothing more, running or to start.
    fn close_ranks(&mut self) {
        while let Some(front) = self.open.get(0) {
            let rank = self.first;
            if front.supply != Supply::Exhausted || self.running.iter().any(|running| running.rank == rank) {
                break;
            }
            self.open.remove(0);
            self.first += 1;
        }
    }

    fn open_by_head_start(&mut self, now: Instant) {
        while self.first + (self.open.len() as u32) < self.ranks
            && self.joins_at().is_some_and(|joins| joins <= now)
        {
            self.open.push(Rank::new(now));
        }
    }

    /// When the rank after those that are open joins them.
    fn joins_at(&self) -> Option<Instant> {
        let newest = self.open.iter().next_back()?;
        Some(newest.opened + self.config.head_start?)
    }

    /// The next time at which something is to be done without an event.
    fn wake(&self, supplied: bool) -> Option<Instant> {
        let next = match self.next {
            Next::At(at) if supplied => Some(at),
            _ => None,
        };
        let joins = if self.first + (self.open.len() as u32) < self.ranks { self.joins_at() } else { None };
        let expires = self.running.iter().filter_map(|running| running.expires).min();
        [next, joins, expires, self.config.deadline].into_iter().flatten().min()
    }
}

impl Rank {
    fn new(now: Instant) -> Self {
        Self { supply: Supply::Unknown, opened: now }
    }
}

/// Takes turns among groups: which group may come next (RFC 8305 section 4).
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    first: Option<u32>,
    last: Option<u32>,
    of_first: u32,
}

impl Turns {
    /// Whether one of `group` keeps the groups in turn.
    pub(crate) fn suits(&self, group: Option<u32>, first_count: u32) -> bool {
        let (Some(group), Some(last)) = (group, self.last) else { return true };
        let only_first_so_far = self.first == self.last;
        group != last || (only_first_so_far && Some(group) == self.first && self.of_first < first_count)
    }

    /// One of `group` has its turn.
    pub(crate) fn take(&mut self, group: Option<u32>) {
        let Some(group) = group else { return };
        self.first.get_or_insert(group);
        if self.first == Some(group) {
            // Once another group has had its turn, the first has no more privilege.
            self.of_first = if self.last.is_some_and(|last| last != group) {
                u32::MAX
            } else {
                self.of_first.saturating_add(1)
            };
        }
        self.last = Some(group);
    }
}
