//! Rule 5, second half: derivations that live with the context that binds them.

use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use tuyau_core::{Context, Key, decline, is, opt, req};

use crate::support::{
    A, B, Gate, IP, Task, World, X, Y, Z, block_on, get, ms, resolve, resolving, winner, yield_once,
};

static SESSION: Key<u32> = Key::new("session");

/// A context whose session is made once the gate is open, and is dialled over.
fn session(world: &World, gate: &Gate) -> Context {
    let (here, gate) = (world.clone(), gate.clone());
    let made = Arc::new(AtomicUsize::new(0));
    let to = world.clone();
    Context::new()
        .derive_shared(
            &SESSION,
            opt(&X),
            |_| true,
            move |_| {
                let (here, gate, made) = (here.clone(), gate.clone(), made.clone());
                async move {
                    let _alive = here.alive();
                    here.log("handshake");
                    gate.passed().await;
                    Ok(made.fetch_add(1, Ordering::SeqCst) as u32)
                }
            },
        )
        .derive(&A, req(&SESSION), move |number| {
            let to = to.clone();
            async move { Ok(to.at(format!("channel of {number}"))) }
        })
        .offer(&A)
}

#[test]
fn r05_a_shared_outcome_serves_all_resolves_of_a_context_and_its_overlays() {
    let (world, gate) = (World::default(), Gate::default());
    gate.open();
    let ctx = session(&world, &gate);
    resolve(&ctx).unwrap();
    resolve(&ctx).unwrap();
    resolve(&ctx.with(&Y, 1)).unwrap();
    assert_eq!(world.dialled(), ["handshake", "channel of 0", "channel of 0", "channel of 0"]);
}

#[test]
fn r05_concurrent_resolves_share_one_flight() {
    let (world, gate) = (World::default(), Gate::default());
    let ctx = session(&world, &gate);
    let mut tasks: Vec<_> = (0..3).map(|_| resolving(&ctx)).collect();
    tasks.iter_mut().for_each(|task| assert!(task.run().is_pending()));
    gate.open();
    for task in &mut tasks {
        assert!(matches!(task.run(), Poll::Ready(Ok(_))), "whoever waits is woken");
    }
    assert_eq!(world.dialled(), ["handshake", "channel of 0", "channel of 0", "channel of 0"]);
}

#[test]
fn r05_concurrent_resolves_share_one_flight_even_if_its_arguments_take_time() {
    let (world, slow, gate) = (World::default(), Gate::default(), Gate::default());
    let behind = slow.clone();
    let ctx = session(&world, &gate).derive(&X, (), move |()| {
        let slow = behind.clone();
        async move {
            slow.passed().await;
            Ok(1)
        }
    });
    let (mut one, mut two) = (resolving(&ctx), resolving(&ctx));
    assert!(one.run().is_pending() && two.run().is_pending());
    slow.open();
    assert!(one.run().is_pending() && two.run().is_pending());
    gate.open();
    assert!(one.run().is_ready() && two.run().is_ready());
    assert_eq!(world.dialled(), ["handshake", "channel of 0", "channel of 0"]);
}

#[test]
fn r05_a_cancelled_waiter_does_not_cancel_the_others() {
    for cancelled in 0..2 {
        let (world, gate) = (World::default(), Gate::default());
        let ctx = session(&world, &gate);
        let mut tasks = vec![resolving(&ctx), resolving(&ctx)];
        tasks.iter_mut().for_each(|task| assert!(task.run().is_pending()));
        drop(tasks.remove(cancelled));
        gate.open();
        assert!(tasks[0].run().is_ready());
        assert_eq!(world.dialled(), ["handshake", "channel of 0"]);
    }
}

#[test]
fn r13_dropping_the_last_who_waits_drops_the_flight() {
    let (world, gate) = (World::default(), Gate::default());
    let ctx = session(&world, &gate);
    let mut tasks = vec![resolving(&ctx), resolving(&ctx)];
    tasks.iter_mut().for_each(|task| assert!(task.run().is_pending()));
    tasks.pop();
    assert_eq!(world.count(), 1);
    tasks.pop();
    assert_eq!(world.count(), 0, "nobody waits for it, and the gate holds its waker");
    gate.open();
    resolve(&ctx).unwrap();
    assert_eq!(world.dialled(), ["handshake", "handshake", "channel of 0"]);
}

