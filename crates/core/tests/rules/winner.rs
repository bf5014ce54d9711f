//! Rules 12 and 13: what the winner has, and what is left when nobody waits.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Key, Protocol, decline, dial, names,
    opt, or, req,
};

use crate::support::{A, B, C, Clock, Gate, IP, World, X, Y, Z, get, ms, resolve, resolving, winner};

#[test]
fn r12_derived_values_are_those_of_the_winner() {
    let world = World::default();
    let (one, two) = (world.clone(), world.clone());
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2, 3]) })
        .with(&X, 10)
        .with(&Z, 30)
        .derive(&Y, req(&IP), |ip| async move { Ok(ip * 2) })
        .derive(&A, (req(&Z), req(&IP)), move |_| {
            let at = one.at("loser").refuses();
            async move { Ok(at) }
        })
        .derive(&B, (or(&X, 0), req(&Y)), move |(_, y)| {
            let at = two.at(format!("{y}"));
            async move { Ok(if y == 4 { at } else { at.refuses() }) }
        })
        .offer_at(&A, 1)
        .offer_at(&B, 2);
    let resolved = resolve(&ctx).unwrap();
    assert_eq!(winner(&resolved), "4");
    assert_eq!((resolved.get(&X), resolved.get(&Y), resolved.get(&IP)), (Some(10), Some(4), Some(2)));
    assert_eq!(resolved.get(&Z), None, "only the loser needed it");
    assert_eq!(resolved.get(&B).map(|at| at.name), Some("4".to_string()));
    assert!(resolved.get(&A).is_none());
}

#[test]
fn r12_what_was_read_is_told_by_identity() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&X, 1)
        .with(&Z, 1)
        .derive(&A, (req(&X), or(&Y, 2)), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    let reads = resolve(&ctx).unwrap().reads();
    assert!(reads.matches(&ctx) && reads.matches(&ctx.clone().with(&Z, 2)));
    assert!(reads.matches(&ctx.clone().under(Context::new().with(&X, 9))), "nobody looked behind the newest");
    assert!(format!("{reads:?}").contains("x"), "{reads:?}");
    for other in [
        ctx.clone().with(&X, 1),
        ctx.clone().with(&Y, 2),
        ctx.clone().without(&X),
        ctx.clone().with(&A, world.at("a")),
        ctx.clone().with(&B, world.at("b")).with(&names::ALLOW_DOWNGRADE, true),
    ] {
        assert!(!reads.matches(&other), "{other:?}");
    }
    drop(ctx);
    assert!(!reads.matches(&Context::new()));
}

#[test]
fn r12_what_declined_before_a_derivation_gave_the_value_was_read_too() {
    let world = World::default();
    let to = world.clone();
    let ctx =
        Context::new().derive(&X, (), |()| async { Err(decline("not me")) }).derive(&A, req(&X), move |x| {
            let at = to.at(format!("{x}"));
            async move { Ok(at) }
        });
    let gives = Context::new().derive(&X, (), |()| async { Ok(1) });
    let over = |defaults: &Context| ctx.clone().offer(&A).under(defaults.clone());
    let resolved = resolve(&over(&gives)).unwrap();
    assert_eq!(winner(&resolved), "1");
    assert!(resolved.reads().matches(&over(&gives)));
    assert!(!resolved.reads().matches(&over(&Context::new().derive(&X, (), |()| async { Ok(1) }))));
    let told = resolved.report().reads.iter().filter(|read| read.key == "x").count();
    assert_eq!(told, 2, "{:#}", resolved.report());
}

