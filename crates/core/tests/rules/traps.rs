//! The bugs that are usually written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tuyau_core::{ConnectErrorKind, Context, Key, Many, decline, dial, opt, or, req};

use crate::support::{A, B, Gate, IP, World, X, Y, Z, get, ms, resolve, resolving, winner, yield_once};

#[test]
fn an_outcome_is_reused_only_where_its_choices_are_equal() {
    let world = World::default();
    let (to, slow) = (world.clone(), world.clone());
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2, 3]) })
        .derive(&X, (), move |()| {
            slow.log("slow");
            async {
                yield_once().await;
                Ok(7)
            }
        })
        .derive(&A, (req(&IP), req(&X)), move |(ip, x)| {
            let at = to.at(format!("{ip}/{x}"));
            async move { Ok(if ip == 3 { at } else { at.refuses() }) }
        })
        .offer(&A);
    let resolved = resolve(&ctx).unwrap();
    assert_eq!(world.dialled(), ["slow", "1/7", "2/7", "3/7"]);
    assert_eq!((resolved.get(&IP), resolved.get(&X)), (Some(3), Some(7)));
}

#[test]
fn two_racing_candidates_that_enter_a_cycle_from_both_ends_do_not_wait_for_each_other() {
    // A enters at X, B at Y; both are slowed down on the way, so that they are inside together.
    let world = World::default();
    let gate = Gate::default();
    let slow = |key, name: &'static str, ctx: Context| {
        let gate = gate.clone();
        ctx.derive(key, (), move |()| {
            let gate = gate.clone();
            async move {
                gate.passed().await;
                let _ = name;
                Ok(1)
            }
        })
    };
    static SLOW_X: Key<u32> = Key::new("slow x");
    static SLOW_Y: Key<u32> = Key::new("slow y");
    let (one, two) = (world.clone(), world.clone());
    let ctx = slow(&SLOW_Y, "y", slow(&SLOW_X, "x", world.timed()))
        .derive(&X, (req(&SLOW_X), req(&Y)), |_| async { Ok(1) })
        .derive(&Y, (req(&SLOW_Y), req(&X)), |_| async { Ok(1) })
        .derive(&A, req(&X), move |_| {
            let at = one.at("a");
            async move { Ok(at) }
        })
        .derive(&B, req(&Y), move |_| {
            let at = two.at("b");
            async move { Ok(at) }
        })
        .offer(&A)
        .offer(&B);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(250));
    assert!(task.run().is_pending());
    gate.open();
    let Poll::Ready(Err(error)) = task.run() else { panic!("they wait for each other") };
    assert!(format!("{error:#}").contains("x → y → x"), "{error:#}");
    assert!(world.dialled().is_empty());
}

/// A chain of this many derivations, from `top` down to `bottom`.
fn chain(depth: usize) -> (Context, &'static Key<u32>, &'static Key<u32>) {
    let keys: Vec<&'static Key<u32>> = (0..=depth).map(|_| Key::leak("link")).collect();
    let mut ctx = Context::new();
    for pair in keys.windows(2) {
        ctx = ctx.derive(pair[0], req(pair[1]), |below| async move { Ok(below + 1) });
    }
    (ctx, keys[0], keys[depth])
}