#[test]
fn r05_it_is_made_anew_once_it_is_sick() {
    let (world, well) = (World::default(), Arc::new(AtomicBool::new(true)));
    let (here, health) = (world.clone(), well.clone());
    let ctx = Context::new().derive_shared(
        &SESSION,
        (),
        move |_| health.load(Ordering::SeqCst),
        move |()| {
            here.log("handshake");
            async { Ok(7) }
        },
    );
    assert_eq!(get(&ctx, &SESSION).unwrap(), Some(7));
    get(&ctx, &SESSION).unwrap();
    assert_eq!(world.dialled().len(), 1);
    well.store(false, Ordering::SeqCst);
    get(&ctx, &SESSION).unwrap();
    assert_eq!(world.dialled().len(), 1);
    well.store(true, Ordering::SeqCst);
    get(&ctx, &SESSION).unwrap();
    assert_eq!(world.dialled().len(), 0);
}

#[test]
fn r05_a_failure_or_a_decline_is_not_kept() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let ctx = Context::new().derive_shared(
        &SESSION,
        (),
        |_| true,
        move |()| {
            let nth = counter.fetch_add(1, Ordering::SeqCst);
            async move {
                match nth {
                    0 => Err("no route".into()),
                    1 => Err(decline("not yet")),
                    _ => Ok(1),
                }
            }
        },
    );
    assert!(get(&ctx, &SESSION).is_err());
    assert_eq!(get(&ctx, &SESSION).unwrap(), None);
    assert_eq!(get(&ctx, &SESSION).unwrap(), Some(1));
    get(&ctx, &SESSION).unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn r05_who_waits_for_a_flight_that_fails_asks_again() {
    let (tries, gate) = (Arc::new(AtomicUsize::new(0)), Gate::default());
    let (counter, behind) = (tries.clone(), gate.clone());
    let ctx = Context::new().derive_shared(
        &SESSION,
        (),
        |_| true,
        move |()| {
            let (nth, gate) = (counter.fetch_add(1, Ordering::SeqCst), behind.clone());
            async move {
                gate.passed().await;
                if nth == 0 { Err("no route".into()) } else { Ok(1) }
            }
        },
    );
    let ask = |ctx: &Context| {
        let ctx = ctx.clone();
        Task::new(async move { ctx.get(&SESSION).await })
    };
    let (mut one, mut two) = (ask(&ctx), ask(&ctx));
    assert!(one.run().is_pending() && two.run().is_pending());
    gate.open();
    assert!(matches!(one.run(), Poll::Ready(Err(_))));
    assert!(matches!(two.run(), Poll::Ready(Ok(Some(1)))));
}

#[test]
fn r05_an_overlay_that_binds_what_was_read_gets_an_outcome_of_its_own() {
    let ctx = Context::new().with(&X, 1).derive_shared(
        &SESSION,
        opt(&X),
        |_| true,
        |x| async move { Ok(x.unwrap_or(0) * 10) },
    );
    assert_eq!(get(&ctx, &SESSION).unwrap(), Some(10));
    assert_eq!(get(&ctx.clone().with(&X, 2), &SESSION).unwrap(), Some(20));
    assert_eq!(get(&ctx.clone().without(&X), &SESSION).unwrap(), Some(0));
    assert_eq!(get(&ctx, &SESSION).unwrap(), Some(10));
    // What was absent counts as well.
    let bare =
        Context::new().derive_shared(&SESSION, opt(&X), |_| true, |x| async move { Ok(x.unwrap_or(0)) });
    assert_eq!(get(&bare, &SESSION).unwrap(), Some(0));
    assert_eq!(get(&bare.with(&X, 3), &SESSION).unwrap(), Some(3));
}

#[test]
fn r05_what_a_shared_outcome_read_counts_where_another_depends_on_it() {
    let ctx = Context::new()
        .with(&X, 1)
        .derive_shared(&Y, req(&X), |_| true, |x| async move { Ok(x * 10) })
        .derive_shared(&Z, req(&Y), |_| true, |y| async move { Ok(y + 1) });
    // Y is known when Z is made, so Z's own resolution never sees X.
    assert_eq!(get(&ctx, &Y).unwrap(), Some(10));
    assert_eq!(get(&ctx, &Z).unwrap(), Some(11));
    assert_eq!(get(&ctx.with(&X, 2), &Z).unwrap(), Some(21));
}

