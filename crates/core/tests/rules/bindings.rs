//! Rules 1, 2, 6 and 14: which binding of a key is taken, and what is offered.

use tuyau_core::{ConnectError, Context, Key, decline, names, opt, or, req};

use crate::support::{A, B, C, World, X, Y, Z, get, resolve, winner};

fn declining(ctx: Context, key: &'static Key<u32>) -> Context {
    ctx.derive(key, (), |()| async { Err(decline("not me")) })
}

fn failing(ctx: Context, key: &'static Key<u32>) -> Context {
    ctx.derive(key, (), |()| async { Err("out of order".into()) })
}

#[test]
fn r01_the_order_in_which_keys_were_made_or_first_used_changes_nothing() {
    let world = World::default();
    let dialled = |keys: [&'static tuyau_core::Endpoint<crate::support::Scripted>; 3], reverse: bool| {
        let mut ctx = Context::new();
        let mut offers = keys.to_vec();
        if reverse {
            offers.reverse();
        }
        for key in offers {
            ctx = ctx.offer(key);
        }
        for (name, key) in ["one", "two", "three"].into_iter().zip(keys) {
            ctx = ctx.with(key, world.at(name).refuses());
        }
        let _ = resolve(&ctx);
        world.dialled()
    };
    // Bound in the same order, under keys in any order, offered in any order.
    for keys in [[&A, &B, &C], [&C, &B, &A], [&B, &A, &C]] {
        assert_eq!(dialled(keys, false), ["three", "two", "one"]);
        assert_eq!(dialled(keys, true), ["three", "two", "one"]);
    }
}

#[test]
fn r02_the_newest_binding_is_taken_value_or_derivation_alike() {
    let ctx = Context::new().with(&X, 1).derive(&X, (), |()| async { Ok(2) });
    assert_eq!(get(&ctx, &X).unwrap(), Some(2));
    assert_eq!(get(&ctx.with(&X, 3), &X).unwrap(), Some(3));
}

#[test]
fn r02_declines_fall_through() {
    let ctx = declining(declining(Context::new().with(&X, 1), &X), &X);
    assert_eq!(get(&ctx, &X).unwrap(), Some(1));
    assert_eq!(get(&declining(Context::new(), &X), &X).unwrap(), None);
}

#[test]
fn r02_a_missing_requirement_falls_through() {
    let ctx = Context::new().with(&X, 1).derive(&X, req(&Y), |y| async move { Ok(y) });
    assert_eq!(get(&ctx, &X).unwrap(), Some(1));
    assert_eq!(get(&ctx.with(&Y, 2), &X).unwrap(), Some(2));
}

#[test]
fn r02_an_error_never_falls_through() {
    let ctx = failing(Context::new().with(&X, 1), &X);
    assert!(get(&ctx, &X).unwrap_err().to_string().contains("out of order"));
    // Nor where the error is of what the derivation needs.
    let ctx = failing(Context::new().with(&X, 1), &Y).derive(&X, req(&Y), |y| async move { Ok(y) });
    assert!(get(&ctx, &X).is_err());
}

#[test]
fn r02_replace_drops_older_bindings_derivations_too() {
    let ctx = Context::new().with(&X, 1).derive(&X, (), |()| async { Ok(2) }).replace(&X, 3);
    assert_eq!(get(&ctx, &X).unwrap(), Some(3));
    // A newer derivation that declines finds the replacement, and nothing behind it.
    let ctx = Context::new().with(&X, 1).derive(&X, (), |()| async { Ok(2) });
    let ctx = declining(ctx.without(&X), &X);
    assert_eq!(get(&ctx, &X).unwrap(), None);
}

#[test]
fn r02_without_removes_also_what_comes_to_be_under_it() {
    let bare = Context::new().with(&X, 1).without(&X);
    assert_eq!(get(&bare, &X).unwrap(), None);
    assert_eq!(get(&bare.clone().under(Context::new().with(&X, 2)), &X).unwrap(), None);
    assert_eq!(get(&Context::new().with(&X, 2).merge(bare.clone()), &X).unwrap(), None);
    assert_eq!(get(&bare.clone().merge(Context::new().with(&X, 3)), &X).unwrap(), Some(3));
    assert_eq!(get(&bare.with(&X, 4), &X).unwrap(), Some(4));
}

#[test]
fn r02_in_a_merge_the_right_side_is_newer_and_a_duplicate_keeps_its_newest_place() {
    let world = World::default();
    let one = Context::new().with(&A, world.at("one").refuses()).offer(&A);
    let two = one.clone().with(&A, world.at("two").refuses());
    let tried = |ctx: &Context| {
        let _ = resolve(ctx);
        world.dialled()
    };
    assert_eq!(tried(&two), ["two", "one"]);
    assert_eq!(tried(&two.clone().merge(two.clone())), ["two", "one"]);
    // `one` is in both: it is newer in this.
    assert_eq!(tried(&two.clone().merge(one.clone())), ["one", "two"]);
    assert_eq!(tried(&one.clone().merge(two.clone())), ["two", "one"]);
    assert_eq!(tried(&one.clone().under(two)), ["one", "two"]);
    // The same value bound twice is two bindings.
    assert_eq!(tried(&one.clone().with(&A, world.at("one").refuses())), ["one", "one"]);
}

