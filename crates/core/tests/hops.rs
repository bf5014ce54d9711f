//! Hops: what one dials in a context of its own is bound by what goes through it, and shows in its report.

mod support;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};

use support::{A, ENCRYPTED, World, ms, resolve, resolving, winner};
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Dial, Endpoint, Flow, Hop, Instant,
    Listener, Many, Net, Policy, Protection, Protocol, Report, SharedNet, Stop, Target, decline, dial, names,
    opt,
};

struct Refusing;

impl Protocol for Refusing {
    type Endpoint = u8;
    type Flow = Flow;

    async fn connect(&self, _endpoint: u8, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Err(ConnectError::new(ConnectErrorKind::Refused, "connect"))
    }
}

static REFUSING: Endpoint<Refusing> = Endpoint::new("refusing", &Refusing);

/// Connects in the context that is its endpoint.
struct Through;

impl Protocol for Through {
    type Endpoint = Context;
    type Flow = Flow;

    async fn connect(&self, outer: Context, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Ok(cx.resolve(&outer).await?.into_flow())
    }
}

static THROUGH: Endpoint<Through> = Endpoint::new("through", &Through);

#[test]
fn what_was_dialled_on_the_way_shows_nearest_first() {
    let first = Context::new().with(&REFUSING, 1).with(&REFUSING, 2).offer(&REFUSING);
    let second = Context::new().with(&THROUGH, first).offer(&THROUGH);
    let ctx = Context::new().with(&THROUGH, second).offer(&THROUGH);
    let explaining = pin!(ctx.explain());
    let Poll::Ready(report) = explaining.poll(&mut TaskContext::from_waker(Waker::noop())) else {
        panic!("nothing waits")
    };
    let hops: Vec<_> =
        report.candidates[0].hops.iter().map(|hop| (hop.name.as_str(), &hop.outcome)).collect();
    let [("refusing", Some(Err(_))), ("refusing", Some(Err(_)))] = &hops[..] else { panic!("{hops:?}") };
    let addresses: Vec<_> = report.candidates[0].hops.iter().map(|hop| hop.address.as_str()).collect();
    assert_eq!(addresses, ["2", "1"]);
}

/// Connects what it lies on, in the context that is its endpoint or by dialling it, and shakes hands.
struct Shaking;

#[derive(Clone, Debug)]
enum Over {
    Context(Context),
    Dial(Dial),
}

impl Protocol for Shaking {
    type Endpoint = (Over, Shake);
    type Flow = Flow;

    async fn connect(&self, (over, shake): (Over, Shake), cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let flow = match over {
            Over::Context(outer) => cx.resolve(&outer).await?.into_flow(),
            Over::Dial(dial) => dial.open(cx).await?,
        };
        let shaking = async {
            match shake {
                Shake::Well(_) => Ok(flow),
                Shake::Badly(_) => Err(ConnectError::new(ConnectErrorKind::Protocol, "no hand")),
                Shake::Never(_) => std::future::pending().await,
                Shake::Unseen => unreachable!("it has gone on"),
            }
        };
        match shake {
            Shake::Unseen => Err(ConnectError::new(ConnectErrorKind::Protocol, "nothing was shaken")),
            Shake::Well(name) | Shake::Badly(name) | Shake::Never(name) => {
                cx.hop_telling(name, "hands", shaking, |_| Some(format!("{name} agreed"))).await
            }
        }
    }

    fn describe(&self, _: &(Over, Shake), f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there")
    }
}