#[test]
fn r05_a_pool_does_not_take_an_overlay_of_what_a_shared_outcome_read_for_the_same() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&X, 1)
        .derive_shared(&SESSION, req(&X), |_| true, |x| async move { Ok(x) })
        .derive(&A, req(&SESSION), move |session| {
            let at = to.at(format!("{session}"));
            async move { Ok(at) }
        })
        .offer(&A);
    for _ in 0..2 {
        let reads = resolve(&ctx).unwrap().reads();
        assert!(reads.matches(&ctx) && reads.matches(&ctx.clone().with(&Y, 1)));
        assert!(!reads.matches(&ctx.clone().with(&X, 2)));
    }
}

#[test]
fn r05_what_overlays_that_are_gone_made_is_dropped() {
    static HELD: Key<Arc<crate::support::Alive>> = Key::new("held");
    let world = World::default();
    let here = world.clone();
    let ctx = Context::new().derive_shared(
        &HELD,
        opt(&X),
        |_| true,
        move |_| {
            let alive = Arc::new(here.alive());
            async move { Ok(alive) }
        },
    );
    for x in 0..100 {
        get(&ctx.clone().with(&X, x), &HELD).unwrap();
        assert!(world.count() <= 2, "{} outcomes of overlays that are gone", world.count());
    }
    for x in 0..100 {
        get(&ctx.clone().derive(&X, (), move |()| async move { Ok(x) }), &HELD).unwrap();
        assert!(world.count() <= 2, "{} outcomes of derivations that are gone", world.count());
    }
    drop(ctx);
    assert_eq!(world.count(), 0);
}

/// A context whose session is of one of two addresses: the first leads nowhere, the second is had
/// once the gate is open.
fn over_the_second(world: &World, gate: &Gate) -> Context {
    let (here, to, gate) = (world.clone(), world.clone(), gate.clone());
    world
        .timed()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive_shared(
            &SESSION,
            req(&IP),
            |_| true,
            move |ip| {
                here.log(format!("handshake {ip}"));
                let gate = gate.clone();
                async move {
                    if ip == 1 {
                        pending::<()>().await;
                    }
                    gate.passed().await;
                    Ok(ip)
                }
            },
        )
        .derive(&A, req(&SESSION), move |session| {
            let at = to.at(format!("over {session}"));
            async move { Ok(at) }
        })
        .offer(&A)
}

#[test]
fn r05_choices_of_a_shared_derivation_race_each_other() {
    // The second must not wait for the first.
    let (world, gate) = (World::default(), Gate::default());
    gate.open();
    let ctx = over_the_second(&world, &gate);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(250));
    let Poll::Ready(Ok(resolved)) = task.run() else { panic!("it waits for the first") };
    assert_eq!(winner(&resolved), "over 2");
}

#[test]
fn r11_who_joins_a_flight_that_hangs_has_the_other_choices_too() {
    let (world, gate) = (World::default(), Gate::default());
    gate.open();
    let ctx = over_the_second(&world, &gate);
    let (mut one, mut two) = (resolving(&ctx), resolving(&ctx));
    assert!(one.run().is_pending());
    world.clock.advance(ms(100));
    assert!(two.run().is_pending());
    world.clock.advance(ms(150));
    assert!(one.run().is_ready());
    world.clock.advance(ms(100));
    let Poll::Ready(Ok(resolved)) = two.run() else { panic!("it waits for the first") };
    assert_eq!(winner(&resolved), "over 2");
    assert_eq!(world.dialled(), ["handshake 1", "handshake 2", "over 2", "over 2"]);
}

#[test]
fn r11_of_two_who_wait_for_the_same_choices_each_is_made_once() {
    let (world, gate) = (World::default(), Gate::default());
    let ctx = over_the_second(&world, &gate);
    let (mut one, mut two) = (resolving(&ctx), resolving(&ctx));
    assert!(one.run().is_pending() && two.run().is_pending());
    world.clock.advance(ms(250));
    assert!(one.run().is_pending() && two.run().is_pending());
    gate.open();
    assert!(matches!(one.run(), Poll::Ready(Ok(_))) && matches!(two.run(), Poll::Ready(Ok(_))));
    assert_eq!(world.dialled(), ["handshake 1", "handshake 2", "over 2", "over 2"]);
}