/// Runs `story` on a stack that no recursion of that depth fits.
fn on_a_small_stack(story: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(256 * 1024).spawn(story).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_100_000_resolves_and_drops() {
    on_a_small_stack(|| {
        let (ctx, top, bottom) = chain(100_000);
        let world = World::default();
        let ctx = ctx
            .with(bottom, 0)
            .derive(&A, req(top), move |top| {
                let at = world.at(format!("{top}"));
                async move { Ok(at) }
            })
            .offer(&A);
        let resolved = resolve(&ctx).unwrap();
        assert_eq!(winner(&resolved), "100000");
        assert_eq!(resolved.reads().keys().count(), 100_001 + 1 + 7);
        let report = resolved.report();
        assert!(!format!("{report}{report:#}").is_empty());
    });
}

#[test]
fn a_chain_of_100_000_with_a_missing_bottom_fails_displays_and_drops() {
    on_a_small_stack(|| {
        let (ctx, top, _) = chain(100_000);
        let world = World::default();
        let ctx = ctx.derive(&A, req(top), move |_| {
            let at = world.at("never");
            async move { Ok(at) }
        });
        let ctx = ctx.offer(&A);
        let error = resolve(&ctx).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
        assert!(!format!("{error:#}{error:?}{}", error.report().dot()).is_empty());
        assert_eq!(ctx.plan().candidates.len(), 1);
        assert_eq!(get(&ctx, top).unwrap(), None);
    });
}

#[test]
fn a_chain_of_100_000_with_a_failing_bottom_or_a_cycle_fails_displays_and_drops() {
    on_a_small_stack(|| {
        let (ctx, top, bottom) = chain(100_000);
        let failing = ctx.clone().derive(bottom, (), |()| async { Err("the bottom fell out".into()) });
        let error = get(&failing, top).unwrap_err();
        assert!(format!("{error}").contains("the bottom fell out"), "{error}");
        let ring = ctx.derive(bottom, req(top), |top| async move { Ok(top) });
        let error = get(&ring, top).unwrap_err();
        assert!(format!("{error:#}").contains("cycle"), "{error}");
        drop((ring, failing));
    });
}

#[test]
fn the_fall_through_starts_anew_for_each_argument() {
    // Both arguments fall through one decline; the second must not begin where the first ended.
    let declines = |ctx: Context, key| ctx.derive(key, (), |()| async { Err::<u32, _>(decline("no")) });
    let ctx = declines(declines(Context::new().with(&X, 1).with(&Y, 2).with(&Y, 3), &X), &Y);
    let ctx = ctx
        .derive(&Z, (req(&X), req(&Y), req(&X)), |(x, y, again)| async move { Ok(x * 100 + y * 10 + again) });
    assert_eq!(get(&ctx, &Z).unwrap(), Some(131));
}

#[test]
fn a_new_stagger_timer_is_polled_at_once() {
    let world = World::default();
    // Two that hang, and one that does not: two timers in a row, each must wake.
    let ctx = world
        .timed()
        .with(&A, world.at("third"))
        .with(&A, world.at("second").hangs())
        .with(&A, world.at("first").hangs())
        .offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    assert!(world.clock.step(), "the first timer was never polled");
    assert!(task.run().is_pending());
    assert!(world.clock.step(), "the second timer was never polled");
    assert!(task.run().is_ready());
}

#[test]
fn a_dialled_endpoint_is_no_candidate() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&B, world.at("tcp"))
        .derive(&A, dial(&B), move |below| {
            let at = to.at(format!("tls over {}", below.address())).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let error = resolve(&ctx).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert_eq!(world.dialled(), ["tls over tcp"]);
    assert_eq!(ctx.plan().candidates.len(), 1);
}

#[test]
fn an_overlay_does_not_reuse_what_its_base_derived() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let base = Context::new().with(&X, 1).derive(&Y, or(&X, 9), move |x| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { Ok(x * 10) }
    });
    assert_eq!(get(&base, &Y).unwrap(), Some(10));
    assert_eq!(get(&base.clone().with(&X, 2), &Y).unwrap(), Some(20));
    assert_eq!(get(&base.clone().without(&X), &Y).unwrap(), Some(90));
    assert_eq!(get(&base, &Y).unwrap(), Some(10));
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[test]
fn a_candidate_whose_derivation_took_time_is_connected_at_once() {
    // Nothing but the derivation wakes: the connection must be polled when it begins.
    let (world, gate) = (World::default(), Gate::default());
    let (to, behind) = (world.clone(), gate.clone());
    let ctx = Context::new()
        .derive(&A, (), move |()| {
            let (at, gate) = (to.at("slow to be known"), behind.clone());
            async move {
                gate.passed().await;
                Ok(at)
            }
        })
        .offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    gate.open();
    assert!(task.run().is_ready(), "nobody polls the connection");
}

#[test]
fn values_over_time_that_come_later_wake_whoever_waits() {
    let (world, gate) = (World::default(), Gate::default());
    let (to, behind) = (world.clone(), gate.clone());
    let ctx = Context::new()
        .derive_many(&IP, (), move |()| {
            let gate = behind.clone();
            let mut next = 0;
            async move {
                Ok(Many::poll_fn(move |cx| {
                    std::task::ready!(gate.poll(cx));
                    next += 1;
                    Poll::Ready((next <= 2).then_some(Ok(next)))
                }))
            }
        })
        .derive(&A, (req(&IP), opt(&X)), move |(ip, _)| {
            let at = to.at(format!("{ip}"));
            async move { Ok(if ip == 2 { at } else { at.refuses() }) }
        })
        .offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    gate.open();
    assert!(matches!(task.run(), Poll::Ready(Ok(_))));
    assert_eq!(world.dialled(), ["1", "2"]);
}
