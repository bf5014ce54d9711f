//! What must come of a case: slow, and as near to the words of the rules as code can be.
//!
//! Nothing here waits, nothing races, nothing is indexed; a candidate is walked anew, from its
//! binding down, for each set of choices.

use std::collections::{BTreeMap, BTreeSet};

use crate::case::{
    Arg, Body, Case, DECLARED, Derivation, End, Had, NOTHING, Op, Origin, Verdict, bound, mark,
};
use crate::keys::Event;
use crate::tally::Features;

/// At most so many choices of one binding become candidates (rule 3).
const FORKS: usize = 64;

/// What the last context of a case holds.
#[derive(Clone, Default)]
pub(crate) struct World {
    /// Oldest first.
    entries: Vec<Entry>,
    /// The offered endpoint keys and their priorities.
    pub(crate) offers: BTreeMap<usize, Option<i32>>,
}

#[derive(Clone, PartialEq)]
struct Entry {
    binding: usize,
    key: usize,
    what: What,
    /// Hides what is older.
    hides: bool,
}

#[derive(Clone)]
pub(crate) enum What {
    Value(u64),
    Derivation(Derivation),
    Nothing,
}

impl PartialEq for What {
    /// Entries are compared by the number of their binding.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A binding that can be seen.
#[derive(Clone, Copy)]
pub(crate) struct Bound<'w> {
    pub(crate) binding: usize,
    pub(crate) key: usize,
    pub(crate) what: &'w What,
    place: usize,
}

impl World {
    pub(crate) fn of(case: &Case, features: &mut Features) -> Self {
        let mut made: Vec<Self> = Vec::new();
        for (i, step) in case.made.iter().enumerate() {
            let mut world = match step.origin.of(i) {
                Origin::Empty => Self::default(),
                Origin::Overlay(base) => made[base].clone(),
                Origin::Merge { older, newer } => made[older].merge(&made[newer], features),
                Origin::Under { ctx, defaults } => made[defaults].merge(&made[ctx], features),
            };
            match step.origin.of(i) {
                Origin::Overlay(_) => features.saw("overlay"),
                Origin::Merge { .. } => features.saw("merge"),
                Origin::Under { .. } => features.saw("defaults put under"),
                Origin::Empty => {}
            }
            if step.kept && step.ops.len() > 12 {
                features.saw("overlay of an overlay, a dozen deep");
            }
            for (j, op) in step.ops.iter().enumerate() {
                world.apply(op, Case::binding(i, j), features);
            }
            made.push(world);
        }
        made.pop().unwrap_or_default()
    }

    fn apply(&mut self, op: &Op, binding: usize, features: &mut Features) {
        let (key, what, hides) = match *op {
            Op::With { key, mark } => (key, What::Value(bound(binding, mark)), false),
            Op::Replace { key, mark } => (key, What::Value(bound(binding, mark)), true),
            Op::Without { key } => (key, What::Nothing, true),
            Op::Derive { key, ref derivation } => (key, What::Derivation(derivation.clone()), false),
            Op::Offer { end, priority } => {
                self.offers.insert(end, priority.or(DECLARED[end].0));
                return;
            }
            Op::Only { end } => {
                if self.offers.keys().any(|other| *other != end) {
                    features.saw("only");
                }
                self.offers.retain(|other, _| *other == end);
                return;
            }
        };
        if hides && !self.bindings(key).is_empty() {
            features.saw(if matches!(what, What::Nothing) { "without hides" } else { "replace hides" });
        }
        self.entries.push(Entry { binding, key, what, hides });
    }

    /// `newer` over this. What both hold keeps its newest place.
    fn merge(&self, newer: &Self, features: &mut Features) -> Self {
        let held = |entry: &Entry| !matches!(entry.what, What::Nothing) && newer.entries.contains(entry);
        if self.entries.iter().any(held) {
            features.saw("merge of what both hold");
        }
        let mut entries: Vec<Entry> = self.entries.iter().filter(|entry| !held(entry)).cloned().collect();
        entries.extend(newer.entries.iter().cloned());
        let mut offers = self.offers.clone();
        offers.extend(&newer.offers);
        Self { entries, offers }
    }

