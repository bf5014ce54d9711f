//! Rules 7, 8 and 9: what a failure costs, what a cycle is, and what is told of either.

use tuyau_core::{ConnectError, ConnectErrorKind, Context, Key, decline, dial, is, names, opt, req};

use crate::support::{A, B, C, IP, SECRET, World, X, Y, Z, get, ms, resolve, resolving, winner};

#[derive(Debug)]
struct Flood(u32);

impl std::fmt::Display for Flood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the water stands {} cm high", self.0)
    }
}

impl std::error::Error for Flood {}

#[test]
fn r07_a_failure_costs_the_candidates_that_need_it_and_nothing_else() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&C, world.at("c"))
        .with(&B, world.at("b").refuses())
        .derive(&X, (), |()| async { Err(Flood(30).into()) })
        .derive(&A, req(&X), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A)
        .offer(&B)
        .offer(&C);
    let resolved = resolve(&ctx).unwrap();
    assert_eq!(winner(&resolved), "c");
    assert_eq!(world.dialled(), ["b", "c"]);
    assert!(format!("{:#}", resolved.report()).contains("30 cm"), "what failed before is told");
}

#[test]
fn r07_a_failure_that_nobody_needs_is_not_even_met() {
    let world = World::default();
    let ctx = Context::new()
        .derive(&X, (), |()| async { panic!("nobody needs this") })
        .with(&A, world.at("a"))
        .offer(&A);
    assert!(resolve(&ctx).is_ok());
}

#[test]
fn r08_every_derivation_on_a_cycle_fails_even_through_opt_whichever_is_asked_first() {
    let ctx = Context::new()
        .with(&X, 7)
        .derive(&X, opt(&Y), |_| async { Ok(1) })
        .derive(&Y, opt(&Z), |_| async { Ok(1) })
        .derive(&Z, opt(&X), |_| async { Ok(1) });
    let mut told = Vec::new();
    for key in [&X, &Y, &Z] {
        let error = get(&ctx, key).unwrap_err().to_string();
        let path = error.split("cycle: ").nth(1).unwrap().lines().next().unwrap().to_string();
        told.push(path);
    }
    assert_eq!(told, ["x → y → z → x"; 3]);
}

#[test]
fn r08_who_depends_on_a_cycle_sees_an_ordinary_failure() {
    static OUTSIDE: Key<u32> = Key::new("outside");
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&B, world.at("b"))
        .derive(&X, req(&Y), |_| async { Ok(1) })
        .derive(&Y, req(&X), |_| async { Ok(1) })
        .derive(&OUTSIDE, opt(&X), |_| async { Ok(1) })
        .derive(&A, req(&OUTSIDE), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A)
        .offer(&B);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "b");
    let text = get(&ctx, &OUTSIDE).unwrap_err().to_string();
    assert!(text.contains("x → y → x") && !text.contains("outside →"), "{text}");
}

#[test]
fn r08_a_key_that_needs_itself_is_a_cycle_and_a_guard_in_front_breaks_it() {
    let itself = Context::new().with(&X, 1).derive(&X, req(&X), |x| async move { Ok(x + 1) });
    assert!(get(&itself, &X).unwrap_err().to_string().contains("x → x"));
    let guarded =
        Context::new()
            .with(&X, 1)
            .with(&Y, 0)
            .derive(&X, (is(&Y, 1), req(&X)), |((), x)| async move { Ok(x + 1) });
    assert_eq!(get(&guarded, &X).unwrap(), Some(1));
}

#[test]
fn r08_what_is_behind_a_decline_and_needs_itself_is_a_cycle() {
    let ctx = Context::new()
        .derive(&X, req(&X), |x| async move { Ok(x + 1) })
        .derive(&X, (), |()| async { Err(decline("not me")) });
    assert!(get(&ctx, &X).unwrap_err().to_string().contains("x → x"));
}