#[test]
fn r05_who_joins_a_flight_with_choices_shares_it_also_through_another_shared_outcome() {
    let (world, gate) = (World::default(), Gate::default());
    let (here, behind) = (world.clone(), gate.clone());
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive_shared(&Y, req(&IP), |_| true, |ip| async move { Ok(ip) })
        .derive_shared(
            &SESSION,
            req(&Y),
            |_| true,
            move |y| {
                here.log(format!("handshake {y}"));
                let gate = behind.clone();
                async move {
                    gate.passed().await;
                    Ok(y)
                }
            },
        );
    let to = world.clone();
    let ctx = ctx
        .derive(&A, req(&SESSION), move |session| {
            let at = to.at(format!("over {session}"));
            async move { Ok(at) }
        })
        .offer(&A);
    // The second never sees the choice that the first made: `Y` is known when it comes.
    let (mut one, mut two) = (resolving(&ctx), resolving(&ctx));
    assert!(one.run().is_pending() && two.run().is_pending());
    gate.open();
    assert!(one.run().is_ready() && two.run().is_ready());
    assert_eq!(world.dialled(), ["handshake 1", "over 1", "over 1"]);
}

#[test]
fn r05_a_flight_is_driven_on_by_whoever_is_left_even_if_nobody_was_woken() {
    let (world, gate) = (World::default(), Gate::default());
    let here = world.clone();
    let ctx = Context::new().derive_shared(
        &SESSION,
        (),
        |_| true,
        move |()| {
            let (here, gate) = (here.clone(), gate.clone());
            async move {
                let _alive = here.alive();
                yield_once().await;
                gate.open();
                Ok(1)
            }
        },
    );
    assert_eq!(block_on(async move { ctx.get(&SESSION).await }).unwrap(), Some(1));
    assert_eq!(world.count(), 0);
}

#[test]
fn r05_of_many_who_wait_for_a_flight_that_fails_none_falls_through() {
    let (tries, gates) = (Arc::new(AtomicUsize::new(0)), [Gate::default(), Gate::default()]);
    let (counter, behind) = (tries.clone(), gates.clone());
    // An older binding, which must never stand in.
    let ctx = Context::new().with(&SESSION, 666).derive_shared(
        &SESSION,
        (),
        |_| true,
        move |()| {
            let nth = counter.fetch_add(1, Ordering::SeqCst);
            let gate = behind[nth.min(1)].clone();
            async move {
                gate.passed().await;
                if nth == 0 { Err("no route".into()) } else { Ok(1) }
            }
        },
    );
    let ask = || {
        let ctx = ctx.clone();
        Task::new(async move { ctx.get(&SESSION).await })
    };
    let mut tasks = [ask(), ask(), ask()];
    tasks.iter_mut().for_each(|task| assert!(task.run().is_pending()));
    gates[0].open();
    assert!(matches!(tasks[0].run(), Poll::Ready(Err(_))));
    assert!(tasks[1].run().is_pending() && tasks[2].run().is_pending());
    gates[1].open();
    for task in &mut tasks[1..] {
        assert!(matches!(task.run(), Poll::Ready(Ok(Some(1)))));
    }
    assert_eq!(tries.load(Ordering::SeqCst), 2, "the second try is shared again");
}

