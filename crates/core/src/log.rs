//! What `tracing` is told, in a build with that feature: the steps of resolutions, at DEBUG.

use alloc::string::String;
use core::time::Duration;

/// Tells a step, which is worked out only if somebody listens. Not to be called under a lock.
#[inline]
pub(crate) fn step(said: impl FnOnce() -> String) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "tuyau", "{}", crate::report::safe(&said()));
    #[cfg(not(feature = "tracing"))]
    drop(said);
}

/// ` after 4.2 ms`, if the time is known.
pub(crate) fn after(took: Option<Duration>) -> String {
    took.map(|took| alloc::format!(" after {}", crate::report::took(took))).unwrap_or_default()
}
