//! Rules 12 and 13: what the winner has, and what is left when nobody waits.

use tuyau_core::{Context, dial, names, or, req};

use crate::support::{A, B, C, Gate, IP, World, X, Y, Z, ms, resolve, resolving, winner};

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
    assert!(format!("{error:#}").contains("deadline"), "{error:#}");
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
