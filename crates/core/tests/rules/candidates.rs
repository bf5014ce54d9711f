//! Rule 3: what the candidates are, and in what order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tuyau_core::{Context, Many, decline, dial, opt, req};

use crate::support::{A, B, C, Gate, IP, World, X, Y, Z, ms, resolve, resolving, winner};

/// A context whose only candidates are `count` choices of an address; all refuse.
fn choices(world: &World, count: u32) -> Context {
    let to = world.clone();
    Context::new()
        .derive_many(&IP, (), move |()| async move { Ok((0..count).collect::<Vec<_>>()) })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A)
}

#[test]
fn r03_lower_priority_numbers_come_first_and_the_unprioritised_last() {
    let world = World::default();
    for (priorities, order) in [
        ([i32::MAX, 0, i32::MIN], ["c", "b", "a"]),
        ([i32::MIN, -1, 1], ["a", "b", "c"]),
        ([i32::MAX, i32::MAX - 1, i32::MIN + 1], ["c", "b", "a"]),
    ] {
        let ctx = Context::new()
            .with(&A, world.at("a").refuses())
            .with(&B, world.at("b").refuses())
            .with(&C, world.at("c").refuses())
            .offer_at(&A, priorities[0])
            .offer_at(&B, priorities[1])
            .offer_at(&C, priorities[2]);
        let _ = resolve(&ctx);
        assert_eq!(world.dialled(), order);
        // None is later than any.
        let _ = resolve(&ctx.offer(&C).offer_at(&A, i32::MAX).offer_at(&B, i32::MIN));
        assert_eq!(world.dialled(), ["b", "a", "c"]);
    }
}

#[test]
fn r03_the_offer_overrides_the_priority_of_the_protocol() {
    static FIRST: tuyau_core::Endpoint<crate::support::Scripted> =
        tuyau_core::Endpoint::new("first", &crate::support::Scripted).priority(1);
    let world = World::default();
    let ctx = Context::new().with(&FIRST, world.at("first").refuses()).with(&A, world.at("a").refuses());
    let _ = resolve(&ctx.clone().offer_at(&A, 2).offer(&FIRST));
    assert_eq!(world.dialled(), ["first", "a"]);
    let _ = resolve(&ctx.offer_at(&A, 2).offer_at(&FIRST, 3));
    assert_eq!(world.dialled(), ["a", "first"]);
}

#[test]
fn r03_among_equals_the_newest_binding_comes_first_whatever_its_key() {
    let world = World::default();
    let ctx = Context::new()
        .with(&A, world.at("oldest").refuses())
        .with(&B, world.at("middle").refuses())
        .with(&A, world.at("newest").refuses())
        .offer(&A)
        .offer(&B);
    let _ = resolve(&ctx);
    assert_eq!(world.dialled(), ["newest", "middle", "oldest"]);
}

#[test]
fn r03_so_do_derivations_of_many_keys_that_take_turns() {
    let world = World::default();
    let mut ctx = Context::new().offer(&A).offer(&B);
    for n in 0..6 {
        let to = world.clone();
        ctx = ctx.derive([&A, &B][n % 2], (), move |()| {
            let at = to.at(format!("{n}")).refuses();
            async move { Ok(at) }
        });
    }
    let _ = resolve(&ctx);
    assert_eq!(world.dialled(), ["5", "4", "3", "2", "1", "0"]);
}

#[test]
fn r03_keys_that_take_turns_as_candidates_do_not_fall_through_to_each_other() {
    let world = World::default();
    let (to, under_b, under_a) = (world.clone(), world.clone(), world.clone());
    let ctx = Context::new()
        .derive(&C, dial(&A), move |below| {
            let at = to.at(format!("over {}", below.address()));
            async move { Ok(at) }
        })
        .derive(&A, (), move |()| {
            let at = under_a.at("a").refuses();
            async move { Ok(at) }
        })
        .derive(&B, (), move |()| {
            let at = under_b.at("b").refuses();
            async move { Ok(at) }
        })
        .derive(&A, (), |()| async { Err(decline("not me")) })
        .offer(&A)
        .offer(&B)
        .offer(&C);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "over a");
    assert_eq!(world.dialled(), ["b", "a", "over a"]);
}

