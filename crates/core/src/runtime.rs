//! Time and tasks, as a value of the context.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Add;
use core::pin::Pin;
use core::time::Duration;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A moment, as the time since some origin of the [`Runtime`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The moment `since_origin` after the runtime's origin.
    pub const fn new(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time since the runtime's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` until now; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Time and tasks. Bound to [`names::RUNTIME`](crate::names::RUNTIME), so that simulated time is
/// an overlay, not a fork of the code.
pub trait Runtime: Send + Sync + 'static {
    /// Now. Never goes back.
    fn now(&self) -> Instant;

    /// Is ready once `now()` has reached `until`.
    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()>;

    /// Runs `task` in the background, until it ends.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// A [`Runtime`], shared.
pub type SharedRuntime = Arc<dyn Runtime>;

impl fmt::Debug for dyn Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}