#[test]
fn r08_a_cycle_is_found_where_another_choice_waits_inside_it() {
    // The walk of the first choice waits inside X; that of the second finds its own way round.
    let world = World::default();
    let to = world.clone();
    let slow = world.timed().derive_many(&IP, (), |()| async { Ok(vec![1, 2]) }).derive(
        &Z,
        req(&IP),
        |ip| async move {
            if ip == 1 {
                std::future::pending::<()>().await;
            }
            Ok(ip)
        },
    );
    let itself = slow.clone().derive(&X, (req(&Z), req(&X)), |_| async { Ok(1) });
    let behind_a_decline = slow
        .derive(&X, req(&X), |_| async { Ok(1) })
        .derive(&X, req(&Z), |_| async { Err(decline("not me")) });
    for ctx in [itself, behind_a_decline] {
        let to = to.clone();
        let ctx = ctx
            .derive(&A, req(&X), move |_| {
                let at = to.at("never");
                async move { Ok(at) }
            })
            .offer(&A)
            .with(&names::DEADLINE, ms(1000));
        let error = resolving(&ctx).finish(&world.clock).unwrap_err();
        assert!(format!("{error:#}").contains("x → x"), "{error:#}");
    }
}

#[test]
fn r08_what_a_cycle_forks_into_does_not_depend_on_who_was_asked_first() {
    let world = World::default();
    let (to, of_b) = (world.clone(), world.at("b"));
    // Of the choices of IP, the last leads to no cycle: there Y is not needed, and forks nothing.
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2, 3]) })
        .derive(&X, req(&IP), |ip| async move { if ip == 3 { Err(decline("not this")) } else { Ok(ip) } })
        .derive_many(&Y, (), |()| async { Ok(vec![1, 2]) })
        .derive(&Z, (req(&Y), dial(&A)), |_| async { Ok(1) })
        .derive(&A, (req(&X), req(&Z)), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .derive(&B, req(&Z), move |_| {
            let at = of_b.clone();
            async move { Ok(at) }
        });
    let of_a = |ctx: &Context| {
        let report = resolve(ctx).unwrap_err().report();
        report.candidates.iter().filter(|candidate| candidate.key == "a").count()
    };
    // The same, where Y is seen by a newer binding of A: two candidates more.
    let newer = ctx
        .clone()
        .derive(&Z, dial(&A), |_| async { Ok(1) })
        .derive(&A, req(&Y), |_| async { Err(decline("not me")) });
    for (ctx, count) in [(ctx, 5), (newer, 7)] {
        let alone = ctx.offer_at(&A, 2);
        assert_eq!(of_a(&alone), count);
        assert_eq!(of_a(&alone.offer_at(&B, 1)), count);
    }
}

#[test]
fn r08_a_choice_that_a_newer_binding_declined_for_may_lead_out_of_a_cycle() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2]) })
        .derive(&X, req(&Y), |y| async move { Ok(y) })
        .derive(&Y, req(&X), |x| async move { Ok(x) })
        .derive(&Y, req(&IP), |ip| async move { if ip == 1 { Err(decline("not this")) } else { Ok(ip) } })
        .derive(&A, req(&X), move |x| {
            let at = to.at(format!("{x}"));
            async move { Ok(at) }
        })
        .offer(&A);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "2");
}

