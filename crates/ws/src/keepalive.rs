//! Silence, measured.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tuyau_core::{BoxFuture, Instant, SharedRuntime};

/// Asks a peer that is silent whether it is there.
pub(crate) struct Keepalive {
    interval: Duration,
    runtime: SharedRuntime,
    /// In a mutex only to be `Sync`: nobody shares it.
    timer: Mutex<BoxFuture<'static, ()>>,
    last_heard: Instant,
    asked: bool,
}

pub(crate) enum Due {
    Ping,
    GiveUp,
}

impl Keepalive {
    pub(crate) fn new(interval: Duration, runtime: SharedRuntime) -> Self {
        let now = runtime.now();
        let timer = Mutex::new(runtime.sleep_until(now + interval));
        Self { interval, runtime, timer, last_heard: now, asked: false }
    }

    pub(crate) fn heard(&mut self) {
        self.last_heard = self.runtime.now();
        self.asked = false;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            let timer = self.timer.get_mut().unwrap_or_else(PoisonError::into_inner);
            ready!(timer.as_mut().poll(cx));
            let now = self.runtime.now();
            let silent = now.since(self.last_heard) >= self.interval;
            let next = if silent { now } else { self.last_heard } + self.interval;
            *timer = self.runtime.sleep_until(next);
            if silent {
                let due = if self.asked { Due::GiveUp } else { Due::Ping };
                self.asked = true;
                return Poll::Ready(due);
            }
        }
    }
}
