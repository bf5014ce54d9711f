//! Rules 4, 5 and 15: what runs, how often, and how much work that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tuyau_core::{Context, Key, decline, is, names, opt, req};

use crate::support::{A, B, World, X, Y, Z, get, resolve, yield_once};

/// Counts its runs.
fn counted(ctx: Context, key: &'static Key<u32>, runs: &Arc<AtomicUsize>) -> Context {
    let runs = runs.clone();
    ctx.derive(key, (), move |()| {
        runs.fetch_add(1, Ordering::SeqCst);
        async {
            yield_once().await;
            Ok(1)
        }
    })
}

#[test]
fn r04_a_derivation_runs_only_if_a_candidate_whose_turn_has_come_needs_it() {
    let (world, runs) = (World::default(), Arc::new(AtomicUsize::new(0)));
    let to = world.clone();
    let ctx = counted(Context::new(), &X, &runs)
        .with(&B, world.at("b"))
        .derive(&A, req(&X), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer_at(&B, 1)
        .offer_at(&A, 2);
    resolve(&ctx).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    resolve(&ctx.with(&B, world.at("b").refuses()).without(&B)).unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn r04_plan_runs_nothing_but_judges_guards_that_are_values() {
    let runs = Arc::new(AtomicUsize::new(0));
    let (world, to) = (World::default(), World::default());
    let ctx = counted(Context::new().with(&Y, 1), &X, &runs)
        .derive(&A, (is(&Y, 2), req(&X)), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    use tuyau_core::report::Outcome;
    assert!(matches!(ctx.plan().candidates[0].outcome, Outcome::Absent(_)));
    assert!(matches!(ctx.clone().with(&Y, 2).plan().candidates[0].outcome, Outcome::WouldDerive));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert!(world.dialled().is_empty());
}

#[test]
fn r04_the_first_argument_that_cannot_be_had_stops_the_rest() {
    let runs = Arc::new(AtomicUsize::new(0));
    let base = counted(Context::new().with(&Y, 1), &X, &runs);
    let guarded = base.clone().derive(&Z, (is(&Y, 2), req(&X)), |_| async { Ok(1) });
    assert_eq!(get(&guarded, &Z).unwrap(), None);
    let missing = base.clone().without(&Y).derive(&Z, (req(&Y), req(&X)), |_| async { Ok(1) });
    assert_eq!(get(&missing, &Z).unwrap(), None);
    let failing = base.clone().derive(&Y, (), |()| async { Err("no".into()) });
    let failing = failing.derive(&Z, (opt(&Y), req(&X)), |_| async { Ok(1) });
    assert!(get(&failing, &Z).is_err());
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let had = base.derive(&Z, (is(&Y, 1), req(&X)), |_| async { Ok(1) });
    assert_eq!(get(&had, &Z).unwrap(), Some(1));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn r05_a_derivation_runs_once_whatever_comes_of_it() {
    for ends in 0..3 {
        let (world, runs) = (World::default(), Arc::new(AtomicUsize::new(0)));
        let (counter, one, two) = (runs.clone(), world.clone(), world.clone());
        let ctx = Context::new()
            .derive(&X, (), move |()| {
                counter.fetch_add(1, Ordering::SeqCst);
                async move {
                    yield_once().await;
                    match ends {
                        0 => Ok(1),
                        1 => Err(decline("not me")),
                        _ => Err("no".into()),
                    }
                }
            })
            .derive(&A, (opt(&X), opt(&X)), move |_| {
                let at = one.at("a").refuses();
                async move { Ok(at) }
            })
            .derive(&B, req(&X), move |_| {
                let at = two.at("b").refuses();
                async move { Ok(at) }
            })
            .offer(&A)
            .offer(&B);
        assert!(resolve(&ctx).is_err());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        let _ = resolve(&ctx);
        assert_eq!(runs.load(Ordering::SeqCst), 2, "another resolve asks anew");
    }
}

#[test]
fn r15_a_diamond_of_twenty_levels_runs_each_derivation_once() {
    for bottom in [false, true] {
        let runs = Arc::new(AtomicUsize::new(0));
        let keys: Vec<&'static Key<u32>> = (0..=20).map(|_| Key::leak("level")).collect();
        let mut ctx = Context::new();
        for pair in keys.windows(2) {
            let runs = runs.clone();
            ctx = ctx.derive(pair[0], (opt(pair[1]), opt(pair[1])), move |(one, two)| {
                runs.fetch_add(1, Ordering::SeqCst);
                async move { Ok(one.unwrap_or(1) + two.unwrap_or(1)) }
            });
        }
        if bottom {
            ctx = ctx.derive(keys[20], (), |()| async { Err(decline("nothing down here")) });
        }
        assert_eq!(get(&ctx, keys[0]).unwrap(), Some(1 << 20));
        assert_eq!(runs.load(Ordering::SeqCst), 20);
    }
}

#[test]
fn r15_of_a_wide_context_only_what_is_needed_runs() {
    let runs = Arc::new(AtomicUsize::new(0));
    let mut ctx = Context::new();
    let keys: Vec<&'static Key<u32>> = (0..1000).map(|_| Key::leak("wide")).collect();
    for key in &keys {
        ctx = counted(ctx, key, &runs);
    }
    let ctx = ctx.derive(&Z, (req(keys[3]), req(keys[999])), |(a, b)| async move { Ok(a + b) });
    assert_eq!(get(&ctx, &Z).unwrap(), Some(2));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[test]
fn r04_a_derivation_of_many_arguments_has_them_all_in_order() {
    let keys: Vec<&'static Key<u32>> = (0..10).map(|_| Key::leak("argument")).collect();
    let ctx = keys.iter().zip(0..).fold(Context::new(), |ctx, (key, n)| ctx.with(key, n));
    let [a, b, c, d, e, f, g, h, i, j] = keys[..] else { panic!("ten keys") };
    let args = (req(a), req(b), req(c), req(d), req(e), req(f), req(g), req(h), req(i), req(j));
    let ctx = ctx.derive(&Z, args, |(a, b, c, d, e, f, g, h, i, j)| async move {
        Ok([a, b, c, d, e, f, g, h, i, j].iter().fold(0, |all, n| all * 10 + n))
    });
    assert_eq!(get(&ctx, &Z).unwrap(), Some(123_456_789));
}

/// What a resolution does and tells must not depend on how far it went before it had to remember more:
/// a key that the resolver itself reads makes it remember all from the beginning.
#[test]
fn r15_however_far_it_goes_at_once_it_runs_the_same_and_tells_the_same() {
    type Change = fn(Context, &World) -> Context;
    let changes: [(&str, Change); 13] = [
        ("one after the other", |ctx, _| ctx.derive(&Y, req(&X), |x| async move { Ok(x + 1) })),
        ("one declines", |ctx, _| ctx.derive(&Y, req(&X), |_| async { Err(decline("not me")) })),
        ("one is pending", |ctx, _| {
            ctx.derive(&Y, req(&X), |x| async move {
                yield_once().await;
                Ok(x)
            })
        }),
        ("one fails", |ctx, _| ctx.derive(&Y, req(&X), |_| async { Err("broken".into()) })),
        ("one has several values", |ctx, _| {
            ctx.derive_many(&Y, req(&X), |x| async move { Ok(vec![x, x + 1]) })
        }),
        ("one is shared", |ctx, _| ctx.derive_shared(&Y, req(&X), |_| true, |x| async move { Ok(x) })),
        ("one needs itself", |ctx, _| ctx.derive(&Y, (req(&X), req(&Y)), |(x, _)| async move { Ok(x) })),
        ("the first refuses", |ctx, world| ctx.with(&A, world.at("newest").refuses()).with(&X, 7)),
        ("what may be missing is", |ctx, world| {
            let at = world.at("without");
            ctx.derive(&A, opt(&Z), move |z| {
                let at = at.clone();
                async move { if z.is_none() { Ok(at) } else { Err("where from?".into()) } }
            })
        }),
        ("what must be had is missing", |ctx, world| {
            let at = world.at("out of nothing");
            ctx.derive(&A, (req(&Z), req(&Y)), move |_| std::future::ready(Ok(at.clone())))
        }),
        ("a guard lets it pass", |ctx, world| {
            let at = world.at("passed");
            ctx.derive(&A, is(&Y, 5), move |()| std::future::ready(Ok(at.clone())))
        }),
        ("a guard stops it", |ctx, world| {
            let at = world.at("stopped");
            ctx.derive(&A, (is(&Y, 6), req(&X)), move |_| std::future::ready(Ok(at.clone())))
        }),
        ("they lie deep", |mut ctx, _| {
            let keys: Vec<&'static Key<u32>> = (0..50).map(|_| Key::leak("deep")).collect();
            for pair in keys.windows(2) {
                ctx = ctx.derive(pair[1], req(pair[0]), |value| async move { Ok(value) });
            }
            ctx.derive(keys[0], req(&X), |x| async move { Ok(x) }).derive(
                &Y,
                req(keys[49]),
                |value| async move { Ok(value) },
            )
        }),
    ];
    for (what, change) in changes {
        let [direct, remembered] = [false, true].map(|remembers| {
            let (world, runs) = (World::default(), Arc::new(AtomicUsize::new(0)));
            let (to, counts) = (world.clone(), runs.clone());
            let ctx = Context::new().with(&B, world.at("b")).with(&Y, 5).derive(&X, (), move |()| {
                counts.fetch_add(1, Ordering::SeqCst);
                async { Ok(1) }
            });
            let ctx = ctx.derive(&A, (opt(&X), req(&Y)), move |(_, y)| {
                let at = to.at(format!("a{y}"));
                async move { Ok(if y == 1 { at.refuses() } else { at }) }
            });
            let ctx = change(ctx.offer_at(&A, 1).offer_at(&B, 2), &world);
            let ctx = if remembers { ctx.with(&names::ALLOW_DOWNGRADE, false) } else { ctx };
            let result = resolve(&ctx);
            let tell = || match &result {
                Ok(resolved) => format!(
                    "{:#} {:?} {:?} {:?} {}",
                    resolved.report(),
                    resolved.get(&X),
                    resolved.get(&Y),
                    resolved.reads().keys().map(|key| key.name()).collect::<Vec<_>>(),
                    resolved.reads().matches(&ctx),
                ),
                Err(error) => format!("{error:#} {:?}", error.kind()),
            };
            let told = tell();
            assert_eq!(told, tell(), "{what}");
            (told, world.dialled(), runs.load(Ordering::SeqCst))
        });
        // The key that makes it remember was read in both: bound in the one, not bound in the other.
        assert_eq!(direct, remembered, "{what}");
        assert!(direct.2 <= 1, "{what}");
    }
}

#[test]
fn r05_a_derivation_runs_once_however_many_others_there_are() {
    for length in 1..20 {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut ctx = counted(Context::new(), &X, &runs);
        let mut last = &X;
        for _ in 0..length {
            let next = Key::leak("link");
            ctx = ctx.derive(next, (req(last), req(&X)), |(below, x)| async move { Ok(below + x) });
            last = next;
        }
        assert_eq!(get(&ctx, last).unwrap(), Some(length + 1));
        assert_eq!(runs.load(Ordering::SeqCst), 1, "{length} others");
    }
}
