//! Rule 11: racing, in virtual time.

use std::task::Poll;

use tuyau_core::report::Outcome;
use tuyau_core::{ConnectErrorKind, Context, Many, names, req};

use crate::support::{A, B, C, Gate, IP, World, X, Y, ms, resolve, resolving, winner};

/// When what was dialled.
fn times(world: &World) -> Vec<(u64, String)> {
    world.timeline()
}

fn at(times: &[(u64, &str)]) -> Vec<(u64, String)> {
    times.iter().map(|(time, name)| (*time, name.to_string())).collect()
}

fn three(world: &World) -> Context {
    world
        .timed()
        .with(&A, world.at("three").hangs())
        .with(&A, world.at("two").hangs())
        .with(&A, world.at("one").hangs())
        .offer(&A)
}

#[test]
fn r11_the_next_starts_after_250_ms() {
    let world = World::default();
    let ctx = three(&world).with(&A, world.at("zero").after(600));
    let resolved = resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(winner(&resolved), "zero");
    assert_eq!(times(&world), at(&[(0, "zero"), (250, "one"), (500, "two")]));
}

#[test]
fn r11_or_at_once_when_one_fails() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("four"))
        .with(&A, world.at("three").refuses())
        .with(&A, world.at("two").hangs())
        .with(&A, world.at("one").refuses().after(30))
        .offer(&A);
    resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(0, "one"), (30, "two"), (280, "three"), (280, "four")]));
}

#[test]
fn r11_the_delay_is_a_value_of_the_context_and_no_less_than_10_ms() {
    for (delay, second) in [(100, 100), (3, 10), (10, 10), (2000, 2000)] {
        let world = World::default();
        let ctx = three(&world).with(&names::ATTEMPT_DELAY, ms(delay)).with(&names::DEADLINE, ms(second + 1));
        assert!(resolving(&ctx).finish(&world.clock).is_err());
        assert_eq!(times(&world)[1], (second, "two".to_string()));
    }
}

#[test]
fn r11_delay_timeout_and_deadline_are_three_values() {
    let world = World::default();
    let ctx = three(&world)
        .with(&names::ATTEMPT_DELAY, ms(100))
        .with(&names::ATTEMPT_TIMEOUT, ms(150))
        .with(&names::DEADLINE, ms(320));
    let error = resolving(&ctx).finish(&world.clock).unwrap_err();
    // The first times out at 150, so the third starts then and not at 200.
    assert_eq!(times(&world), at(&[(0, "one"), (100, "two"), (150, "three")]));
    assert_eq!(world.clock.millis(), 300, "the last timed out, before the deadline");
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    let told = format!("{error:#}");
    assert_eq!(told.matches("timed out after 150ms").count(), 3, "{told}");

    let world = World::default();
    let ctx = three(&world).with(&names::DEADLINE, ms(320));
    let error = resolving(&ctx).finish(&world.clock).unwrap_err();
    assert_eq!(world.clock.millis(), 320);
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert!(format!("{error:#}").contains("the deadline passed"));
}

#[test]
fn r11_what_comes_too_late_for_one_candidate_is_there_for_the_next() {
    let world = World::default();
    let (x, a, b) = (Gate::default(), world.at("a"), world.at("b"));
    let behind = x.clone();
    let ctx = world
        .timed()
        .derive(&X, (), move |()| {
            let x = behind.clone();
            async move {
                x.passed().await;
                Ok(1)
            }
        })
        .derive(&Y, req(&X), |x| async move { Ok(x) })
        .derive(&A, req(&Y), move |_| {
            let a = a.clone();
            async move { Ok(a) }
        })
        .derive(&B, req(&Y), move |_| {
            let b = b.clone();
            async move { Ok(b) }
        })
        .offer(&A)
        .offer(&B)
        .with(&names::ATTEMPT_DELAY, ms(100))
        .with(&names::ATTEMPT_TIMEOUT, ms(150));
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(100));
    assert!(task.run().is_pending());
    world.clock.advance(ms(60));
    assert!(task.run().is_pending(), "the first has had its time");
    x.open();
    let resolved = task.finish(&world.clock).expect("the second goes on");
    assert_eq!(times(&world).len(), 1);
    let late = &resolved.report().candidates[0].outcome;
    assert!(
        matches!(late, Outcome::Failed(cause) if cause.what.contains("timed out after 150ms, while deriving"))
    );
}

