//! tokio's timers, tasks and clock as a value.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant as TokioInstant;
use tuyau_core::{BoxFuture, Instant, Runtime, SharedRuntime};

/// tokio as a [`Runtime`]. Its clock is tokio's, so that `tokio::time::pause` stops it too.
///
/// Its `sleep_until` and `spawn` must be called within a tokio runtime (its timers enabled), and
/// panic elsewhere, as tokio's own do.
pub fn runtime() -> SharedRuntime {
    Arc::new(Tokio { origin: TokioInstant::now() })
}

struct Tokio {
    origin: TokioInstant,
}

/// Beyond this a sleep is for ever: tokio's clock can't represent much more.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

impl Runtime for Tokio {
    fn now(&self) -> Instant {
        Instant::new(self.origin.elapsed())
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        match self.origin.checked_add(until.since_origin().min(FOR_EVER)) {
            Some(until) => Box::pin(tokio::time::sleep_until(until)),
            None => Box::pin(std::future::pending()),
        }
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_is_tokios_so_it_can_be_paused() {
        let runtime = runtime();
        let before = runtime.now();
        assert_eq!(runtime.now(), before);
        runtime.sleep_until(before + Duration::from_secs(3600)).await;
        assert_eq!(runtime.now().since(before), Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_beyond_all_time_does_not_panic() {
        let sleep = runtime().sleep_until(Instant::new(Duration::MAX));
        assert!(tokio::time::timeout(Duration::from_secs(1), sleep).await.is_err());
    }
}