#[test]
fn r08_the_plan_tells_of_a_cycle_too() {
    let to = World::default();
    let ctx = Context::new()
        .derive(&X, req(&Y), |_| async { Ok(1) })
        .derive(&Y, req(&X), |_| async { Ok(1) })
        .derive(&A, req(&X), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    assert!(format!("{:#}", ctx.plan()).contains("x → y → x"));
}

#[test]
fn r08_the_plan_tells_of_no_cycle_behind_what_may_be_absent() {
    let to = World::default();
    let ctx = Context::new()
        .derive(&Z, (), |()| async { Err(decline("not today")) })
        .derive(&X, (req(&Z), req(&Y)), |_| async { Ok(1) })
        .derive(&Y, req(&X), |_| async { Ok(1) })
        .derive(&A, req(&X), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    let plan = ctx.plan();
    assert!(matches!(plan.candidates[0].outcome, tuyau_core::report::Outcome::WouldDerive), "{plan:#}");
    let error = resolve(&ctx).unwrap_err();
    assert!(!format!("{error:#}").contains("cycle"), "{error:#}");
    // Where it is there, the cycle is come to.
    assert!(get(&ctx.clone().with(&Z, 1), &X).unwrap_err().to_string().contains("x → y → x"));
    // So it is if the cycle is entered elsewhere, and if it stands whole behind what may be absent.
    let to = World::default();
    let at = move || {
        let at = to.at("a");
        async move { Ok(at) }
    };
    let whole = Context::new()
        .derive(&Z, (), |()| async { Err(decline("not today")) })
        .derive(&X, req(&Y), |_| async { Ok(1) })
        .derive(&Y, req(&X), |_| async { Ok(1) })
        .derive(&A, (req(&Z), req(&X)), {
            let at = at.clone();
            move |_| at()
        })
        .offer(&A);
    for ctx in [ctx.derive(&A, req(&Y), move |_| at()), whole] {
        let plan = ctx.plan();
        assert!(matches!(plan.candidates[0].outcome, tuyau_core::report::Outcome::WouldDerive), "{plan:#}");
    }
}

#[test]
fn r09_the_error_lists_every_candidate_with_what_became_of_it() {
    let world = World::default();
    let (one, two, three) = (world.clone(), world.clone(), world.clone());
    let ctx = world
        .timed()
        .with(&A, world.at("refused.example").refuses().after(20))
        .derive(&A, req(&X), move |_| {
            let at = one.at("?");
            async move { Ok(at) }
        })
        .derive(&A, (), |()| async { Err(decline("it is not tuesday")) })
        .derive(&A, is(&Y, 5), move |()| {
            let at = two.at("?");
            async move { Ok(at) }
        })
        .derive(&A, req(&Z), move |_| {
            let at = three.at("?");
            async move { Ok(at) }
        })
        .derive(&Z, (), |()| async { Err(Flood(12).into()) })
        .with(&Y, 4)
        .offer(&A);
    let error = crate::support::resolving(&ctx).finish(&world.clock).unwrap_err();
    let report = error.report();
    assert_eq!(report.candidates.len(), 5);
    let all = format!("{error:#}");
    for told in ["refused.example said no", "`x`", "it is not tuesday", "12 cm", "failure.rs:", "20 ms"] {
        assert!(all.contains(told), "{told} in {all}");
    }
    assert!(all.contains("`y` is not 5, but 4"), "{all}");
    assert!(error.to_string().lines().count() <= 10, "a few lines: {error}");
    assert_eq!(report.candidates[4].took, Some(crate::support::ms(20)));
}

#[test]
fn r09_each_candidate_tells_the_time_that_it_took_itself() {
    let world = World::default();
    let ctx = world
        .timed()
        .with(&A, world.at("two").refuses().after(30))
        .with(&A, world.at("one").refuses().after(20))
        .offer(&A);
    let error = resolving(&ctx).finish(&world.clock).unwrap_err();
    let took: Vec<_> = error.report().candidates.iter().map(|candidate| candidate.took).collect();
    assert_eq!(took, [Some(ms(20)), Some(ms(30))]);
}

#[test]
fn r09_each_derivation_tells_the_time_that_it_took_itself() {
    let world = World::default();
    let to = world.clone();
    let takes = |ctx: Context, key, millis| {
        ctx.derive(key, req(&names::RUNTIME), move |runtime| async move {
            runtime.sleep_until(runtime.now() + ms(millis)).await;
            Ok(1)
        })
    };
    let clock = world.clock.clone();
    let ctx = takes(takes(world.timed(), &X, 20), &Y, 30)
        .derive(&Z, (), move |()| {
            clock.advance(ms(5));
            async { Ok(1) }
        })
        .derive(&A, (req(&X), req(&Y), req(&Z)), move |_| {
            let at = to.at("a");
            async move { Ok(at) }
        })
        .offer(&A);
    let report = resolving(&ctx).finish(&world.clock).unwrap().report();
    let took = |key| report.reads.iter().find(|read| read.key == key).and_then(|read| read.took);
    assert_eq!([took("x"), took("y"), took("z")], [20, 30, 5].map(|millis| Some(ms(millis))));
}

#[test]
fn r09_sources_stay_downcastable() {
    let world = World::default();
    let ctx = Context::new()
        .with(&B, world.at("b").refuses())
        .derive(&A, (), |()| async { Err(Flood(3).into()) })
        .offer_at(&A, 1)
        .offer_at(&B, 2);
    let error = resolve(&ctx).unwrap_err();
    let errors: Vec<_> = error.errors().collect();
    assert_eq!(errors[0].downcast_ref::<Flood>().map(|flood| flood.0), Some(3));
    let refused = errors[1].downcast_ref::<ConnectError>().unwrap();
    assert_eq!(refused.kind(), ConnectErrorKind::Refused);
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(std::error::Error::source(&error).unwrap().is::<Flood>());
    let failed = get(&Context::new().derive(&X, (), |()| async { Err(Flood(4).into()) }), &X).unwrap_err();
    assert!(failed.to_string().contains("4 cm"), "{failed}");
}

#[test]
fn r09_debug_is_for_people_as_main_prints_it() {
    let cause = ConnectError::new(ConnectErrorKind::Refused, "connect").with_source("nobody listens");
    let error = ConnectError::new(ConnectErrorKind::Refused, "the hop before")
        .with_source(cause)
        .with_hint("start it");
    assert_eq!(format!("{error:?}"), "the hop before: connect: nobody listens\n  what to do: start it");
}

#[test]
fn r09_no_value_of_a_sensitive_key_is_ever_shown() {
    static TOKEN: Key<String> = Key::new("token").shown().sensitive();
    static WANTED: Key<String> = Key::new("wanted").sensitive().shown();
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .with(&TOKEN, "hunter2".to_string())
        .with(&WANTED, "swordfish".to_string())
        .with(&SECRET, world.at("xyzzy.onion").refuses())
        .derive(&A, (is(&WANTED, "plugh"), req(&TOKEN)), move |_| {
            let at = to.at("never");
            async move { Ok(at) }
        })
        .derive(&B, (req(&TOKEN), tuyau_core::dial(&SECRET)), {
            let to = world.clone();
            move |_| {
                let at = to.at("b").refuses();
                async move { Ok(at) }
            }
        })
        .offer(&A)
        .offer(&B)
        .offer(&SECRET);
    // What the peer itself says is the peer's business, so SECRET refuses under no name of its own.
    let ctx = ctx.with(&SECRET, world.at("").refuses());
    let ctx2 = ctx.clone();
    let unfolded = crate::support::block_on(async move { ctx2.unfold().await }).unwrap();
    let error = resolve(&ctx.clone().without(&SECRET).with(&SECRET, world.at("").refuses())).unwrap_err();
    let report = error.report();
    let shown = [
        format!("{error} {error:#} {error:?} {report} {report:#} {report:?} {}", report.dot()),
        format!("{ctx:?} {} {:#} {:?}", ctx.plan(), ctx.plan(), ctx.plan()),
        format!("{unfolded:?} {:#}", unfolded.report()),
    ]
    .concat();
    for secret in ["hunter2", "swordfish", "plugh", "xyzzy"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    assert!(shown.contains("<hidden>"));
}

#[test]
fn r09_a_cause_is_told_once_with_the_addresses_that_it_hit() {
    let failed = |errors: &[(&str, &str)]| {
        let errors = errors.iter().map(|(address, cause)| {
            let error = ConnectError::new(ConnectErrorKind::Refused, format!("connect to {address}"));
            let error = match cause.strip_prefix("says ") {
                Some(what) => error.with_what(format!("{what} {address}")),
                None => error.with_source(*cause),
            };
            (address.parse().expect("an address"), error.with_hint(format!("look at {address}")))
        });
        ConnectError::of_addresses("db.test", errors.collect())
    };
    let error = failed(&[("[::1]:1", "refused"), ("127.0.0.1:1", "refused"), ("192.0.2.1:1", "no route")]);
    let expected = "no address of `db.test` could be connected ([::1]:1 and 127.0.0.1:1: refused; 192.0.2.1:1: no route)";
    assert_eq!(error.to_string(), expected);
    assert_eq!((error.kind(), error.hint()), (ConnectErrorKind::Refused, Some("look at 192.0.2.1:1")));
    let error = failed(&[("[::1]:1", "says I can't reach"), ("127.0.0.1:1", "says I can't reach")]);
    let expected = "no address of `db.test` could be connected ([::1]:1 and 127.0.0.1:1: I can't reach it)";
    assert_eq!(error.to_string(), expected);
    let error = failed(&[]);
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ConnectErrorKind::NotFound, "`db.test` has no address")
    );
}

#[test]
fn r09_candidates_that_fail_alike_are_told_in_a_line_and_others_in_their_own() {
    let world = World::default();
    let to = world.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2, 3, 4]) })
        .derive(&A, req(&IP), move |ip| {
            let at = to.at(format!("host{ip}:1")).refuses();
            async move { Ok(at) }
        })
        .with(&B, world.at("other:1").refuses())
        .offer(&A)
        .offer(&B);
    let said = resolve(&ctx).unwrap_err().to_string();
    let lines: Vec<_> = said.lines().skip(1).map(str::trim).collect();
    assert_eq!(lines, ["b: other:1 said no", "a: host1:1, host2:1 and 2 more said no"], "{said}");
}
