//! Auto traits that users rely on, and compile errors that they read.

use std::fmt::Debug;

use tuyau_core::*;

fn sent<T: Send + Sync + Unpin + Debug + 'static>() {}
fn cloned<T: Clone>() {}
fn is_future_send<F: Future + Send>(_: F) {}

#[test]
fn what_crosses_threads_may() {
    sent::<Flow>();
    sent::<Context>();
    sent::<Resolved>();
    sent::<Error>();
    sent::<ConnectError>();
    sent::<FlowError>();
    sent::<Key<u32>>();
    sent::<KeyRef>();
    sent::<Dial>();
    sent::<Reads>();
    sent::<Report>();
    sent::<Unfolded>();
    sent::<Policy>();
    sent::<Target>();
    sent::<Listener>();
    sent::<AcceptError>();
    sent::<Instant>();
    // Whatever its type: a key holds none of it.
    sent::<Key<*const u8>>();
    cloned::<Context>();
    cloned::<Reads>();
    cloned::<Report>();
}

#[test]
fn errors_go_where_errors_go() {
    fn boxed<T: std::error::Error + Send + Sync + 'static>() {}
    boxed::<Error>();
    boxed::<ConnectError>();
    boxed::<FlowError>();
    boxed::<AcceptError>();
}

#[test]
fn what_one_awaits_may_be_spawned() {
    static X: Key<u32> = Key::new("x");
    let ctx = Context::new();
    is_future_send(ctx.resolve());
    is_future_send(ctx.unfold());
    is_future_send(ctx.explain());
    is_future_send(ctx.get(&X));
}

#[test]
fn compile_errors_are_readable() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
