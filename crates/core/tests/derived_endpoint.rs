//! An endpoint that took its time to be derived is connected at once, without anything else to wake
//! the resolution.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Protocol};

struct Refusing;

impl Protocol for Refusing {
    type Endpoint = u8;
    type Flow = Flow;

    async fn connect(&self, _endpoint: u8, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        yield_once().await;
        Err(ConnectError::new(ConnectErrorKind::Refused, "connect"))
    }
}

static REFUSING: Endpoint<Refusing> = Endpoint::new("refusing", &Refusing);

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_derived_endpoint_is_connected_without_another_wake() {
    let ctx = Context::new()
        .derive(&REFUSING, (), |()| async {
            yield_once().await;
            Ok(1)
        })
        .offer(&REFUSING);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut resolving = pin!(ctx.resolve());
    loop {
        match resolving.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(result) => break assert!(result.is_err()),
            Poll::Pending => assert!(woken.0.swap(false, Ordering::Relaxed), "nothing will ever wake it"),
        }
    }
}