#[test]
fn r02_get_resolve_plan_and_explain_agree() {
    let world = World::default();
    let to = world.clone();
    let base = declining(Context::new().with(&X, 1).with(&X, 2), &X);
    let ctx = base.derive(&A, req(&X), move |x| {
        let at = to.at(format!("{x}"));
        async move { Ok(at) }
    });
    let ctx = ctx.offer(&A);
    assert_eq!(get(&ctx, &X).unwrap(), Some(2));
    assert_eq!(winner(&resolve(&ctx).unwrap()), "2");
    let explaining = ctx.clone();
    let explained = crate::support::block_on(async move { explaining.explain().await });
    assert_eq!(explained.candidates[0].endpoint.as_deref(), Some("2"));
    let plan = ctx.plan();
    assert!(plan.planned && plan.candidates.len() == 1);
    assert_eq!(plan.candidates[0].binding, explained.candidates[0].binding);
    assert_eq!(world.dialled(), ["2", "2"], "a plan dials nothing");
}

#[test]
fn r02_different_keys_of_one_name_are_told_by_the_plan() {
    static OTHER_X: Key<u32> = Key::new("x");
    let ctx = Context::new().with(&X, 1).with(&OTHER_X, 2);
    assert_eq!((get(&ctx, &X).unwrap(), get(&ctx, &OTHER_X).unwrap()), (Some(1), Some(2)));
    assert!(ctx.plan().notes.iter().any(|note| note.contains("`x`")));
    assert!(Context::new().with(&X, 1).with(&X, 2).plan().notes.is_empty());
}

#[test]
fn r02_a_context_that_was_cloned_is_never_changed() {
    let mut layers = vec![Context::new().with(&X, 0)];
    for x in 1..100 {
        let next = layers[x - 1].clone().with(&X, x as u32).with(&Y, x as u32);
        layers.push(next);
    }
    for (x, ctx) in layers.iter().enumerate() {
        assert_eq!(get(ctx, &X).unwrap(), Some(x as u32));
    }
}

#[test]
fn r06_opt_and_or_fall_back_on_absence_not_on_error() {
    let sees = |ctx: Context| {
        ctx.derive(&Z, (opt(&X), or(&X, 7)), |(x, y)| async move { Ok(x.unwrap_or(1) * 10 + y) })
    };
    assert_eq!(get(&sees(Context::new()), &Z).unwrap(), Some(17));
    assert_eq!(get(&sees(declining(Context::new(), &X)), &Z).unwrap(), Some(17));
    assert_eq!(get(&sees(Context::new().with(&X, 2)), &Z).unwrap(), Some(22));
    assert!(get(&sees(failing(Context::new(), &X)), &Z).is_err());
    for one in [
        failing(Context::new(), &X).derive(&Z, opt(&X), |_| async { Ok(1) }),
        failing(Context::new(), &X).derive(&Z, or(&X, 1), |_| async { Ok(1) }),
    ] {
        assert!(get(&one, &Z).is_err());
    }
}

#[test]
fn r14_only_restricts_the_offers_and_the_report_tells_what_it_excluded() {
    let world = World::default();
    let ctx = Context::new().with(&A, world.at("a")).with(&B, world.at("b").refuses()).offer(&A).offer(&B);
    let forced = ctx.clone().only(&B);
    let error = resolve(&forced).unwrap_err();
    assert_eq!(world.dialled(), ["b"]);
    assert!(error.report().notes.iter().any(|note| note.contains("restricted: a")), "{error:#}");
    assert!(forced.plan().notes.iter().any(|note| note.contains("restricted: a")));
    // What is put under it adds no offers.
    let under = forced.clone().under(Context::new().with(&C, world.at("c")).offer(&C).offer(&A));
    assert!(resolve(&under).is_err());
    assert!(under.plan().notes.iter().any(|note| note.contains("restricted: a, c")), "{}", under.plan());
    // What is offered again is excluded no more.
    assert!(resolve(&forced.offer(&A)).is_ok());
    assert!(ctx.plan().notes.is_empty());
}

