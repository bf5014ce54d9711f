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
    /// Its head start is over, and it has not started yet.
    due: bool,
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
    pub(crate) fn new(config: RaceConfig, ranks: u32) -> Self {
        Self { config, ranks, first: 0, open: Few::new(), running: Few::new(), next: Next::Now }
    }

    /// How long one attempt may take.
    pub(crate) fn attempt_timeout(&self) -> Option<Duration> {
        self.config.attempt_timeout
    }

    /// When this attempt will have had its time.
    pub(crate) fn expires(&self, id: u32) -> Option<Instant> {
        self.running.iter().find(|running| running.id == id)?.expires
    }

    pub(crate) fn input(&mut self, event: Event, now: Instant) {
        match event {
            Event::Started { id, rank } => {
                if let Some(rank) = self.open.get_mut((rank - self.first) as usize) {
                    rank.due = false;
                }
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
                    rank.due = false;
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
        if let Some(open) = self.open.position(|rank| rank.due) {
            return Action::Start { rank: self.first + open as u32 };
        }
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

    /// Lets the next rank join once its time has come. It is due at once, whatever the delay: it
    /// waited long enough.
    fn open_by_head_start(&mut self, now: Instant) {
        while self.first + (self.open.len() as u32) < self.ranks
            && self.joins_at().is_some_and(|joins| joins <= now)
        {
            self.open.push(Rank { due: true, ..Rank::new(now) });
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
        Self { supply: Supply::Unknown, opened: now, due: false }
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const fn at(millis: u64) -> Instant {
        Instant::new(Duration::from_millis(millis))
    }

    fn config() -> RaceConfig {
        RaceConfig { delay: Some(DEFAULT_DELAY), head_start: None, attempt_timeout: None, deadline: None }
    }

    /// A race, and who is told what at what time.
    struct Driver(Race);

    impl Driver {
        fn new(config: RaceConfig, ranks: u32) -> Self {
            Self(Race::new(config, ranks))
        }

        fn expects(&mut self, millis: u64, action: Action) {
            assert_eq!(self.0.poll(at(millis)), action, "at {millis} ms");
            assert_eq!(self.0.poll(at(millis)), action, "asked again, at {millis} ms");
        }

        fn waits(&mut self, millis: u64, until: impl Into<Option<u64>>) {
            self.expects(millis, Action::Wait(until.into().map(at)));
        }

        fn starts(&mut self, millis: u64, rank: u32, id: u32) {
            self.expects(millis, Action::Start { rank });
            self.0.input(Event::Started { id, rank }, at(millis));
        }

        fn ends(&mut self, millis: u64, id: u32) {
            self.0.input(Event::Ended { id }, at(millis));
        }

        fn dry(&mut self, millis: u64, rank: u32, forever: bool) {
            self.expects(millis, Action::Start { rank });
            self.0.input(Event::Dry { rank, forever }, at(millis));
        }
    }

    #[test]
    fn one_starts_every_250_ms() {
        let mut race = Driver::new(config(), 1);
        race.starts(0, 0, 1);
        race.waits(0, 250);
        race.waits(249, 250);
        race.starts(250, 0, 2);
        race.waits(250, 500);
        race.starts(501, 0, 3);
        race.waits(501, 751);
    }

    #[test]
    fn one_that_ends_lets_the_next_start_at_once_and_the_delay_begins_anew() {
        let mut race = Driver::new(config(), 1);
        race.starts(0, 0, 1);
        race.ends(30, 1);
        race.starts(30, 0, 2);
        race.waits(30, 280);
        race.starts(280, 0, 3);
        // One of two ends: that is enough.
        race.ends(300, 2);
        race.starts(300, 0, 4);
        race.waits(300, 550);
    }

    #[test]
    fn a_rank_waits_until_those_before_have_nothing_more_and_nothing_runs() {
        let mut race = Driver::new(config(), 3);
        race.starts(0, 0, 1);
        race.starts(250, 0, 2);
        race.dry(500, 0, true);
        race.waits(500, None);
        race.ends(900, 1);
        race.waits(900, None);
        race.ends(1000, 2);
        race.dry(1000, 1, true);
        race.starts(1000, 2, 3);
        race.dry(1250, 2, true);
        race.ends(1300, 3);
        race.expects(1300, Action::Lost);
    }

    #[test]
    fn what_is_dry_for_now_has_its_rank_wait_for_supply() {
        let mut race = Driver::new(config(), 2);
        race.dry(0, 0, false);
        race.waits(0, None);
        race.0.input(Event::Supply, at(70));
        race.starts(70, 0, 1);
        race.dry(320, 0, true);
        race.0.input(Event::Supply, at(330));
        race.waits(330, None);
        race.ends(400, 1);
        race.starts(400, 1, 2);
    }

    #[test]
    fn the_next_rank_starts_when_the_head_start_is_over_whatever_the_delay() {
        let mut race =
            Driver::new(RaceConfig { head_start: Some(Duration::from_millis(300)), ..config() }, 3);
        race.starts(0, 0, 1);
        race.waits(0, 250);
        race.starts(250, 0, 2);
        race.waits(250, 300);
        race.starts(300, 1, 3);
        // From then on what is better comes first again, after the delay.
        race.waits(300, 550);
        race.starts(550, 0, 4);
        // The third counts from when the second joined.
        race.waits(550, 600);
        race.starts(600, 2, 5);
        race.waits(600, 850);
        // There is no fourth, however long it takes.
        race.starts(850, 0, 6);
        race.waits(1099, 1100);
    }

    #[test]
    fn the_rank_that_joined_goes_on_when_the_one_before_has_nothing_more_to_start() {
        let mut race = Driver::new(RaceConfig { head_start: Some(Duration::from_millis(40)), ..config() }, 2);
        race.starts(0, 0, 1);
        race.starts(40, 1, 2);
        race.dry(290, 0, true);
        race.starts(290, 1, 3);
        // The first still runs, so it is still there.
        race.ends(300, 1);
        race.starts(300, 1, 4);
        race.waits(300, 550);
    }

    #[test]
    fn a_head_start_is_due_once_also_when_ranks_in_front_are_over() {
        let mut race =
            Driver::new(RaceConfig { head_start: Some(Duration::from_millis(100)), ..config() }, 3);
        race.dry(0, 0, true);
        race.starts(0, 1, 1);
        race.waits(0, 100);
        race.starts(100, 2, 2);
        race.waits(100, 350);
    }

    #[test]
    fn a_head_start_wakes_even_if_nothing_else_would() {
        let mut race = Driver::new(RaceConfig { head_start: Some(Duration::from_millis(40)), ..config() }, 2);
        race.starts(0, 0, 1);
        race.waits(0, 40);
        race.starts(40, 1, 2);
        race.waits(40, 290);
        let mut race =
            Driver::new(RaceConfig { head_start: Some(Duration::from_millis(900)), ..config() }, 2);
        race.starts(0, 0, 1);
        race.dry(250, 0, true);
        race.waits(250, 900);
        race.starts(900, 1, 2);
        race.waits(900, 1150);
    }

    #[test]
    fn an_attempt_expires_by_itself_whatever_the_others_do() {
        let mut race =
            Driver::new(RaceConfig { attempt_timeout: Some(Duration::from_millis(400)), ..config() }, 1);
        race.starts(0, 0, 1);
        race.starts(250, 0, 2);
        race.waits(250, 400);
        race.expects(400, Action::Expire { id: 1 });
        race.ends(400, 1);
        race.starts(400, 0, 3);
        race.waits(400, 650);
        race.expects(650, Action::Expire { id: 2 });
        race.ends(650, 2);
        race.dry(650, 0, true);
        race.waits(650, 800);
        race.expects(800, Action::Expire { id: 3 });
        race.ends(800, 3);
        race.expects(800, Action::Lost);
    }

    #[test]
    fn the_deadline_is_kept_before_all_else() {
        let mut race = Driver::new(
            RaceConfig {
                attempt_timeout: Some(Duration::from_millis(100)),
                deadline: Some(at(100)),
                ..config()
            },
            1,
        );
        race.starts(0, 0, 1);
        race.waits(0, 100);
        race.expects(100, Action::GiveUp);
        race.expects(101, Action::GiveUp);
    }

    #[test]
    fn without_a_delay_one_follows_another() {
        let mut race = Driver::new(RaceConfig { delay: None, ..config() }, 1);
        race.starts(0, 0, 1);
        race.waits(0, None);
        race.waits(1_000_000, None);
        race.ends(1_000_001, 1);
        race.starts(1_000_001, 0, 2);
    }

    #[test]
    fn no_ranks_are_lost_at_once() {
        Driver::new(config(), 0).expects(0, Action::Lost);
    }

    /// The order in which those of these groups come, if each time the first that suits does.
    fn order(groups: &[Option<u32>], first_count: u32) -> Vec<usize> {
        let (mut turns, mut order) = (Turns::default(), Vec::new());
        let mut left: Vec<usize> = (0..groups.len()).collect();
        while !left.is_empty() {
            let suiting = left.iter().position(|&i| turns.suits(groups[i], first_count));
            let i = left.remove(suiting.unwrap_or(0));
            turns.take(groups[i]);
            order.push(i);
        }
        order
    }

    #[test]
    fn groups_take_turns() {
        let (six, four) = (Some(6), Some(4));
        assert_eq!(order(&[six, six, six, four, four], 1), vec![0, 3, 1, 4, 2]);
        assert_eq!(order(&[six, six, six, four, four], 2), vec![0, 1, 3, 2, 4]);
        assert_eq!(order(&[six, six, six, four, four], 3), vec![0, 1, 2, 3, 4]);
        // The first group keeps its privilege only until another has had a turn.
        assert_eq!(order(&[six, four, six, six, four], 2), vec![0, 1, 2, 4, 3]);
        // Those of no group are never held back, and change no turn.
        assert_eq!(order(&[six, None, six, four], 1), vec![0, 1, 3, 2]);
        assert_eq!(order(&[None, None], 1), vec![0, 1]);
    }
}
