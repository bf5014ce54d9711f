//! What can be tried: the bindings of the offered keys, their forks, and the attempts at them.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::time::Duration;

use super::memo::{Choice, Found};
use super::walk::Walk;
use crate::context::{Context, EntryId};
use crate::race::Turns;
use crate::{ConnectError, Instant};

/// How many choices one binding may fork into.
pub(super) const MAX_FORKS: u32 = 64;

/// A binding of an offered endpoint key.
#[derive(Clone, Copy)]
pub(super) struct Root {
    pub(super) entry: EntryId,
    /// Its offer, as an index into the context's.
    pub(super) offer: u32,
    pub(super) rank: u32,
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
pub(super) struct Forks {
    pub(super) root: u32,
    /// The deepest last: each varies one choice and gives what comes before it.
    pub(super) levels: Vec<Level>,
    /// Attempts that have an endpoint, but of a group whose turn it is not.
    pub(super) parked: Vec<u32>,
    /// How many are under way that may open new levels.
    pub(super) walking: u32,
    pub(super) made: u32,
    pub(super) turns: Turns,
}

pub(super) struct Level {
    pub(super) before: Vec<Choice>,
    pub(super) outcome: u32,
    pub(super) next: u32,
}

/// One candidate that has had its turn.
pub(super) struct Attempt {
    pub(super) root: u32,
    /// The endpoint, once its walk is done.
    pub(super) found: Found,
    /// What its root ended with, if that is a derivation.
    pub(super) outcome: Option<u32>,
    pub(super) state: AttemptState,
    pub(super) group: Option<u32>,
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

impl Forks {
    pub(super) fn new(root: u32) -> Self {
        let (levels, parked) = (Vec::new(), Vec::new());
        Self { root, levels, parked, walking: 0, made: 1, turns: Turns::default() }
    }

    /// The choices that `walk` met, and was not given, fork; even while it waits for what depends
    /// on them.
    pub(super) fn open(&mut self, walk: &mut Walk) {
        for (i, choice) in walk.choices.iter().enumerate().skip(walk.given) {
            let before = walk.choices[..i].to_vec();
            self.levels.push(Level { before, outcome: choice.outcome, next: 1 });
        }
        walk.given = walk.choices.len();
    }
}

/// All bindings of all offered keys in order, and how many ranks there are.
pub(super) fn roots(ctx: &Context) -> (Vec<Root>, u32) {
    let offers = ctx.offers();
    let mut roots: Vec<Root> = Vec::with_capacity(offers.len());
    let (mut rank, mut start) = (0, 0);
    let sort = |roots: &mut [Root]| {
        if roots.len() > 1 {
            roots.sort_unstable_by_key(|root| root.entry);
        }
    };
    for (i, offer) in offers.iter().enumerate() {
        if i > 0 && offer.rank() != offers[i - 1].rank() && roots.len() > start {
            sort(&mut roots[start..]);
            (rank, start) = (rank + 1, roots.len());
        }
        for (entry, _) in ctx.bindings(offer.key()) {
            roots.push(Root { entry, offer: i as u32, rank, turn: Turn::NotYet });
        }
    }
    sort(&mut roots[start..]);
    let ranks = roots.last().map_or(0, |root| root.rank + 1);
    (roots, ranks)
}
