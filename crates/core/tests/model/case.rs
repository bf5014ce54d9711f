//! What a random context is: a small program, that prints as one.

use std::fmt;

/// How many endpoint keys there are: the keys of the numbers below this.
pub(crate) const ENDS: usize = 5;
/// How many plain keys there are: the keys of the numbers above.
pub(crate) const PLAIN: usize = 8;
pub(crate) const KEYS: usize = ENDS + PLAIN;

/// The priority and protection (0: clear) of each endpoint key.
pub(crate) const DECLARED: [(Option<i32>, u8); ENDS] =
    [(Some(10), 0), (Some(10), 0), (Some(-5), 1), (None, 0), (Some(5), 2)];

/// What an absent optional argument counts as among the inputs of a closure.
pub(crate) const NOTHING: u64 = u64::MAX;

/// The mark of a value: what guards look at, and what decides whether an endpoint connects.
pub(crate) fn mark(value: u64) -> u8 {
    (value & 3) as u8
}

/// A program that makes contexts; the last is the one under test.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) made: Vec<Made>,
    /// What becomes of connecting an endpoint value of each mark.
    pub(crate) verdicts: [Verdict; 4],
    pub(crate) allow_downgrade: bool,
    pub(crate) policy: Policy,
    /// Values that come over time wait for each other.
    pub(crate) slow: bool,
}

/// What the context under test forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Nothing,
    /// `encrypted_end_to_end`
    Clear,
    /// `only_protocols`, of all but this one.
    Protocol(usize),
}

impl Policy {
    pub(crate) fn forbids(self, end: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Clear => DECLARED[end].1 == 0,
            Self::Protocol(other) => end == other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Connects,
    Refuses,
    /// Ends the resolution.
    Impostor,
}

/// One context: where it starts from, and what is then done to it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) origin: Origin,
    pub(crate) ops: Vec<Op>,
    /// Every step is kept alive, so that each makes an overlay.
    pub(crate) kept: bool,
}

/// The numbers are of earlier contexts, modulo how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Empty,
    Overlay(usize),
    Merge { older: usize, newer: usize },
    Under { ctx: usize, defaults: usize },
}

#[derive(Clone)]
pub(crate) enum Op {
    With { key: usize, mark: u8 },
    Replace { key: usize, mark: u8 },
    Without { key: usize },
    Derive { key: usize, derivation: Derivation },
    Offer { end: usize, priority: Option<i32> },
    Only { end: usize },
}

#[derive(Clone)]
pub(crate) struct Derivation {
    pub(crate) args: Vec<Arg>,
    pub(crate) body: Body,
    /// Pending once before it ends, and once more before the first value if they come over time.
    pub(crate) waits: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arg {
    Req(usize),
    Opt(usize),
    Or(usize, u8),
    Is(usize, u8),
    Dial(usize),
}

impl Arg {
    pub(crate) fn key(self) -> usize {
        match self {
            Self::Req(key) | Self::Opt(key) | Self::Or(key, _) | Self::Is(key, _) | Self::Dial(key) => key,
        }
    }
}

/// What a closure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Yields,
    Declines,
    Fails,
    /// Yields, declines or fails, by its inputs.
    Depends,
    /// So many values.
    Many(usize),
    /// So many values, over time, of which some can't be had.
    Stream(usize),
    /// Up to so many values, by its inputs.
    UpTo(usize),
}

/// What a closure ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Yields(u64),
    Declines,
    Fails,
    /// Of values that come over time, some can't be had.
    Many(Vec<Had>),
}

/// What became of something that was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Had {
    Value(u64),
    Absent,
    Failed,
}

impl Body {
    /// What the closure of the binding of this number ends with on these inputs.
    pub(crate) fn end(self, binding: usize, inputs: &[u64]) -> End {
        let value = |i| made_up(binding, inputs, i);
        let many = |n| End::Many((0..n).map(value).map(Had::Value).collect());
        let spotty = |i| match made_up(binding, inputs, 2000 + i) >> 8 & 7 {
            0 => Had::Absent,
            1 => Had::Failed,
            _ => Had::Value(value(i)),
        };
        match self {
            Self::Yields => End::Yields(value(0)),
            Self::Declines => End::Declines,
            Self::Fails => End::Fails,
            Self::Depends => match made_up(binding, inputs, 1000) >> 8 & 3 {
                0 => End::Declines,
                1 => End::Fails,
                _ => End::Yields(value(0)),
            },
            Self::Many(n) => many(n),
            Self::Stream(n) => End::Many((0..n).map(spotty).collect()),
            Self::UpTo(n) => many((made_up(binding, inputs, 1000) >> 8) as usize % (n + 1)),
        }
    }

    /// Whether it is bound with `derive_many`.
    pub(crate) fn is_many(self) -> bool {
        matches!(self, Self::Many(_) | Self::Stream(_) | Self::UpTo(_))
    }
}

/// The value that the binding of this number holds, if its mark is `mark`.
pub(crate) fn bound(binding: usize, mark: u8) -> u64 {
    (binding as u64 + 1) << 2 | u64::from(mark)
}