#[derive(Clone, Copy, Debug)]
enum Shake {
    Well(&'static str),
    Badly(&'static str),
    Never(&'static str),
    /// Fails, though no step of its own does.
    Unseen,
}

static SHAKING: Endpoint<Shaking> = Endpoint::new("shaking", &Shaking);
static SHAKING_TWICE: Endpoint<Shaking> = Endpoint::new("shaking-twice", &Shaking);

/// Shakes hands twice over what is at `below`, then in a context of its own as `last` says.
fn way(below: Context, last: Shake) -> Context {
    let below = below
        .derive(&SHAKING, dial(&A), |dial| async move { Ok((Over::Dial(dial), Shake::Well("first"))) })
        .derive(&SHAKING_TWICE, dial(&SHAKING), |dial| async move {
            Ok((Over::Dial(dial), Shake::Well("second")))
        })
        .offer(&SHAKING_TWICE);
    Context::new().with(&SHAKING, (Over::Context(below), last)).offer(&SHAKING)
}

/// How each step of the first candidate is called, and how it ended.
fn steps(report: &Report) -> Vec<(&str, Option<bool>)> {
    let hops = report.candidates[0].hops.iter();
    hops.map(|hop| (hop.name.as_str(), hop.outcome.as_ref().map(Result::is_ok))).collect()
}

#[test]
fn the_steps_are_told_in_the_order_of_the_way_and_nothing_twice() {
    let world = World::default();
    let below = || world.timed().with(&A, world.at("near").after(5));
    let timed = |last| world.timed().with(&names::DEADLINE, ms(50)).under(way(below(), last)).offer(&SHAKING);
    let reached = [("a", Some(true)), ("first", Some(true)), ("second", Some(true))];
    let told = |last, end: Option<(&'static str, Option<bool>)>| {
        let report = match resolving(&timed(last)).finish(&world.clock) {
            Ok(resolved) => resolved.report(),
            Err(error) => error.report(),
        };
        let expected: Vec<_> = reached.into_iter().chain(end).collect();
        assert_eq!(steps(&report), expected, "{report:#}");
        report
    };
    let report = told(Shake::Well("last"), Some(("last", Some(true))));
    let hops = &report.candidates[0].hops;
    let details: Vec<_> = hops.iter().map(|hop| hop.detail.as_deref()).collect();
    assert_eq!(details, [None, Some("first agreed"), Some("second agreed"), Some("last agreed")]);
    let text = report.to_string();
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no `{what}` in {text}"));
    assert!(place("1. a ") < place("2. first hands: ok"), "{text}");
    assert!(place("3. second hands: ok") < place("4. last hands: ok"), "{text}");
    told(Shake::Badly("last"), Some(("last", Some(false))));
    told(Shake::Never("last"), Some(("last", None)));
    // It is the candidate that failed: it has no step to say so.
    told(Shake::Unseen, None);
    // Dialled by another, it is one.
    let inner = world.timed().under(way(below(), Shake::Unseen)).offer(&SHAKING);
    let ctx = Context::new().with(&THROUGH, inner).offer(&THROUGH);
    let report = resolving(&ctx).finish(&world.clock).unwrap_err().report();
    assert_eq!(steps(&report), [&reached[..], &[("shaking", Some(false))]].concat(), "{report:#}");
}

#[test]
fn candidates_that_race_on_one_way_are_told_apart() {
    let world = World::default();
    let near = |last| {
        let below = world.timed().with(&A, world.at("near").after(5));
        world.timed().under(way(below, last)).offer(&SHAKING)
    };
    let both =
        world.timed().with(&THROUGH, near(Shake::Well("well"))).with(&THROUGH, near(Shake::Never("never")));
    let resolved = resolving(&both.offer(&THROUGH)).finish(&world.clock).unwrap();
    let report = resolved.report();
    let names = |candidate: usize| {
        report.candidates[candidate].hops.iter().map(|hop| hop.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(1), ["a", "first", "second", "well"], "{report:#}");
    assert_eq!(report.candidates[0].hops.len(), 0, "it was cut off before it could tell: {report:#}");
}

#[test]
fn a_hop_shows_at_the_candidate_that_dialled_it_whatever_declined_before() {
    let outer = Context::new().with(&A, World::default().at("outer")).offer(&A);
    let ctx = Context::new()
        .with(&THROUGH, outer)
        .derive(&THROUGH, (), |()| async { Err(decline("not me")) })
        .offer(&THROUGH);
    let report = resolve(&ctx).unwrap().report();
    let hops: Vec<_> = report.candidates.iter().map(|candidate| candidate.hops.len()).collect();
    assert_eq!(hops, [0, 1], "{report:#}");
}

/// Encrypts to the peer, whatever it goes through.
static SEALED: Endpoint<Through> = Endpoint::new("sealed", &Through).protection(Protection::Encrypted);

#[test]
fn a_policy_binds_the_hops_on_the_way() {
    let world = World::default();
    let clear = Context::new().with(&A, world.at("clear")).offer(&A);
    let encrypted = Context::new().with(&ENCRYPTED, world.at("encrypted")).offer(&ENCRYPTED);
    let through = |hop: &Context, policy: Policy| {
        Context::new().with(&SEALED, hop.clone()).offer(&SEALED).with(&names::POLICY, policy)
    };
    // End to end, the hop may be clear.
    let resolved = resolve(&through(&clear, Policy::new().encrypted_end_to_end())).unwrap();
    assert_eq!(winner(&resolved), "clear");
    world.dialled();
    let every_hop = Policy::new().encrypted_on_every_hop();
    let error = resolve(&through(&clear, every_hop.clone())).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Policy, "{error:#}");
    assert!(world.dialled().is_empty());
    assert!(resolve(&through(&encrypted, every_hop.clone())).is_ok());
    world.dialled();
    // What the hop's own context forbids is forbidden as well, and allows nothing.
    for (outer, own) in [(Policy::new(), every_hop.clone()), (every_hop, Policy::new())] {
        let hop = clear.clone().with(&names::POLICY, own);
        assert_eq!(resolve(&through(&hop, outer)).unwrap_err().kind(), ConnectErrorKind::Policy);
    }
    assert!(world.dialled().is_empty());
    // So is what it forbids if nothing else is forbidden.
    let hop = clear.with(&names::POLICY, Policy::new().encrypted_end_to_end());
    let ctx = Context::new().with(&SEALED, hop).offer(&SEALED);
    assert_eq!(resolve(&ctx).unwrap_err().kind(), ConnectErrorKind::Policy);
    assert!(world.dialled().is_empty());
}

/// Goes through its endpoint, which it encrypts.
struct Encrypting;

impl Protocol for Encrypting {
    type Endpoint = Context;
    type Flow = Flow;

    async fn connect(&self, outer: Context, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Ok(cx.resolve_protected(&outer, Protection::Encrypted).await?.into_flow())
    }
}

static ENCRYPTING: Endpoint<Encrypting> =
    Endpoint::new("encrypting", &Encrypting).protection(Protection::Encrypted);

#[test]
fn what_a_hop_is_derived_from_sees_the_policy() {
    let looked_up = |lookups: Policy| {
        let hop = Context::new()
            .derive(&REFUSING, opt(&names::POLICY), |policy: Option<Policy>| async move {
                policy.unwrap_or_default().check_lookup("h.test")?;
                Ok::<_, Stop>(1)
            })
            .offer(&REFUSING);
        let ctx = Context::new().with(&THROUGH, hop).offer(&THROUGH).with(&names::POLICY, lookups);
        resolve(&ctx).unwrap_err().kind()
    };
    assert_eq!(looked_up(Policy::new()), ConnectErrorKind::Refused);
    assert_eq!(looked_up(Policy::new().no_local_lookup()), ConnectErrorKind::Policy);
}

#[test]
fn a_hop_that_encrypts_what_it_sends_is_dialled_in_clear_but_not_what_is_before_it() {
    let world = World::default();
    let clear = Context::new().with(&A, world.at("clear")).offer(&A);
    let every_hop = |ctx: Context| ctx.with(&names::POLICY, Policy::new().encrypted_on_every_hop());
    let ctx = |below: &Context| Context::new().with(&ENCRYPTING, below.clone()).offer(&ENCRYPTING);
    assert!(resolve(&every_hop(ctx(&clear))).is_ok());
    world.dialled();
    let before = Context::new().with(&SEALED, clear).offer(&SEALED);
    assert_eq!(resolve(&every_hop(ctx(&before))).unwrap_err().kind(), ConnectErrorKind::Policy);
    assert!(world.dialled().is_empty());
}

/// Writes down the deadline that it is given, and hangs.
struct Hanging;

impl Protocol for Hanging {
    type Endpoint = Deadlines;
    type Flow = Flow;

    async fn connect(&self, deadlines: Deadlines, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        deadlines.0.lock().unwrap().push(cx.deadline());
        std::future::pending().await
    }
}

#[derive(Clone, Debug, Default)]
struct Deadlines(Arc<Mutex<Vec<Option<Instant>>>>);

static HANGING: Endpoint<Hanging> = Endpoint::new("hanging", &Hanging);

#[test]
fn a_deadline_ends_a_hop_that_hangs_and_the_nearer_one_counts() {
    for (outer, own, ends) in [(100, None, 100), (100, Some(300), 100), (300, Some(100), 100)] {
        let (world, deadlines) = (World::default(), Deadlines::default());
        let hop = Context::new().with(&HANGING, deadlines.clone()).offer(&HANGING);
        let hop = match own {
            // Only what has a clock may set a time.
            Some(own) => hop.with(&names::DEADLINE, ms(own)).with(&names::RUNTIME, world.clock.runtime()),
            None => hop,
        };
        let ctx = world.timed().with(&names::DEADLINE, ms(outer)).with(&THROUGH, hop).offer(&THROUGH);
        let mut task = resolving(&ctx);
        let error = task.finish(&world.clock).unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut, "{error:#}");
        assert_eq!(world.clock.millis(), ends);
        let known: Vec<_> =
            deadlines.0.lock().unwrap().iter().map(|at| at.map(Instant::since_origin)).collect();
        assert_eq!(known, [Some(ms(ends))], "{outer} {own:?}");
    }
}

/// A net that goes nowhere, and knows over which context.
struct Beyond(Context);

impl Hop for Beyond {
    fn over(self: Box<Self>, outer: Context) -> SharedNet {
        Arc::new(Self(outer))
    }
}

impl Net for Beyond {
    fn describe(&self) -> String {
        format!("beyond {:?}", self.0)
    }

    fn connect<'a>(
        &'a self,
        _: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async { Err(ConnectError::new(ConnectErrorKind::Unreachable, "connect")) })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        Box::pin(async { Err(ConnectError::new(ConnectErrorKind::Unsupported, "listen")) })
    }