#[test]
fn r14_a_merge_excludes_what_either_side_does_each_key_once() {
    let world = World::default();
    let ctx = Context::new().with(&A, world.at("a")).with(&B, world.at("b").refuses()).offer(&A).offer(&B);
    let excluded = |ctx: &Context| {
        let notes = ctx.plan().notes;
        notes.iter().find_map(|note| Some(note.split_once("restricted: ")?.1.to_string()))
    };
    let merged = ctx.clone().only(&B).merge(ctx.clone().with(&X, 1).only(&B));
    assert_eq!(excluded(&merged).as_deref(), Some("a"));
    // Restricted by the older side, the newer, or both, it stays so for what is put under it.
    let plain = Context::new().with(&X, 1);
    for restricted in [
        ctx.clone().only(&B).merge(plain.clone()),
        plain.clone().merge(ctx.clone().only(&B)),
        ctx.clone().only(&B).merge(ctx.clone().with(&X, 1).only(&B)),
    ] {
        let over = restricted.under(Context::new().with(&C, world.at("c")).offer(&C));
        assert!(resolve(&over).is_err());
        assert_eq!(world.dialled(), ["b"]);
        assert_eq!(excluded(&over).as_deref(), Some("a, c"));
    }
    // What is offered again is excluded no more; all else still is.
    let all = ctx.with(&C, world.at("c")).offer(&C);
    assert_eq!(excluded(&all.only(&B).offer(&A)).as_deref(), Some("c"));
}

#[test]
fn the_smallest_context_connects_by_its_function() {
    let world = World::default();
    let at = world.at("flow");
    let inner = Context::new().with(&A, at).offer(&A);
    let ctx = Context::from_fn(move || {
        let inner = inner.clone();
        async move {
            Ok(inner.resolve().await.map_err(|error| ConnectError::new(error.kind(), "inner"))?.into_flow())
        }
    });
    assert_eq!(winner(&resolve(&ctx).unwrap()), "flow");
}

#[test]
fn a_context_is_shown_by_its_keys_and_offers() {
    let ctx = Context::new().with(&X, 1).offer(&A).with(&Y, 2);
    let shown = format!("{ctx:?}");
    for part in ["Context", "x", "y", "offers", "a"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[test]
fn what_a_merge_of_many_keys_binds_is_found() {
    let keys: Vec<&'static Key<u32>> = (0..50).map(|_| Key::leak("key")).collect();
    let bind = |from: usize, to: usize, by: u32| {
        (from..to).fold(Context::new(), |ctx, i| ctx.with(keys[i], i as u32 * by))
    };
    let ctx = bind(0, 40, 1).merge(bind(20, 50, 100));
    for (i, key) in keys.iter().enumerate() {
        let by = if i < 20 { 1 } else { 100 };
        assert_eq!(get(&ctx, key).unwrap(), Some(i as u32 * by));
    }
}

#[test]
fn r02_what_is_bound_is_found_however_many_overlays_there_are_and_newest_first() {
    let world = World::default();
    let keys: Vec<&'static Key<u32>> = (0..200).map(|_| Key::leak("overlaid")).collect();
    // All are kept, so each is an overlay of the one before.
    let mut overlays = vec![Context::new().offer(&A)];
    for (i, key) in keys.iter().enumerate() {
        let over = overlays[i].clone().with(key, i as u32);
        overlays.push(if i % 10 == 0 { over.with(&A, world.at(format!("{i}")).refuses()) } else { over });
    }
    let last = overlays[200].clone();
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(get(&last, key).unwrap(), Some(i as u32));
        assert_eq!(get(&overlays[i], key).unwrap(), None, "the base does not see what is laid over it");
    }
    assert!(resolve(&last).is_err());
    let order: Vec<_> = (0..20).rev().map(|tens| format!("{}", tens * 10)).collect();
    assert_eq!(world.dialled(), order);
    assert!(resolve(&last.under(Context::new().with(&A, world.at("oldest").refuses()))).is_err());
    assert_eq!(world.dialled().last().map(String::as_str), Some("oldest"));
}

#[test]
fn r02_what_the_resolver_itself_reads_counts_from_either_side_of_a_merge() {
    let world = World::default();
    let hasty = Context::new().with(&names::DEADLINE, crate::support::ms(5));
    let plain = Context::new().with(&A, world.at("a")).offer(&A);
    for ctx in [hasty.clone().merge(plain.clone()), plain.clone().merge(hasty.clone()), plain.under(hasty)] {
        assert_eq!(resolve(&ctx).unwrap_err().kind(), tuyau_core::ConnectErrorKind::Misuse);
    }
}

#[test]
fn r02_what_lies_below_overlays_counts_however_many_there_are() {
    let world = World::default();
    let base = Context::new().with(&A, world.at("a")).offer(&A);
    let mut hasty = vec![base.clone().with(&names::DEADLINE, crate::support::ms(5))];
    let mut defaults = vec![base.under(Context::new().with(&X, 1))];
    for y in 0..40 {
        for overlays in [&mut hasty, &mut defaults] {
            overlays.push(overlays[y].clone().with(&Y, y as u32));
        }
    }
    for (hasty, defaults) in hasty.iter().zip(&defaults) {
        assert_eq!(resolve(hasty).unwrap_err().kind(), tuyau_core::ConnectErrorKind::Misuse);
        assert_eq!((get(defaults, &X).unwrap(), get(defaults, &Z).unwrap()), (Some(1), None));
    }
}