/// A value that shows all that it was made from. Mark 0 is as frequent as the others together.
fn made_up(binding: usize, inputs: &[u64], i: usize) -> u64 {
    let mut hash = 0x243F_6A88_85A3_08D3_u64;
    for word in [binding as u64, i as u64].iter().chain(inputs) {
        hash = (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
    }
    let mark = [0, 0, 0, 0, 1, 1, 2, 3][(hash >> 40 & 7) as usize];
    (hash & 0xFFFF_FFFF) << 2 | mark
}

impl Case {
    /// The number of the binding that the op `op` of the context `made` makes.
    pub(crate) fn binding(made: usize, op: usize) -> usize {
        made * 100 + op
    }

    /// Nothing connects and nothing is refused, so that all candidates are tried, whatever comes
    /// first of values that come slowly.
    pub(crate) fn slow_and_in_vain(&self) -> Self {
        let verdicts = [Verdict::Refuses; 4];
        Self { verdicts, allow_downgrade: true, policy: Policy::Nothing, slow: true, ..self.clone() }
    }

    /// Offers of different keys, between which nothing is excluded, trade places: this must not
    /// matter.
    pub(crate) fn with_offers_moved(&self) -> Self {
        let mut case = self.clone();
        for made in &mut case.made {
            let is_offer = |op: &Op| matches!(op, Op::Offer { .. } | Op::Only { .. });
            let places: Vec<usize> = (0..made.ops.len()).filter(|i| is_offer(&made.ops[*i])).collect();
            let mut offers: Vec<Op> = places.iter().map(|i| made.ops[*i].clone()).collect();
            for run in offers.split_mut(|op| matches!(op, Op::Only { .. })) {
                // Stable: of two offers of one key, the later counts.
                run.sort_by_key(|op| match op {
                    Op::Offer { end, .. } => std::cmp::Reverse(*end),
                    _ => std::cmp::Reverse(0),
                });
            }
            for (place, offer) in places.into_iter().zip(offers) {
                made.ops[place] = offer;
            }
        }
        case
    }
}

impl Origin {
    /// Which earlier contexts it starts from, if this is the context of number `made`.
    pub(crate) fn of(self, made: usize) -> Self {
        if made == 0 {
            return Self::Empty;
        }
        match self {
            Self::Empty => Self::Empty,
            Self::Overlay(i) => Self::Overlay(i % made),
            Self::Merge { older, newer } => Self::Merge { older: older % made, newer: newer % made },
            Self::Under { ctx, defaults } => Self::Under { ctx: ctx % made, defaults: defaults % made },
        }
    }
}

pub(crate) fn name(key: usize) -> String {
    if key < ENDS { format!("e{key}") } else { format!("k{}", key - ENDS) }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, made) in self.made.iter().enumerate() {
            write!(f, "let c{i} = ")?;
            match made.origin.of(i) {
                Origin::Empty => f.write_str("Context::new()")?,
                Origin::Overlay(base) => write!(f, "c{base}.clone()")?,
                Origin::Merge { older, newer } => write!(f, "c{older}.merge(c{newer})")?,
                Origin::Under { ctx, defaults } => write!(f, "c{ctx}.under(c{defaults})")?,
            }
            for (j, op) in made.ops.iter().enumerate() {
                let id = Self::binding(i, j);
                write!(f, "\n    ")?;
                match op {
                    Op::With { key, mark } => write!(f, ".with({}, {})", name(*key), bound(id, *mark))?,
                    Op::Replace { key, mark } => write!(f, ".replace({}, {})", name(*key), bound(id, *mark))?,
                    op => write!(f, "{op:?}")?,
                }
                write!(f, " // #{id}")?;
            }
            writeln!(f, ";{}", if made.kept { " // each step kept" } else { "" })?;
        }
        if self.allow_downgrade {
            writeln!(f, "// and, over it all, ALLOW_DOWNGRADE")?;
        }
        match self.policy {
            Policy::Nothing => {}
            Policy::Clear => writeln!(f, "// and a POLICY that forbids clear transports")?,
            Policy::Protocol(end) => writeln!(f, "// and a POLICY that forbids {}", name(end))?,
        }
        if self.slow {
            writeln!(f, "// each value of a Stream after a wait")?;
        }
        writeln!(f, "// endpoints by mark (value & 3): {:?}", self.verdicts)
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::With { key, mark } => write!(f, ".with({}, Mark({mark}))", name(*key)),
            Self::Replace { key, mark } => write!(f, ".replace({}, Mark({mark}))", name(*key)),
            Self::Without { key } => write!(f, ".without({})", name(*key)),
            Self::Derive { key, derivation } => write!(f, ".derive({}, {derivation:?})", name(*key)),
            Self::Offer { end, priority: None } => write!(f, ".offer({})", name(*end)),
            Self::Offer { end, priority: Some(at) } => write!(f, ".offer_at({}, {at})", name(*end)),
            Self::Only { end } => write!(f, ".only({})", name(*end)),
        }
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(|arg| format!("{arg:?}")).collect();
        write!(f, "({}), {:?}{}", args.join(", "), self.body, if self.waits { " after a wait" } else { "" })
    }
}

impl fmt::Debug for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Req(key) => write!(f, "req({})", name(*key)),
            Self::Opt(key) => write!(f, "opt({})", name(*key)),
            Self::Or(key, default) => write!(f, "or({}, {default})", name(*key)),
            Self::Is(key, mark) => write!(f, "is({}, Mark({mark}))", name(*key)),
            Self::Dial(key) => write!(f, "dial({})", name(*key)),
        }
    }
}