#[test]
fn r03_each_candidate_fixes_one_choice_per_many_valued_derivation_in_order() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&X, (), |()| async { Ok(vec![1, 2]) })
        .derive_many(&Y, (), |()| async { Ok(vec![10, 20, 30]) })
        .derive(&A, (req(&X), req(&Y), req(&X)), move |(x, y, again)| {
            assert_eq!(x, again, "a choice is fixed for the whole candidate");
            let at = to.at(format!("{}", x + y)).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let error = resolve(&ctx).unwrap_err();
    assert_eq!(world.dialled(), ["11", "21", "31", "12", "22", "32"]);
    assert_eq!(error.report().candidates.len(), 6);
}

#[test]
fn r03_choices_of_choices_fork_in_turn() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&X, (), |()| async { Ok(vec![1, 2]) })
        .derive_many(&Y, req(&X), |x| async move { Ok((0..=x).map(|y| x * 10 + y).collect::<Vec<_>>()) })
        .derive(&A, req(&Y), move |y| {
            let at = to.at(format!("{y}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let _ = resolve(&ctx);
    assert_eq!(world.dialled(), ["10", "11", "20", "21", "22"]);
}

#[test]
fn r03_at_most_64_choices_are_tried_and_the_rest_is_reported() {
    let world = World::default();
    for (count, tried, told) in [(63, 63, false), (64, 64, false), (65, 64, true), (500, 64, true)] {
        let error = resolve(&choices(&world, count)).unwrap_err();
        assert_eq!(world.dialled().len(), tried);
        let notes = error.report().notes;
        assert_eq!(notes.iter().any(|note| note.contains("64")), told, "{count}: {notes:?}");
    }
}

#[test]
fn r03_values_that_never_end_end_after_64_choices() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async {
            let mut next = 0;
            Ok(Many::poll_fn(move |_| {
                next += 1;
                if next > 100 { Poll::Pending } else { Poll::Ready(Some(Ok(next))) }
            }))
        })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let notes = resolve(&ctx).unwrap_err().report().notes;
    assert_eq!(world.dialled().len(), 64);
    assert!(notes.iter().any(|note| note.contains("64")), "{notes:?}");
}

#[test]
fn r03_no_value_at_all_is_a_decline() {
    let world = World::default();
    let error = resolve(&choices(&world, 0)).unwrap_err();
    assert!(world.dialled().is_empty());
    assert!(error.to_string().contains("no value"), "{error}");
    let none =
        Context::new().derive_many(&A, (), |()| async { Ok(Many::poll_fn(|_| Poll::Ready(None))) }).offer(&A);
    let error = resolve(&none).unwrap_err();
    assert!(error.to_string().contains("no value"), "{error}");
}

#[test]
fn r03_a_value_is_tried_when_it_comes_and_the_end_of_the_values_is_an_end() {
    let (world, gates) = (World::default(), [Gate::default(), Gate::default()]);
    let (to, behind) = (world.clone(), gates.clone());
    let ctx = Context::new()
        .derive_many(&IP, (), move |()| {
            let (gates, mut given) = (behind.clone(), 0);
            async move {
                Ok(Many::poll_fn(move |cx| {
                    if given > 0 {
                        std::task::ready!(gates[given - 1].poll(cx));
                    }
                    given += 1;
                    Poll::Ready((given <= 2).then_some(Ok(given as u32)))
                }))
            }
        })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    assert_eq!(world.dialled(), ["1"]);
    gates[0].open();
    assert!(task.run().is_pending());
    assert_eq!(world.dialled(), ["2"]);
    gates[1].open();
    assert!(matches!(task.run(), Poll::Ready(Err(_))));
}

#[test]
fn r03_an_outcome_is_reused_exactly_where_the_choices_it_saw_are_equal() {
    let world = World::default();
    let runs = Arc::new(AtomicUsize::new(0));
    let (counter, to) = (runs.clone(), world.clone());
    let ctx = Context::new()
        .derive_many(&X, (), |()| async { Ok(vec![1, 2, 3]) })
        .derive_many(&Y, (), |()| async { Ok(vec![10, 20]) })
        .derive(&IP, req(&X), move |x| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(x * 100) }
        })
        .derive(&A, (req(&IP), req(&Y)), move |(ip, y)| {
            let at = to.at(format!("{}", ip + y)).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let _ = resolve(&ctx);
    assert_eq!(world.dialled(), ["110", "120", "210", "220", "310", "320"]);
    assert_eq!(runs.load(Ordering::SeqCst), 3, "once for each choice of x");
}

#[test]
fn r03_the_first_value_is_tried_while_the_others_are_not_known_yet() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async {
            let mut given = false;
            Ok(Many::poll_fn(move |_| match std::mem::replace(&mut given, true) {
                false => Poll::Ready(Some(Ok(1))),
                true => Poll::Pending,
            }))
        })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}"));
            async move { Ok(at) }
        })
        .offer(&A);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "1");
}

