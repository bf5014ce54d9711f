//! Rule 10: no silent downgrade, and policies.

use tuyau_core::{ConnectError, ConnectErrorKind, Context, Policy, decline, names, opt, req};

use crate::support::{A, B, ENCRYPTED, IP, TLS, World, X, ms, resolve, resolving, winner};

/// A protected candidate that fails, and clear ones.
fn downgrade(world: &World) -> Context {
    Context::new()
        .with(&TLS, world.at("tls").refuses())
        .with(&ENCRYPTED, world.at("encrypted"))
        .with(&A, world.at("clear"))
        .offer_at(&TLS, 1)
        .offer_at(&ENCRYPTED, 2)
        .offer_at(&A, 3)
}

#[test]
fn r10_no_less_protected_candidate_follows_a_protected_one() {
    let world = World::default();
    let error = resolve(&downgrade(&world)).unwrap_err();
    assert_eq!(world.dialled(), ["tls"]);
    let told = format!("{error:#}");
    assert_eq!(told.matches("none less protected may follow").count(), 2, "{told}");
    // Encrypted is less than authenticated, and more than clear.
    let _ = resolve(&downgrade(&world).without(&TLS).with(&ENCRYPTED, world.at("encrypted").refuses()));
    assert!(!world.dialled().contains(&"clear".to_string()));
}

#[test]
fn r10_the_plan_tells_of_it() {
    let world = World::default();
    let plan = downgrade(&world).plan();
    use tuyau_core::report::Outcome;
    assert!(matches!(plan.candidates[0].outcome, Outcome::WouldConnect));
    assert!(matches!(plan.candidates[2].outcome, Outcome::Refused(_)), "{plan:#}");
}

#[test]
fn r10_unless_the_context_allows_it() {
    let world = World::default();
    let ctx = downgrade(&world).with(&names::ALLOW_DOWNGRADE, true);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "encrypted");
    assert!(resolve(&ctx.with(&names::ALLOW_DOWNGRADE, false)).is_err());
}

#[test]
fn r10_a_protected_candidate_that_is_absent_never_had_its_turn() {
    let world = World::default();
    let ctx = Context::new()
        .derive(&TLS, (), |()| async { Err(decline("not asked for")) })
        .with(&A, world.at("clear"))
        .offer_at(&TLS, 1)
        .offer_at(&A, 2);
    assert_eq!(winner(&resolve(&ctx).unwrap()), "clear");
    // One whose derivation failed is not absent.
    let ctx = ctx.derive(&TLS, (), |()| async { Err("no certificate".into()) });
    assert!(resolve(&ctx).is_err());
}

#[test]
fn r10_while_it_is_not_known_if_a_protected_one_is_absent_no_clear_one_starts() {
    let world = World::default();
    let gate = crate::support::Gate::default();
    let behind = gate.clone();
    let ctx = world
        .timed()
        .with(&A, world.at("clear"))
        .derive(&TLS, opt(&X), move |_| {
            let gate = behind.clone();
            async move {
                gate.passed().await;
                Err(decline("not asked for"))
            }
        })
        .offer(&TLS)
        .offer(&A);
    // Where a downgrade is allowed, it does not wait.
    let mut allowed = resolving(&ctx.clone().with(&names::ALLOW_DOWNGRADE, true));
    assert!(allowed.run().is_pending());
    world.clock.advance(ms(250));
    assert!(allowed.run().is_ready());
    assert_eq!(world.dialled(), ["clear"]);

    let mut task = resolving(&ctx);
    assert!(task.run().is_pending());
    world.clock.advance(ms(10_000));
    assert!(task.run().is_pending());
    assert!(world.dialled().is_empty());
    gate.open();
    assert!(task.run().is_ready());
    assert_eq!(world.dialled(), ["clear"]);
}