/// A context in which Y is shared and read X when X's derivation still gave a value. Now that
/// declines, so that X is looked at to the end.
fn read_to_two_depths(world: &World, shared_first: bool) -> Context {
    let (to, runs) = (world.clone(), AtomicUsize::new(0));
    let ctx = Context::new()
        .derive(&X, (), move |()| {
            let nth = runs.fetch_add(1, Ordering::SeqCst);
            async move { if nth == 0 { Ok(2) } else { Err(decline("not again")) } }
        })
        .derive_shared(&Y, req(&X), |_| true, |x| async move { Ok(x) })
        .offer(&A);
    let at = move || {
        let at = to.at("a");
        async move { Ok(at) }
    };
    let ctx = if shared_first {
        ctx.derive(&A, (req(&Y), opt(&X)), move |_| at())
    } else {
        ctx.derive(&A, (opt(&X), req(&Y)), move |_| at())
    };
    assert_eq!(get(&ctx, &Y).unwrap(), Some(2));
    ctx
}

#[test]
fn r12_a_key_that_was_read_to_two_depths_counts_to_the_deeper() {
    let world = World::default();
    for shared_first in [true, false] {
        let ctx = read_to_two_depths(&world, shared_first);
        let over = |x| ctx.clone().under(Context::new().with(&X, x));
        // To the value behind the derivation.
        let valued = over(1);
        let reads = resolve(&valued).unwrap().reads();
        assert!(reads.matches(&valued) && reads.matches(&valued.clone().under(over(3))));
        assert!(!reads.matches(&over(1)), "that value was read");
        assert!(!reads.matches(&ctx));
        // To the end, where there is none.
        let reads = resolve(&ctx).unwrap().reads();
        assert!(reads.matches(&ctx));
        assert!(!reads.matches(&over(1)), "that there is none was read");
    }
}

#[test]
fn r12_what_was_read_at_the_bottom_of_a_chain_counts() {
    let world = World::default();
    let to = world.clone();
    let keys: Vec<&'static Key<u32>> = (0..20).map(|_| Key::leak("chained")).collect();
    let mut ctx = Context::new().with(&X, 1).derive(keys[0], req(&X), |x| async move { Ok(x) });
    for pair in keys.windows(2) {
        ctx = ctx.derive(pair[1], req(pair[0]), |x| async move { Ok(x) });
    }
    let ctx = ctx
        .derive(&A, req(keys[19]), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    let reads = resolve(&ctx).unwrap().reads();
    assert!(reads.matches(&ctx));
    assert!(!reads.matches(&ctx.with(&X, 1)), "the first derivation of all read it");
}

#[test]
fn r13_dropping_the_future_drops_everything_under_it() {
    let world = World::default();
    let (here, to) = (world.clone(), world.clone());
    let ctx = world
        .timed()
        .derive(&X, (), move |()| {
            let here = here.clone();
            async move {
                let _alive = here.alive();
                std::future::pending::<()>().await;
                Ok(1)
            }
        })
        .derive(&B, req(&X), move |_| {
            let at = to.at("never");
            async move { Ok(at) }
        })
        .with(&A, world.at("two").hangs())
        .with(&A, world.at("one").hangs())
        .offer(&A)
        .offer(&B);
    let mut task = resolving(&ctx);
    for _ in 0..3 {
        assert!(task.run().is_pending());
        world.clock.advance(ms(250));
    }
    assert_eq!(world.count(), 3, "two connections and a derivation are under way");
    drop(task);
    assert_eq!((world.count(), world.clock.timers()), (0, 0));
}

#[test]
fn r13_one_deadline_covers_derivations_and_connections() {
    let world = World::default();
    let (here, to) = (world.clone(), world.clone());
    let slow = world
        .timed()
        .derive(&X, (), move |()| {
            let here = here.clone();
            async move {
                let _alive = here.alive();
                std::future::pending::<()>().await;
                Ok(1)
            }
        })
        .derive(&A, req(&X), move |_| {
            let at = to.at("never");
            async move { Ok(at) }
        })
        .offer(&A)
        .with(&names::DEADLINE, ms(1000));
    let error = resolving(&slow).finish(&world.clock).unwrap_err();
    assert_eq!((world.clock.millis(), world.count()), (1000, 0));
    assert!(error.to_string().contains("a: the deadline passed, while deriving x ("), "{error}");
    assert!(error.to_string().contains("whoever was asked for it did not answer"), "{error}");
    // Time spent deriving is not given again for connecting.
    let world = World::default();
    let to = world.clone();
    let gate = Gate::default();
    let behind = gate.clone();
    let ctx = world
        .timed()
        .derive(&A, (), move |()| {
            let (at, gate) = (to.at("hangs").hangs(), behind.clone());
            async move {
                gate.passed().await;
                Ok(at)
            }
        })
        .offer(&A)
        .with(&names::DEADLINE, ms(1000));
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(900));
    gate.open();
    assert!(task.run().is_pending());
    assert!(task.finish(&world.clock).is_err());
    assert_eq!(world.clock.millis(), 1000);
}

