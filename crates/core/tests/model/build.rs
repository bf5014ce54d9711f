//! Makes a real context of a case.

use std::task::Poll;

use tuyau_core::names::{ALLOW_DOWNGRADE, POLICY};
use tuyau_core::{
    AnyEndpoint, Args, BoxFuture, Context, Dial, Key, Many, Stop, decline, dial, is, opt, or, req,
};

use crate::case::{Arg, Body, Case, Derivation, ENDS, End, Had, NOTHING, Op, Origin, Policy, bound, mark};
use crate::keys::{Event, Log, Peer, Pool, once_pending};

/// The last context of `case`. Whatever its closures and protocols do, they write to `log`.
pub(crate) fn build(case: &Case, pool: &'static Pool, log: &Log) -> Context {
    let mut made: Vec<Context> = Vec::new();
    let mut kept: Vec<Context> = Vec::new();
    for (i, step) in case.made.iter().enumerate() {
        let mut ctx = match step.origin.of(i) {
            Origin::Empty => Context::new(),
            Origin::Overlay(base) => made[base].clone(),
            Origin::Merge { older, newer } => made[older].clone().merge(made[newer].clone()),
            Origin::Under { ctx, defaults } => made[ctx].clone().under(made[defaults].clone()),
        };
        for (j, op) in step.ops.iter().enumerate() {
            ctx = Builder { case, pool, log, binding: Case::binding(i, j) }.apply(ctx, op);
            if step.kept {
                kept.push(ctx.clone());
            }
        }
        made.push(ctx);
    }
    let ctx = made.pop().unwrap_or_default();
    let ctx = if case.allow_downgrade { ctx.with(&ALLOW_DOWNGRADE, true) } else { ctx };
    let nothing = tuyau_core::Policy::new();
    match case.policy {
        Policy::Nothing => ctx,
        Policy::Clear => ctx.with(&POLICY, nothing.encrypted_end_to_end()),
        Policy::Protocol(end) => {
            let others = (0..ENDS).filter(|other| *other != end).map(|other| pool.ends[other].key_ref());
            ctx.with(&POLICY, nothing.only_protocols(others))
        }
    }
}

struct Builder<'a> {
    case: &'a Case,
    pool: &'static Pool,
    log: &'a Log,
    binding: usize,
}

impl Builder<'_> {
    fn apply(&self, ctx: Context, op: &Op) -> Context {
        let Self { pool, binding, .. } = *self;
        match *op {
            Op::With { key, mark } if key < ENDS => {
                ctx.with(pool.ends[key], self.peers(key).make(bound(binding, mark)))
            }
            Op::With { key, mark } => ctx.with(self.plain(key), bound(binding, mark)),
            Op::Replace { key, mark } if key < ENDS => {
                ctx.replace(pool.ends[key], self.peers(key).make(bound(binding, mark)))
            }
            Op::Replace { key, mark } => ctx.replace(self.plain(key), bound(binding, mark)),
            Op::Without { key } if key < ENDS => ctx.without(pool.ends[key]),
            Op::Without { key } => ctx.without(self.plain(key)),
            Op::Derive { key, ref derivation } => {
                let (derivation, log, slow) = (derivation.clone(), self.log.clone(), self.case.slow);
                let run = Run { binding, derivation, log, pool, slow };
                if key < ENDS {
                    self.derive(ctx, pool.ends[key], self.peers(key), run)
                } else {
                    self.derive(ctx, self.plain(key), Numbers, run)
                }
            }
            Op::Offer { end, priority: None } => ctx.offer(pool.ends[end]),
            Op::Offer { end, priority: Some(at) } => ctx.offer_at(pool.ends[end], at),
            Op::Only { end } => ctx.only(pool.ends[end]),
        }
    }

    fn plain(&self, key: usize) -> &'static Key<u64> {
        self.pool.plain[key - ENDS]
    }

    fn peers(&self, key: usize) -> Peers {
        Peers { key, case: self.case.clone(), log: self.log.clone() }
    }

    /// Arguments are typed, and a case chooses theirs at run time: so every combination is
    /// spelled out here, up to two arguments, and for three those with which layers are written.
    fn derive<V: Values>(&self, ctx: Context, key: &'static Key<V::Value>, values: V, run: Run) -> Context {
        /// Goes on with the typed form of an argument, if it is of one of the kinds named.
        macro_rules! typed {
            ($arg:expr, [$($kind:ident)*], $x:ident => $then:expr) => {
                match $arg {
                    $(typed!(@pattern $kind key value) => { let $x = typed!(@typed $kind key value); $then })*
                    #[allow(unreachable_patterns)]
                    other => unreachable!("{other:?} is not generated here"),
                }
            };
            (@pattern Req $key:ident $value:ident) => { Arg::Req($key) };
            (@pattern Opt $key:ident $value:ident) => { Arg::Opt($key) };
            (@pattern Or $key:ident $value:ident) => { Arg::Or($key, $value) };
            (@pattern Is $key:ident $value:ident) => { Arg::Is($key, $value) };
            (@pattern Dial $key:ident $value:ident) => { Arg::Dial($key) };
            (@typed Req $key:ident $value:ident) => { req(self.plain($key)) };
            (@typed Opt $key:ident $value:ident) => { opt(self.plain($key)) };
            (@typed Or $key:ident $value:ident) => { or(self.plain($key), u64::from($value)) };
            (@typed Is $key:ident $value:ident) => { is(self.plain($key), Mark($value)) };
            (@typed Dial $key:ident $value:ident) => { dial(self.pool.ends[$key]) };
        }
        match *run.derivation.args.as_slice() {
            [] => bind(ctx, key, (), values, run),
            [a] => typed!(a, [Req Opt Or Is Dial], a => bind(ctx, key, a, values, run)),
            [a, b] => typed!(a, [Req Opt Or Is Dial], a => typed!(b, [Req Opt Or Is Dial], b =>
                bind(ctx, key, (a, b), values, run))),
            [a, b, c] => typed!(a, [Req Opt Or Is Dial], a => typed!(b, [Req Or Is], b =>
                typed!(c, [Req Opt Dial], c => bind(ctx, key, (a, b, c), values, run)))),
            _ => unreachable!("no more than three arguments are generated"),
        }
    }
}