    /// The bindings of `key` that nothing hides, newest first.
    pub(crate) fn bindings(&self, key: usize) -> Vec<Bound<'_>> {
        let mut bindings = Vec::new();
        for (place, entry) in self.entries.iter().enumerate().rev().filter(|(_, entry)| entry.key == key) {
            if matches!(entry.what, What::Nothing) {
                break;
            }
            bindings.push(Bound { binding: entry.binding, key, what: &entry.what, place });
            if entry.hides {
                break;
            }
        }
        bindings
    }

    /// The bindings of all offered endpoint keys: by priority, none last, then newest first.
    pub(crate) fn roots(&self) -> Vec<Bound<'_>> {
        let mut roots: Vec<Bound<'_>> = self.offers.keys().flat_map(|end| self.bindings(*end)).collect();
        roots.sort_by_key(|root| {
            let priority = self.offers[&root.key].map_or(i64::MAX, i64::from);
            (priority, std::cmp::Reverse(root.place))
        });
        roots
    }
}

/// The choices that an outcome saw: which of its values each many-valued derivation stood for.
type Seen = BTreeMap<usize, usize>;

/// What is remembered between walks: what ran, on which choices, and how it ended.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) events: Vec<Event>,
    ran: BTreeMap<(usize, Seen), (Vec<u64>, End)>,
}

/// One walk down from a binding or a key, with the choices fixed.
pub(crate) struct Walk<'w, 's> {
    world: &'w World,
    session: &'s mut Session,
    features: &'s mut Features,
    /// Fixed so far; beyond them, each is the first.
    choices: Vec<usize>,
    /// How many values there were at each choice that was met.
    met: Vec<usize>,
    done: BTreeMap<usize, (Had, Seen)>,
    path: Vec<usize>,
    /// What each key was found to be.
    pub(crate) read: BTreeMap<usize, Had>,
}

impl<'w, 's> Walk<'w, 's> {
    pub(crate) fn new(world: &'w World, session: &'s mut Session, features: &'s mut Features) -> Self {
        Self {
            world,
            session,
            features,
            choices: Vec::new(),
            met: Vec::new(),
            done: BTreeMap::new(),
            path: Vec::new(),
            read: BTreeMap::new(),
        }
    }

    /// The first binding that yields, newest first; absence falls through, failure doesn't (rule 2).
    pub(crate) fn lookup(&mut self, key: usize) -> (Had, Seen) {
        let mut seen = Seen::new();
        let mut had = Had::Absent;
        let bindings = self.world.bindings(key);
        for (i, bound) in bindings.iter().enumerate() {
            let (this, saw) = self.binding(*bound);
            seen.extend(saw);
            had = this;
            match had {
                Had::Absent => continue,
                Had::Value(_) if i > 0 => self.features.saw("fall-through to an older binding"),
                Had::Failed if i + 1 < bindings.len() => self.features.saw("an error hides an older binding"),
                _ => {}
            }
            break;
        }
        self.read.insert(key, had);
        (had, seen)
    }

    fn binding(&mut self, bound: Bound<'w>) -> (Had, Seen) {
        let derivation = match bound.what {
            What::Value(value) => return (Had::Value(*value), Seen::new()),
            What::Nothing => return (Had::Absent, Seen::new()),
            What::Derivation(derivation) => derivation,
        };
        if let Some(done) = self.done.get(&bound.binding) {
            self.features.saw("diamond");
            return done.clone();
        }
        if self.path.contains(&bound.binding) {
            // What waits for a failure fails: so does, back along the path, the whole cycle.
            self.features.saw("cycle");
            return (Had::Failed, Seen::new());
        }
        self.path.push(bound.binding);
        let done = self.derivation(bound.binding, derivation);
        self.path.pop();
        self.done.insert(bound.binding, done.clone());
        done
    }