#[test]
fn r11_lower_priorities_wait_until_the_higher_is_exhausted() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("a").refuses().after(5000))
        .with(&B, world.at("b"))
        .offer_at(&A, 1)
        .offer_at(&B, 2);
    resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(0, "a"), (5000, "b")]));
}

#[test]
fn r11_or_for_the_head_start() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("a").hangs())
        .with(&B, world.at("b").hangs())
        .with(&C, world.at("c"))
        .offer_at(&A, 1)
        .offer_at(&B, 2)
        .offer_at(&C, 3)
        .with(&names::HEAD_START, ms(700));
    resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(0, "a"), (700, "b"), (1400, "c")]));
    // An offer of what is not bound has no head start of its own.
    let began = world.clock.millis();
    resolving(&ctx.without(&B)).finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(began, "a"), (began + 700, "c")]));
}

#[test]
fn r11_when_the_head_start_is_over_it_is_the_turn_of_the_next_rank_not_of_more_of_the_first() {
    let world = World::default();
    let ctx = three(&world)
        .with(&B, world.at("b").hangs())
        .offer_at(&A, 1)
        .offer_at(&B, 2)
        .with(&names::HEAD_START, ms(100))
        .with(&names::DEADLINE, ms(500));
    assert!(resolving(&ctx).finish(&world.clock).is_err());
    assert_eq!(times(&world), at(&[(0, "one"), (100, "b"), (350, "two")]));
}

/// Addresses of two families, in the order in which a lookup gave them.
fn families(world: &World, first_count: Option<u32>) -> Vec<String> {
    let to = world.clone();
    let mut ctx = world
        .timed()
        .derive_many(&IP, (), |()| async { Ok(vec![60, 61, 62, 63, 40, 41]) })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}")).group(ip / 10).refuses();
            async move { Ok(at) }
        })
        .offer(&A);
    if let Some(count) = first_count {
        ctx = ctx.with(&names::FIRST_GROUP_COUNT, count);
    }
    assert!(resolving(&ctx).finish(&world.clock).is_err());
    world.dialled()
}

#[test]
fn r11_address_families_interleave() {
    let world = World::default();
    assert_eq!(families(&world, None), ["60", "40", "61", "41", "62", "63"]);
    assert_eq!(families(&world, Some(1)), ["60", "40", "61", "41", "62", "63"]);
    assert_eq!(families(&world, Some(2)), ["60", "61", "40", "62", "41", "63"]);
}

#[test]
fn r11_losers_are_dropped_when_one_wins() {
    let world = World::default();
    let ctx = three(&world).with(&A, world.at("winner").after(260)).with(&A, world.at("zero").hangs());
    let resolved = resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(winner(&resolved), "winner");
    assert_eq!(world.count(), 1, "the winner's flow, and nothing else");
    assert_eq!(world.clock.timers(), 0);
    drop(resolved);
    assert_eq!(world.count(), 0);
}

#[test]
fn r11_a_late_winner_is_closed() {
    // Both connect at the same moment: the first in order wins, the other's flow is closed.
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("second").after(250))
        .with(&A, world.at("first").after(500))
        .offer(&A);
    let resolved = resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(winner(&resolved), "first");
    assert_eq!(times(&world), at(&[(0, "first"), (250, "second")]));
    assert_eq!(world.count(), 1);
}

