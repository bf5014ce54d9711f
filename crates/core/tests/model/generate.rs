//! Makes cases up, such that about half of them connect and nothing is rare.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::case::{Arg, Body, Case, Derivation, ENDS, KEYS, Made, Op, Origin, PLAIN, Policy, Verdict};

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let verdict = prop_oneof![
        5 => Just(Verdict::Refuses),
        5 => Just(Verdict::Connects),
        1 => Just(Verdict::Impostor),
    ];
    let last = (made(6, 18), some(offer(), 2, 5), option::weighted(0.08, 0..ENDS));
    let last = last.prop_map(|(mut made, offers, only)| {
        made.ops.extend(offers);
        made.ops.extend(only.map(|end| Op::Only { end }));
        made
    });
    // What the first context begins with, under all else: or else most would miss something.
    let ground = proptest::array::uniform8(option::weighted(0.65, mark()));
    let rest = (vec(made(0, 12), 0..=3), ground);
    let policy = prop_oneof![
        7 => Just(Policy::Nothing),
        1 => Just(Policy::Clear),
        1 => (0..ENDS).prop_map(Policy::Protocol),
    ];
    let verdicts = proptest::array::uniform4(verdict);
    (rest, last, verdicts, prop::bool::weighted(0.45), policy).prop_map(
        |((mut made, ground), last, verdicts, allow_downgrade, policy)| {
            made.push(last);
            let ground = (ENDS..KEYS).zip(ground);
            let ground = ground.filter_map(|(key, mark)| Some(Op::With { key, mark: mark? }));
            made[0].ops.splice(..0, ground);
            Case { made, verdicts, allow_downgrade, policy, slow: false }
        },
    )
}

fn made(at_least: usize, at_most: usize) -> impl Strategy<Value = Made> {
    let origin = prop_oneof![
        1 => Just(Origin::Empty),
        8 => (0..4usize).prop_map(Origin::Overlay),
        3 => (0..4usize, 0..4usize).prop_map(|(older, newer)| Origin::Merge { older, newer }),
        2 => (0..4usize, 0..4usize).prop_map(|(ctx, defaults)| Origin::Under { ctx, defaults }),
    ];
    (origin, some(op(), at_least, at_most), prop::bool::weighted(0.15)).prop_map(|(origin, ops, kept)| Made {
        origin,
        ops,
        kept,
    })
}

/// About so many; shrinks to none.
fn some(op: impl Strategy<Value = Op>, at_least: usize, at_most: usize) -> impl Strategy<Value = Vec<Op>> {
    vec((op, prop::bool::weighted(0.99)), at_least..=at_most)
        .prop_map(|ops| ops.into_iter().filter_map(|(op, taken)| taken.then_some(op)).collect())
}

fn op() -> impl Strategy<Value = Op> {
    let plain = || ENDS..KEYS;
    // Values are at the bottom of what depends on what.
    let low = prop_oneof![1 => plain(), 2 => ENDS + PLAIN / 2..KEYS];
    prop_oneof![
        6 => (low, mark()).prop_map(|(key, mark)| Op::With { key, mark }),
        1 => (0..ENDS, mark()).prop_map(|(key, mark)| Op::With { key, mark }),
        1 => (0..KEYS, mark()).prop_map(|(key, mark)| Op::Replace { key, mark }),
        1 => (0..KEYS).prop_map(|key| Op::Without { key }),
        9 => derive(0..ENDS),
        3 => derive(0..ENDS).prop_map(Op::with_too_many_values),
        9 => derive(plain()),
        2 => offer(),
    ]
}

fn offer() -> impl Strategy<Value = Op> {
    let priority = prop_oneof![
        6 => Just(None),
        3 => Just(Some(10)),
        1 => prop_oneof![Just(Some(i32::MIN)), Just(Some(-5)), Just(Some(i32::MAX))],
    ];
    (0..ENDS, priority).prop_map(|(end, priority)| Op::Offer { end, priority })
}

fn derive(keys: std::ops::Range<usize>) -> impl Strategy<Value = Op> {
    let args = prop_oneof![1 => vec(raw_arg(), 0..=1), 6 => vec(raw_arg(), 1..=3)];
    (keys, args, body(), prop::bool::weighted(0.2)).prop_map(|(key, raw, body, waits)| {
        let mut args: Vec<Arg> = raw.into_iter().map(|raw| raw.of(key)).collect();
        if args.len() == 3 {
            // What `build` can bind: see there.
            args[1] = match args[1] {
                Arg::Opt(key) => Arg::Req(key),
                Arg::Dial(end) => Arg::Req(ENDS + end),
                arg => arg,
            };
            args[2] = match args[2] {
                Arg::Or(key, _) | Arg::Is(key, _) => Arg::Opt(key),
                arg => arg,
            };
        }
        Op::Derive { key, derivation: Derivation { args, body, waits } }
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        7 => Just(Body::Yields),
        1 => Just(Body::Declines),
        1 => Just(Body::Fails),
        3 => Just(Body::Depends),
        3 => (0..=4usize).prop_map(Body::Many),
        3 => prop_oneof![1 => Just(8), 1 => Just(64), 2 => Just(70)].prop_map(Body::Many),
        2 => (0..=4usize).prop_map(Body::Stream),
        1 => Just(Body::UpTo(3)),
    ]
}

/// Mark 0 more often than the others, so that guards pass.
fn mark() -> impl Strategy<Value = u8> {
    prop_oneof![5 => Just(0u8), 3 => 1..4u8]
}

impl Op {
    /// More values than there may be candidates.
    fn with_too_many_values(mut self) -> Self {
        if let Self::Derive { derivation, .. } = &mut self {
            derivation.body = Body::Many(70);
        }
        self
    }
}

/// An argument whose key is relative to what it is an argument of.
#[derive(Clone, Copy, Debug)]
struct RawArg {
    kind: u8,
    /// How far down; most arguments are further down than what depends on them.
    down: usize,
    /// Anywhere else: cycles come of this.
    anywhere: bool,
    mark: u8,
}

fn raw_arg() -> impl Strategy<Value = RawArg> {
    (0..10u8, 0..KEYS, prop::bool::weighted(0.1), mark()).prop_map(|(kind, down, anywhere, mark)| RawArg {
        kind,
        down,
        anywhere,
        mark,
    })
}

impl RawArg {
    fn of(self, dependent: usize) -> Arg {
        let below = KEYS - 1 - dependent;
        let key = match self.anywhere || below == 0 {
            true => self.down,
            false => dependent + 1 + self.down % below,
        };
        match self.kind {
            _ if key < ENDS => Arg::Dial(key),
            0..=3 => Arg::Req(key),
            4..=5 => Arg::Opt(key),
            6..=7 => Arg::Or(key, self.mark),
            _ => Arg::Is(key, self.mark),
        }
    }
}
