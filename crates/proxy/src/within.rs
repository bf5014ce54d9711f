//! Limits in time, by the context's clock.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tuyau_core::SharedRuntime;

/// What `future` gives, or `None` if that takes longer than `limit`. Dropping it drops `future`.
pub(crate) async fn within<T>(
    runtime: &SharedRuntime,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut sleep = runtime.sleep_until(runtime.now() + limit);
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}