#[test]
fn r03_one_value_that_could_not_be_had_costs_its_candidate_alone() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async {
            let mut values =
                vec![Err(decline("not this")), Ok(1), Err("no such family".into()), Ok(4)].into_iter();
            Ok(Many::poll_fn(move |_| Poll::Ready(values.next())))
        })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let error = resolve(&ctx).unwrap_err();
    assert_eq!(world.dialled(), ["1", "4"]);
    let text = format!("{error:#}");
    assert!(text.contains("no such family") && text.contains("declined"), "{text}");
}

#[test]
fn r03_choices_fork_while_what_depends_on_the_first_still_waits() {
    let world = World::default();
    let to = world.clone();
    let ctx = world
        .timed()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive(&A, (req(&IP), opt(&X)), move |(ip, _)| {
            let at = to.at(format!("{ip}"));
            async move {
                if ip == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(at)
            }
        })
        .offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(250));
    assert!(matches!(task.run(), Poll::Ready(Ok(_))), "the second choice waits for the first");
    assert_eq!(world.dialled(), ["2"]);
}

#[test]
fn r03_choices_that_come_while_nothing_else_is_left_to_start_fork_too() {
    let (world, gates) = (World::default(), [Gate::default(), Gate::default()]);
    let (to, behind) = (world.clone(), gates.clone());
    let ctx = world
        .timed()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive_many(&Y, req(&IP), move |ip| {
            let gate = behind[ip as usize - 1].clone();
            async move {
                gate.passed().await;
                Ok(vec![ip * 10, ip * 10 + 1])
            }
        })
        .derive(&A, req(&Y), move |y| {
            let at = to.at(format!("{y}")).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    let mut task = resolving(&ctx);
    for _ in 0..3 {
        assert!(task.run().is_pending());
        world.clock.advance(ms(250));
    }
    gates[0].open();
    assert!(task.run().is_pending());
    assert_eq!(world.dialled(), ["10", "11"]);
    gates[1].open();
    assert!(task.run().is_ready());
    assert_eq!(world.dialled(), ["20", "21"]);
}

#[test]
fn r03_unfold_gives_all_endpoints_in_order_and_connects_none() {
    let world = World::default();
    let ctx = choices(&world, 3).with(&B, world.at("b")).offer(&B);
    let unfolded = crate::support::block_on(async move { ctx.unfold().await }).unwrap();
    let endpoints: Vec<_> = unfolded.endpoints().iter().map(|it| it.dial().address()).collect();
    assert_eq!(endpoints, ["b", "0", "1", "2"]);
    assert!(world.dialled().is_empty());
}

#[test]
fn r03_choices_before_a_cycle_fork_in_one_order_whoever_comes_to_it() {
    let world = World::default();
    let here = world.clone();
    // `y` needs itself, but only where the newer `x` declines.
    let ctx = Context::new()
        .derive_many(&Z, (), |()| async { Ok(vec![1, 2]) })
        .derive_many(&IP, (), |()| async { Ok((0..64).collect::<Vec<_>>()) })
        .derive(&X, (req(&IP), req(&Y)), |(_, y)| async move { Ok(y) })
        .derive(&X, req(&Z), move |z| {
            here.log(format!("newer, of {z}"));
            async { Err(decline("not me")) }
        })
        .derive(&Y, req(&X), |x| async move { Ok(x) });
    let to = world.clone();
    let to = move |_| {
        let at = to.at("nowhere");
        async move { Ok(at) }
    };
    let ctx = ctx.derive(&A, req(&Y), to.clone()).derive(&B, req(&Y), to).offer(&A).offer(&B);
    assert_eq!(resolve(&ctx).unwrap_err().report().candidates.len(), 128);
    assert_eq!(world.dialled(), ["newer, of 1"], "what comes last varies first, up to the limit");
}