#[test]
fn r13_what_is_dialled_below_goes_with_it() {
    let world = World::default();
    let ctx = Context::new().with(&B, world.at("below").hangs());
    let dialled = crate::support::block_on({
        let ctx = ctx.derive(&C, dial(&B), |below| async move {
            assert_eq!(below.address(), "below");
            Err(tuyau_core::decline("seen"))
        });
        async move { ctx.offer(&C).resolve().await }
    });
    assert!(dialled.is_err());
    assert_eq!(world.count(), 0);
}

#[test]
fn r13_whoever_gives_up_gets_the_report_of_what_was_under_way() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("second").hangs())
        .with(&A, world.at("first").hangs())
        .offer(&A)
        .with(&names::DEADLINE, Duration::MAX);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(260));
    assert!(task.run().is_pending());
    world.clock.advance(ms(40));
    world.clock.cut();
    let Poll::Ready(Err(error)) = task.run() else { panic!("it goes on") };
    let report = error.report();
    let took: Vec<_> = report.candidates.iter().map(|it| it.took.unwrap()).collect();
    assert_eq!((took, report.took), (vec![ms(300), ms(40)], Some(ms(300))));
    assert!(error.to_string().contains("the deadline passed"), "{error}");
    assert_eq!((error.kind(), world.count(), world.clock.timers()), (ConnectErrorKind::TimedOut, 0, 0));
    // What is begun after that has its own deadline.
    let mut task = resolving(&ctx.with(&names::DEADLINE, ms(500)));
    assert!(task.run().is_pending());
    assert!(task.finish(&world.clock).is_err());
    assert_eq!(world.clock.millis(), 800);
}

/// Gives up while it is polled, and has something to say of that when it is polled again.
struct GivesUp;

impl Protocol for GivesUp {
    /// What it gives up by, and whether it keeps the time itself.
    type Endpoint = (Clock, bool);
    type Flow = Flow;

    async fn connect(&self, (clock, keeps): (Clock, bool), cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let mut polled = false;
        let waiting = poll_fn(|_| match std::mem::replace(&mut polled, true) {
            true => Poll::Ready(()),
            false => {
                clock.cut();
                Poll::Pending
            }
        });
        let what = match keeps {
            true => cx.in_time(waiting).await.map_or("nothing", |()| "its last words"),
            false => {
                waiting.await;
                "its last words"
            }
        };
        Err(ConnectError::new(ConnectErrorKind::TimedOut, what))
    }
}

#[test]
fn r13_who_is_at_work_when_the_time_comes_is_heard() {
    static GIVES_UP: Endpoint<GivesUp> = Endpoint::new("gives_up", &GivesUp);
    for (time, keeps) in
        [(&names::DEADLINE, true), (&names::DEADLINE, false), (&names::ATTEMPT_TIMEOUT, false)]
    {
        let world = World::default();
        let endpoint = (world.clock.clone(), keeps);
        let ctx = world.timed().with(&GIVES_UP, endpoint).offer(&GIVES_UP).with(time, ms(1000));
        let Poll::Ready(Err(error)) = resolving(&ctx).run() else { panic!("it goes on") };
        assert!(error.to_string().contains("its last words"), "{error}");
    }
}