    fn lookup<'a>(
        &'a self,
        _: &'a str,
        _: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<std::net::IpAddr>, ConnectError>> {
        Box::pin(async { Err(ConnectError::new(ConnectErrorKind::Unsupported, "lookup")) })
    }
}

#[test]
fn via_replaces_the_net_by_one_over_the_context_as_it_was() {
    let ctx = Context::new().with(&REFUSING, 1).offer(&REFUSING).via(Box::new(Beyond(Context::new())));
    let net = support::get(&ctx, &names::NET).unwrap().expect("a net");
    assert!(net.describe().contains("refusing"), "{}", net.describe());
    // All else that was bound still is.
    assert!(resolve(&ctx).is_err());
    assert_eq!(ctx.plan().candidates.len(), 1);
}

#[test]
fn a_report_says_when_each_step_on_the_way_began() {
    let world = World::default();
    let inner = world.timed();
    let inner = inner.with(&A, world.at("second").after(20)).with(&A, world.at("first").after(30).refuses());
    let ctx = world.timed().with(&THROUGH, inner.offer(&A)).offer(&THROUGH);
    let report = resolving(&ctx).finish(&world.clock).unwrap().report();
    let hops: Vec<_> = report.candidates[0].hops.iter().map(|hop| (hop.started, hop.took)).collect();
    assert_eq!(hops, [(Some(ms(0)), Some(ms(30))), (Some(ms(30)), Some(ms(20)))]);
}