    fn derivation(&mut self, binding: usize, derivation: &Derivation) -> (Had, Seen) {
        let mut seen = Seen::new();
        let mut inputs = Vec::new();
        for arg in &derivation.args {
            let (had, saw) = self.lookup(arg.key());
            seen.extend(saw);
            if had == Had::Failed && matches!(arg, Arg::Opt(_) | Arg::Or(..)) {
                self.features.saw("opt and or don't fall back on an error");
            }
            match (*arg, had) {
                (_, Had::Failed) => return (Had::Failed, seen),
                (Arg::Req(_) | Arg::Is(..) | Arg::Dial(_), Had::Absent) => {
                    self.features.saw("missing requirement");
                    return (Had::Absent, seen);
                }
                (Arg::Opt(_), Had::Absent) => {
                    self.features.saw("opt falls back");
                    inputs.push(NOTHING);
                }
                (Arg::Or(_, default), Had::Absent) => {
                    self.features.saw("or falls back");
                    inputs.push(default.into());
                }
                (Arg::Is(_, wanted), Had::Value(value)) if mark(value) != wanted => {
                    self.features.saw("guard declines");
                    return (Had::Absent, seen);
                }
                (Arg::Is(..), Had::Value(_)) => self.features.saw("guard passes"),
                (Arg::Dial(_), Had::Value(value)) => {
                    self.features.saw("dial");
                    inputs.push(value);
                }
                (_, Had::Value(value)) => inputs.push(value),
            }
        }
        match self.run(binding, derivation, &seen, inputs) {
            End::Yields(value) => (Had::Value(value), seen),
            End::Declines => (Had::Absent, seen),
            End::Fails => (Had::Failed, seen),
            End::Many(values) => match values[..] {
                [] => (Had::Absent, seen),
                [had] => (had, seen),
                _ => {
                    let choice = self.choices.get(self.met.len()).copied().unwrap_or(0);
                    self.met.push(values.len());
                    seen.insert(binding, choice);
                    (values[choice], seen)
                }
            },
        }
    }

    /// At most once for the choices that it saw (rule 5).
    fn run(&mut self, binding: usize, derivation: &Derivation, seen: &Seen, inputs: Vec<u64>) -> End {
        if let Some((on, end)) = self.session.ran.get(&(binding, seen.clone())) {
            assert_eq!(*on, inputs, "the model: equal choices, different inputs");
            self.features.saw("outcome reused by another candidate");
            return end.clone();
        }
        let end = derivation.body.end(binding, &inputs);
        self.features.saw(match &end {
            End::Yields(_) => "derivation yields",
            End::Declines => "derivation declines",
            End::Fails => "derivation fails",
            End::Many(values) if values.len() >= 2 => "derivation yields many",
            End::Many(_) => "many-valued derivation yields one or none",
        });
        if derivation.waits {
            self.features.saw("derivation waits");
        }
        if let Body::Stream(2..) = derivation.body {
            self.features.saw("values over time");
        }
        self.session.events.push(Event::Ran { binding, inputs: inputs.clone() });
        self.session.ran.insert((binding, seen.clone()), (inputs, end.clone()));
        end
    }

    /// The choices of the next candidate: the last met that has another value takes it.
    fn next(&self) -> Option<Vec<usize>> {
        let mut choices: Vec<usize> = self.choices.iter().copied().take(self.met.len()).collect();
        choices.resize(self.met.len(), 0);
        while let Some(last) = choices.pop() {
            if last + 1 < self.met[choices.len()] {
                choices.push(last + 1);
                return Some(choices);
            }
        }
        None
    }
}

/// How a candidate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Connected,
    Absent,
    Failed,
    Refused,
    NotTried,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) binding: usize,
    pub(crate) key: usize,
    pub(crate) endpoint: Option<u64>,
    pub(crate) class: Class,
}