#[test]
fn r11_without_a_clock_candidates_come_one_after_the_other_and_no_time_can_be_set() {
    let world = World::default();
    let gate = Gate::default();
    let ctx =
        Context::new().with(&A, world.at("two")).with(&A, world.at("one").refuses().behind(&gate)).offer(&A);
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    assert_eq!(world.dialled(), ["one"]);
    gate.open();
    assert!(matches!(task.run(), Poll::Ready(Ok(_))));
    assert_eq!(world.dialled(), ["two"]);
    for key in [&names::DEADLINE, &names::ATTEMPT_TIMEOUT, &names::ATTEMPT_DELAY, &names::HEAD_START] {
        let error = resolve(&ctx.clone().with(key, ms(1))).unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Misuse);
        assert!(error.to_string().contains(key.name()) && error.to_string().contains("RUNTIME"), "{error}");
    }
}

#[test]
fn r11_an_attempt_that_timed_out_while_it_derived_costs_its_choice_alone() {
    let world = World::default();
    let to = world.clone();
    let ctx = world
        .timed()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}"));
            async move {
                if ip == 1 {
                    std::future::pending::<()>().await;
                }
                Ok(at)
            }
        })
        .offer(&A)
        .with(&names::ATTEMPT_DELAY, ms(5000))
        .with(&names::ATTEMPT_TIMEOUT, ms(100));
    resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(100, "2")]));
}

#[test]
fn r11_a_time_that_is_nearer_than_the_one_waited_for_is_kept() {
    let (world, gate) = (World::default(), Gate::default());
    let (to, behind) = (world.clone(), gate.clone());
    let ctx = world
        .timed()
        .derive_many(&IP, (), move |()| {
            let (gate, mut next) = (behind.clone(), 0);
            async move {
                Ok(Many::poll_fn(move |cx| {
                    std::task::ready!(gate.poll(cx));
                    next += 1;
                    Poll::Ready((next <= 3).then_some(Ok(next)))
                }))
            }
        })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("{ip}"));
            async move { Ok(if ip == 3 { at } else { at.hangs() }) }
        })
        .offer(&A)
        .with(&names::DEADLINE, ms(10_000));
    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    // Nothing more to start: only the deadline is waited for, until there are addresses.
    world.clock.advance(ms(250));
    assert!(task.run().is_pending());
    gate.open();
    task.finish(&world.clock).unwrap();
    assert_eq!(times(&world), at(&[(250, "1"), (250, "2"), (500, "3")]));
}

#[test]
fn r11_a_timeout_stops_the_attempt_whose_time_it_is_and_no_other() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("two").after(150))
        .with(&A, world.at("one").hangs())
        .offer(&A)
        .with(&names::ATTEMPT_DELAY, ms(100))
        .with(&names::ATTEMPT_TIMEOUT, ms(200));
    resolving(&ctx).finish(&world.clock).unwrap();
    assert_eq!((world.clock.millis(), world.dialled().len()), (250, 2));
}

#[test]
fn r11_a_timeout_stops_the_derivation_whose_time_it_is_and_no_other() {
    for (ends, takes) in [(true, 150), (false, 10_000)] {
        let world = World::default();
        let to = world.clone();
        let ctx = world
            .timed()
            .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
            .derive(&A, (req(&IP), req(&names::RUNTIME)), move |(ip, runtime)| {
                let at = to.at(format!("{ip}"));
                async move {
                    if ip == 1 {
                        std::future::pending::<()>().await;
                    }
                    runtime.sleep_until(runtime.now() + ms(takes)).await;
                    Ok(at)
                }
            })
            .offer(&A)
            .with(&names::ATTEMPT_DELAY, ms(100))
            .with(&names::ATTEMPT_TIMEOUT, ms(200));
        let resolved = resolving(&ctx).finish(&world.clock);
        assert_eq!(resolved.is_ok(), ends);
        assert_eq!(world.clock.millis(), if ends { 250 } else { 300 });
    }
}