/// Says when it must be done, in place of being dropped then.
struct Watchful;

impl Protocol for Watchful {
    type Endpoint = ();
    type Flow = Flow;

    async fn connect(&self, (): (), cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let nothing: Option<Flow> = cx.in_time(std::future::pending()).await;
        assert!(nothing.is_none());
        let what = format!("nothing came until {:?}", cx.deadline().map(Instant::since_origin));
        Err(ConnectError::new(ConnectErrorKind::TimedOut, what))
    }
}

static WATCHFUL: Endpoint<Watchful> = Endpoint::new("watchful", &Watchful);

/// Never comes past its second hop.
struct Stuck;

impl Protocol for Stuck {
    type Endpoint = ();
    type Flow = Flow;

    async fn connect(&self, (): (), cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        cx.hop("gate", "here", std::future::ready(Ok(()))).await?;
        cx.hop("gate", "there", std::future::pending()).await
    }
}

static STUCK: Endpoint<Stuck> = Endpoint::new("stuck", &Stuck);

#[test]
fn an_attempt_that_had_its_time_says_at_which_hop_it_was() {
    let world = World::default();
    let ctx = world.timed().with(&STUCK, ()).offer(&STUCK).with(&names::ATTEMPT_TIMEOUT, ms(150));
    let error = resolving(&ctx).finish(&world.clock).unwrap_err();
    assert_eq!((world.clock.millis(), error.kind()), (150, ConnectErrorKind::TimedOut));
    let told = error.to_string();
    assert!(told.contains("timed out after 150ms, at gate there"), "{told}");
}