/// What a resolution comes to.
#[derive(Default)]
pub(crate) struct Resolution {
    pub(crate) candidates: Vec<Tried>,
    pub(crate) events: Vec<Event>,
    pub(crate) winner: Option<Won>,
    /// The endpoint keys of the bindings that had more choices than candidates.
    pub(crate) over_limit: Vec<usize>,
}

pub(crate) struct Won {
    pub(crate) candidate: usize,
    pub(crate) value: u64,
    /// What it found each key to be that it looked up.
    pub(crate) read: BTreeMap<usize, Had>,
}

/// Resolves the context of `case`; `connecting`, or for `unfold`, only the endpoints.
pub(crate) fn resolve(case: &Case, world: &World, connecting: bool, features: &mut Features) -> Resolution {
    let mut session = Session::default();
    let mut done = Resolution::default();
    let mut protected = 0;
    let mut over = false;
    let mut ranks = BTreeSet::new();
    for root in world.roots() {
        let (priority, protection) = (world.offers[&root.key], DECLARED[root.key].1);
        let tried = |endpoint, class| Tried { binding: root.binding, key: root.key, endpoint, class };
        // A bound value is known, tried or not.
        let known = match root.what {
            What::Value(value) => Some(*value),
            _ => None,
        };
        if over {
            done.candidates.push(tried(known, Class::NotTried));
            features.saw("not tried");
            continue;
        }
        let downgrade = protection < protected && !case.allow_downgrade;
        if downgrade || case.policy.forbids(root.key) {
            features.saw(if downgrade { "downgrade refused" } else { "policy forbids" });
            done.candidates.push(tried(known, Class::Refused));
            continue;
        }
        if protection < protected && case.allow_downgrade {
            features.saw("downgrade allowed");
        }
        if ranks.iter().any(|(rank, key)| *rank == priority && *key != root.key) {
            features.saw("priority tie");
        }
        ranks.insert((priority, root.key));
        let mut choices = Some(Vec::new());
        let mut first = None;
        for fork in 0..FORKS {
            let Some(fixed) = choices else { break };
            let mut walk = Walk::new(world, &mut session, features);
            walk.choices = fixed;
            let (had, _) = walk.binding(root);
            choices = walk.next();
            let read = std::mem::take(&mut walk.read);
            let (endpoint, class) = match had {
                Had::Absent => (None, Class::Absent),
                Had::Failed => (None, Class::Failed),
                Had::Value(value) if !connecting => (Some(value), Class::NotTried),
                Had::Value(value) => {
                    session.events.push(Event::Dialled { key: root.key, value });
                    let verdict = case.verdicts[usize::from(mark(value))];
                    if verdict == Verdict::Connects {
                        let candidate = done.candidates.len();
                        done.winner = Some(Won { candidate, value, read });
                    }
                    over = verdict != Verdict::Refuses;
                    features.saw(match verdict {
                        Verdict::Connects => "connects",
                        Verdict::Refuses => "refused connection",
                        Verdict::Impostor => "verification ends it",
                    });
                    (Some(value), if verdict == Verdict::Connects { Class::Connected } else { Class::Failed })
                }
            };
            if class != Class::Absent {
                protected = protected.max(protection);
            }
            if fork > 0 {
                features.saw("choice forks");
            }
            if *first.get_or_insert(class) != class {
                features.saw("a fork ends unlike the first");
            }
            done.candidates.push(tried(endpoint, class));
            if fork + 1 == FORKS {
                let more = choices.is_some();
                features.saw(if more {
                    "more choices than candidates"
                } else {
                    "as many choices as candidates"
                });
                done.over_limit.extend(more.then_some(root.key));
            }
            if over {
                break;
            }
        }
    }
    features.saw(match done.winner {
        _ if done.candidates.is_empty() => "no candidate",
        Some(_) => "a winner",
        None => "no winner",
    });
    done.events = session.events;
    done
}