#[test]
fn r05_each_choice_of_a_shared_derivation_has_an_outcome_of_its_own() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive_shared(&SESSION, req(&IP), |_| true, |ip| async move { Ok(ip) })
        .derive(&A, req(&SESSION), move |session| {
            let at = to.at(format!("over {session}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    assert!(resolve(&ctx).is_err());
    assert_eq!(world.dialled(), ["over 1", "over 2"]);
}

#[test]
fn r05_it_is_shared_as_long_as_what_it_was_made_of_exists() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let ctx = Context::new().with(&X, 1).derive_shared(
        &SESSION,
        req(&X),
        |_| true,
        move |x| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(x) }
        },
    );
    get(&ctx, &SESSION).unwrap();
    get(&ctx, &SESSION).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn r05_of_two_flights_of_two_choices_a_resolution_joins_the_one_that_is_not_its_own() {
    let world = World::default();
    let here = world.clone();
    // The first choice reads X, the second does not.
    let ctx = world
        .timed()
        .with(&X, 1)
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive(&Y, req(&IP), |ip| async move { Ok(ip) })
        .derive(&Y, (is(&IP, 1), req(&X)), |(_, x)| async move { Ok(x * 10) })
        .derive_shared(
            &SESSION,
            req(&Y),
            |_| true,
            move |y| {
                here.log(format!("handshake {y}"));
                pending()
            },
        )
        .derive(&A, req(&SESSION), |_| async { Err(decline("it never gets here")) })
        .offer(&A);
    let (mut one, mut two) = (resolving(&ctx), resolving(&ctx.clone().with(&X, 2)));
    assert!(one.run().is_pending() && two.run().is_pending());
    assert_eq!(world.dialled(), ["handshake 10", "handshake 20"]);
    world.clock.advance(ms(250));
    assert!(one.run().is_pending() && two.run().is_pending());
    assert_eq!(world.dialled(), ["handshake 2"], "the second choice is the same for both");
}

#[test]
fn r05_who_comes_while_a_flight_is_polled_drives_it_on_if_the_other_goes() {
    type Asking = Task<Result<Option<u32>, tuyau_core::Error>>;
    // One who came, and two: both are to be woken.
    for count in 1..=2 {
        let others: Arc<Mutex<Vec<Asking>>> = Arc::default();
        let came = others.clone();
        let ctx = Context::new().derive_shared(
            &SESSION,
            (),
            |_| true,
            move |()| {
                let (came, mut polled) = (came.clone(), false);
                poll_fn(move |cx| {
                    if std::mem::replace(&mut polled, true) {
                        return Poll::Ready(Ok(1));
                    }
                    // All who wait by now are woken; who comes after that is not.
                    cx.waker().wake_by_ref();
                    let mut others = std::mem::take(&mut *came.lock().unwrap());
                    others
                        .iter_mut()
                        .for_each(|other| assert!(other.run().is_pending(), "it is being polled"));
                    *came.lock().unwrap() = others;
                    Poll::Pending
                })
            },
        );
        let ask = |ctx: &Context| {
            let ctx = ctx.clone();
            Task::new(async move { ctx.get(&SESSION).await })
        };
        *others.lock().unwrap() = (0..count).map(|_| ask(&ctx)).collect();
        // Polled once, and gone.
        let mut first = Box::pin(async move { ctx.get(&SESSION).await });
        assert!(first.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
        drop(first);
        let mut others = std::mem::take(&mut *others.lock().unwrap());
        for other in &mut others {
            assert!(matches!(other.run(), Poll::Ready(Ok(Some(1)))), "nobody woke it");
        }
    }
}

#[test]
fn r05_candidates_that_waited_for_the_same_argument_share_what_is_made_of_it() {
    let (world, gate) = (World::default(), Gate::default());
    let (here, one, two, behind) = (world.clone(), world.clone(), world.clone(), gate.clone());
    let ctx = world
        .timed()
        .derive(&X, (), move |()| {
            let gate = behind.clone();
            async move {
                gate.passed().await;
                Ok(1)
            }
        })
        .derive_shared(
            &SESSION,
            req(&X),
            |_| true,
            move |x| {
                here.log("handshake");
                async move { Ok(x) }
            },
        )
        .derive(&A, req(&SESSION), move |_| {
            let at = one.at("a").refuses();
            async move { Ok(at) }
        })
        .derive(&B, req(&SESSION), move |_| {
            let at = two.at("b");
            async move { Ok(at) }
        })
        .offer_at(&A, 1)
        .offer_at(&B, 1);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(250));
    assert!(task.run().is_pending());
    gate.open();
    assert!(task.finish(&world.clock).is_ok());
    assert_eq!(world.dialled().iter().filter(|what| *what == "handshake").count(), 1);
}

#[test]
fn r04_a_plan_asks_nobody_whether_what_is_shared_is_well() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let healthy = move |_: &u32| {
        counter.fetch_add(1, Ordering::SeqCst);
        true
    };
    let ctx = Context::new()
        .derive_shared(&SESSION, (), healthy, |()| async { Ok(1) })
        .derive(&A, req(&SESSION), |_| async { Err(decline("it never gets here")) })
        .offer(&A);
    get(&ctx, &SESSION).unwrap();
    get(&ctx, &SESSION).unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(ctx.plan().candidates.len(), 1);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