fn bind<A, V>(ctx: Context, key: &'static Key<V::Value>, args: A, values: V, run: Run) -> Context
where
    A: Args,
    A::Values: Inputs,
    V: Values,
{
    if run.derivation.body.is_many() {
        ctx.derive_many(key, args, move |given: A::Values| {
            run.clone().many(run.inputs(given), values.clone())
        })
    } else {
        ctx.derive(key, args, move |given: A::Values| run.clone().one(run.inputs(given), values.clone()))
    }
}

/// What the closure of a derivation does.
#[derive(Clone)]
struct Run {
    binding: usize,
    derivation: Derivation,
    log: Log,
    pool: &'static Pool,
    slow: bool,
}

impl Run {
    fn inputs(&self, given: impl Inputs) -> Vec<u64> {
        let mut inputs = Vec::new();
        given.add_to(&mut inputs, self.pool);
        inputs
    }

    async fn end(&self, inputs: Vec<u64>) -> End {
        let end = self.derivation.body.end(self.binding, &inputs);
        self.log.add(Event::Ran { binding: self.binding, inputs });
        once_pending(self.derivation.waits).await;
        end
    }

    fn one<V: Values>(self, inputs: Vec<u64>, values: V) -> BoxFuture<'static, Result<V::Value, Stop>> {
        Box::pin(async move {
            match self.end(inputs).await {
                End::Yields(value) => Ok(values.make(value)),
                End::Declines => Err(decline("not me")),
                End::Fails => Err("broken".into()),
                End::Many(_) => unreachable!("a single value is derived"),
            }
        })
    }

    fn many<V: Values>(
        self,
        inputs: Vec<u64>,
        values: V,
    ) -> BoxFuture<'static, Result<Many<V::Value>, Stop>> {
        Box::pin(async move {
            let End::Many(made) = self.end(inputs).await else { unreachable!("many values are derived") };
            let mut made = made.into_iter().map(move |had| match had {
                Had::Value(value) => Ok(values.make(value)),
                Had::Absent => Err(decline("not this one")),
                Had::Failed => Err("this one is broken".into()),
            });
            if !matches!(self.derivation.body, Body::Stream(_)) {
                return made.collect::<Result<_, _>>().map(Many::All);
            }
            let mut wait = self.derivation.waits || self.slow;
            Ok(Many::poll_fn(move |cx| {
                if std::mem::take(&mut wait) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                wait = self.slow;
                Poll::Ready(made.next())
            }))
        })
    }
}

/// Makes values of a key's type.
trait Values: Clone + Send + Sync + Unpin + 'static {
    type Value: Send + Sync + 'static;
    fn make(&self, value: u64) -> Self::Value;
}

#[derive(Clone)]
struct Numbers;

impl Values for Numbers {
    type Value = u64;
    fn make(&self, value: u64) -> u64 {
        value
    }
}

#[derive(Clone)]
struct Peers {
    key: usize,
    case: Case,
    log: Log,
}

impl Values for Peers {
    type Value = Peer;
    fn make(&self, value: u64) -> Peer {
        let verdict = self.case.verdicts[usize::from(mark(value))];
        Peer { value, key: self.key, verdict, log: self.log.clone() }
    }
}

/// What a guard compares with.
#[derive(Debug)]
struct Mark(u8);

impl PartialEq<Mark> for u64 {
    fn eq(&self, other: &Mark) -> bool {
        mark(*self) == other.0
    }
}

/// What a closure was given, as numbers. A guard gives none.
trait Inputs {
    fn add_to(self, inputs: &mut Vec<u64>, pool: &'static Pool);
}

impl Inputs for () {
    fn add_to(self, _: &mut Vec<u64>, _: &'static Pool) {}
}

impl Inputs for u64 {
    fn add_to(self, inputs: &mut Vec<u64>, _: &'static Pool) {
        inputs.push(self);
    }
}

impl Inputs for Option<u64> {
    fn add_to(self, inputs: &mut Vec<u64>, _: &'static Pool) {
        inputs.push(self.unwrap_or(NOTHING));
    }
}

impl Inputs for Dial {
    fn add_to(self, inputs: &mut Vec<u64>, pool: &'static Pool) {
        inputs.extend(pool.ends.iter().filter_map(|end| self.endpoint(end)).map(|peer: Peer| peer.value));
    }
}

impl<A: Inputs, B: Inputs> Inputs for (A, B) {
    fn add_to(self, inputs: &mut Vec<u64>, pool: &'static Pool) {
        self.0.add_to(inputs, pool);
        self.1.add_to(inputs, pool);
    }
}

impl<A: Inputs, B: Inputs, C: Inputs> Inputs for (A, B, C) {
    fn add_to(self, inputs: &mut Vec<u64>, pool: &'static Pool) {
        self.0.add_to(inputs, pool);
        self.1.add_to(inputs, pool);
        self.2.add_to(inputs, pool);
    }
}
