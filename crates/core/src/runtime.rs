//! Time and tasks, as a value of the context.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::future::poll_fn;
use core::ops::Add;
use core::pin::{Pin, pin};
use core::task::Poll;
use core::time::Duration;

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A moment, as the time since some origin of the [`Runtime`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

/// Moments [after the cut](Instant::after_cut) are represented as so many seconds later.
const CUT: u64 = 1 << 62;

impl Instant {
    /// The moment `since_origin` after the runtime's origin.
    pub const fn new(since_origin: Duration) -> Self {
        match since_origin.as_secs() {
            ..CUT => Self(since_origin),
            _ => Self(Duration::from_secs(CUT - 1)),
        }
    }

    /// The same moment, later than all that are not after the cut: whatever was to be done by then is late.
    ///
    /// For a [`Runtime`] whose user gives up. From then on its `now` gives such moments, and whoever sleeps is woken,
    /// without being ready: each resolution under way ends as at its deadline (it must have one), with the report
    /// of what it was doing and for how long.
    pub const fn after_cut(self) -> Self {
        Self(self.since_origin().saturating_add(Duration::from_secs(CUT)))
    }

    /// The time since the runtime's origin.
    pub const fn since_origin(self) -> Duration {
        match self.0.as_secs() {
            ..CUT => self.0,
            _ => self.0.saturating_sub(Duration::from_secs(CUT)),
        }
    }

    /// The time from `earlier` until now; zero if that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.since_origin().saturating_sub(earlier.since_origin())
    }
}

/// The earlier of two moments that there may be.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What `future` gives, or `None` once it is late: by the clock as well as by a timer, for whoever is woken
/// [after the cut](Instant::after_cut) has no timer that is ready.
pub(crate) async fn until<T>(
    late: Option<(&SharedRuntime, Instant)>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut timer = late.map(|(runtime, at)| runtime.sleep_until(at));
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        let rings = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
        if !rings && late.is_none_or(|(runtime, at)| at > runtime.now()) {
            return Poll::Pending;
        }
        // The time may have come since it was polled: it may say what it was waiting for.
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        })
    })
    .await
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let sum = Self::new(self.since_origin().saturating_add(duration));
        if self.0.as_secs() < CUT { sum } else { sum.after_cut() }
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
