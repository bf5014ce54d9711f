//! What the model found, each as one small context.

use tuyau_core::report::Outcome;
use tuyau_core::{Context, Stop, is, req};

use crate::case::Verdict;
use crate::keys::{FORWARD, Log, Opened, Peer, block_on, once_pending};

fn peer(value: u64, verdict: Verdict) -> Peer {
    Peer { value, key: 0, verdict, log: Log::default() }
}

/// Nobody polled its connection, so nobody was woken again.
#[test]
fn what_waited_for_a_derivation_begins_to_connect() {
    let ctx = Context::new().offer(FORWARD.ends[0]).derive(FORWARD.ends[0], (), |()| async {
        once_pending(true).await;
        Ok(peer(7, Verdict::Connects))
    });
    let resolved = block_on(ctx.resolve()).expect("the only candidate connects");
    assert_eq!(resolved.find().map(|opened: &Opened| opened.0), Some(7));
}

/// `guarded` has an older binding; its newest is guarded by a derived value, and its second
/// argument is on a cycle or depends on one. The guard declines, so the cycle is never come to.
fn assert_plan_leaves_it_open(guarded: Context) {
    let [mark, asked] = [FORWARD.plain[0], FORWARD.plain[1]];
    let ctx = guarded.derive(mark, (), |()| async { Ok::<_, Stop>(1) }).offer(FORWARD.ends[0]).derive(
        FORWARD.ends[0],
        req(asked),
        |value| async move { Ok(peer(value, Verdict::Connects)) },
    );
    assert_eq!(ctx.plan().candidates[0].outcome, Outcome::WouldDerive);
    let resolved = block_on(ctx.resolve()).expect("the older binding stands in");
    assert_eq!(resolved.get(asked), Some(11));
}

#[test]
fn a_plan_is_not_certain_of_a_cycle_behind_a_guard() {
    let [mark, asked] = [FORWARD.plain[0], FORWARD.plain[1]];
    let guarded = Context::new().with(asked, 11).derive(
        asked,
        (is(mark, 2_u64), req(asked)),
        |((), value)| async move { Ok::<_, Stop>(value) },
    );
    assert_plan_leaves_it_open(guarded);
}

#[test]
fn a_plan_is_not_certain_of_a_need_that_fails_behind_a_guard() {
    let [mark, asked, ring] = [FORWARD.plain[0], FORWARD.plain[1], FORWARD.plain[2]];
    let guarded = Context::new()
        .with(asked, 11)
        .derive(ring, req(ring), |value| async move { Ok::<_, Stop>(value) })
        .derive(asked, (is(mark, 2_u64), req(ring)), |((), value)| async move { Ok::<_, Stop>(value) });
    assert_plan_leaves_it_open(guarded);
}

#[test]
fn exactly_as_many_choices_as_are_tried_are_not_too_many() {
    let notes = |choices: u64| {
        let ctx =
            Context::new().offer(FORWARD.ends[0]).derive_many(FORWARD.ends[0], (), move |()| async move {
                Ok::<Vec<_>, Stop>((0..choices).map(|value| peer(value, Verdict::Refuses)).collect())
            });
        let report = block_on(ctx.explain());
        assert_eq!(report.candidates.len(), 64);
        report.notes.iter().filter(|note| note.contains("more choices")).count()
    };
    assert_eq!((notes(64), notes(65)), (0, 1));
}