#[test]
fn what_a_deadline_ends_says_at_which_hop_it_was_and_what_to_do() {
    let world = World::default();
    let stuck = world.timed().with(&STUCK, ()).offer(&STUCK);
    let reached = "it was reached, but went no further: is that the right port, and the right protocol?";
    let told = |ctx: &Context| {
        let error = resolving(&ctx.clone().with(&names::DEADLINE, ms(150))).finish(&world.clock).unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
        error.to_string()
    };
    let near = told(&stuck);
    assert!(near.contains("the deadline passed, at gate there") && near.contains(reached), "{near}");
    assert_eq!(near.matches("the deadline passed").count(), 1, "{near}");
    // The same where the hop is one of a hop, whichever of the times it was that ran out.
    let far = told(&world.timed().with(&THROUGH, stuck.clone()).offer(&THROUGH));
    assert!(far.contains("the deadline passed, at gate there") && far.contains(reached), "{far}");
    let ctx =
        world.timed().with(&THROUGH, stuck.clone()).offer(&THROUGH).with(&names::ATTEMPT_TIMEOUT, ms(150));
    let far = resolving(&ctx).finish(&world.clock).unwrap_err().to_string();
    assert!(far.contains("at gate there") && far.contains(reached), "{far}");
    // And where others were to come.
    let ctx = world.timed().with(&A, world.at("nobody").hangs()).offer(&A);
    let far = told(&ctx.with(&THROUGH, stuck).offer_at(&THROUGH, 1));
    assert_eq!(far.matches("the deadline passed").count(), 1, "{far}");
    // What answers nothing at all.
    let ctx = world.timed().with(&A, world.at("nobody").hangs()).offer(&A);
    let silent = told(&ctx);
    assert!(silent.contains("the deadline passed, at a nobody"), "{silent}");
    assert!(silent.contains("nothing answered: is it up, and is the address right?"), "{silent}");
}

#[test]
fn outside_a_resolution_an_attempt_begins_at_once() {
    let world = World::default();
    let until = |ctx: &Context| ConnectCx::new(ctx).unwrap().deadline().map(|at| at.since_origin());
    let ctx = world.timed();
    assert_eq!(until(&ctx), None);
    let ctx = ctx.with(&names::ATTEMPT_TIMEOUT, ms(150));
    assert_eq!(until(&ctx), Some(ms(150)));
    assert_eq!(until(&ctx.with(&names::DEADLINE, ms(100))), Some(ms(100)));
}

#[test]
fn whoever_connects_knows_when_its_attempt_and_those_around_it_have_had_their_time() {
    let world = World::default();
    let inner = Context::new().with(&WATCHFUL, ()).offer(&WATCHFUL);
    for (attempt, deadline, until) in [(150, 400, 150), (400, 150, 150)] {
        let outer = world.timed().with(&THROUGH, inner.clone()).offer(&THROUGH);
        let ctx = outer.with(&names::ATTEMPT_TIMEOUT, ms(attempt)).with(&names::DEADLINE, ms(deadline));
        let began = world.clock.millis();
        let error = resolving(&ctx).finish(&world.clock).unwrap_err();
        assert_eq!(world.clock.millis() - began, until);
        assert!(error.to_string().contains("nothing came until"), "{error}");
    }
}