#[test]
fn r10_a_protected_candidate_that_timed_out_is_not_followed_by_a_clear_one() {
    let world = World::default();
    let ctx = downgrade(&world).with(&TLS, world.at("tls").hangs()).without(&ENCRYPTED);
    let ctx = ctx
        .with(&names::RUNTIME, world.clock.runtime())
        .with(&names::ATTEMPT_TIMEOUT, ms(100))
        .with(&names::HEAD_START, ms(10));
    assert!(resolving(&ctx).finish(&world.clock).is_err());
    assert!(!world.dialled().contains(&"clear".to_string()));
}

#[test]
fn r10_a_failed_verification_or_authentication_ends_the_resolution() {
    for kind in [ConnectErrorKind::Verification, ConnectErrorKind::Authentication] {
        let world = World::default();
        let ctx = Context::new()
            .with(&TLS, world.at("other"))
            .with(&TLS, world.at("impostor").fails(kind))
            .offer(&TLS);
        let error = resolve(&ctx.with(&names::ALLOW_DOWNGRADE, true)).unwrap_err();
        assert_eq!((error.kind(), world.dialled()), (kind, vec!["impostor".to_string()]));
        assert!(format!("{error}").contains("so nothing else was tried"), "{error}");
    }
}

#[test]
fn r10_that_nothing_else_was_tried_is_told_where_there_was_something_else() {
    let kind = ConnectErrorKind::Verification;
    let tells = |ctx: &Context| resolve(ctx).unwrap_err().to_string().contains("so nothing else was tried");
    let world = World::default();
    let alone = Context::new().with(&TLS, world.at("impostor").fails(kind)).offer(&TLS);
    assert!(!tells(&alone));
    for (choices, more) in [(1, false), (2, true)] {
        let to = world.clone();
        let ctx = Context::new()
            .derive_many(&IP, (), move |()| async move { Ok((0..choices).collect::<Vec<_>>()) })
            .derive(&TLS, req(&IP), move |ip| {
                let at = to.at(format!("impostor {ip}")).fails(kind);
                async move { Ok(at) }
            })
            .offer(&TLS);
        assert_eq!(tells(&ctx), more, "{choices}");
    }
}

#[test]
fn r10_wherever_it_was_met_a_failed_verification_ends_the_resolution() {
    for slow in [false, true] {
        let world = World::default();
        let to = world.clone();
        let ctx = Context::new()
            .with(&A, world.at("another way"))
            .derive(&X, (), move |()| async move {
                if slow {
                    crate::support::yield_once().await;
                }
                Err(ConnectError::new(ConnectErrorKind::Verification, "the host key changed").into())
            })
            .derive(&A, req(&X), move |_| {
                let at = to.at("never");
                async move { Ok(at) }
            })
            .offer(&A);
        assert_eq!(resolve(&ctx).unwrap_err().kind(), ConnectErrorKind::Verification);
        assert!(world.dialled().is_empty());
    }
}

#[test]
fn r10_a_policy_binds_every_candidate() {
    let world = World::default();
    let ctx = Context::new()
        .with(&TLS, world.at("tls"))
        .with(&A, world.at("a"))
        .with(&B, world.at("b"))
        .offer_at(&A, 1)
        .offer_at(&B, 2)
        .offer_at(&TLS, 3);
    let under = |policy| ctx.clone().with(&names::POLICY, policy);
    assert_eq!(winner(&resolve(&under(Policy::new())).unwrap()), "a");
    assert_eq!(winner(&resolve(&under(Policy::new().encrypted_end_to_end())).unwrap()), "tls");
    assert_eq!(winner(&resolve(&under(Policy::new().encrypted_on_every_hop())).unwrap()), "tls");
    assert_eq!(winner(&resolve(&under(Policy::new().only_protocols([B.erase()]))).unwrap()), "b");
    world.dialled();
    let error = resolve(&under(Policy::new().only_protocols([])).clone()).unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
    assert!(world.dialled().is_empty());
    let plan = under(Policy::new().encrypted_end_to_end()).plan();
    assert!(matches!(plan.candidates[0].outcome, tuyau_core::report::Outcome::Refused(_)));
}
