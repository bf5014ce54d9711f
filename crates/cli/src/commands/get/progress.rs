//! How far it is, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// From `at` to `total`, if that is known.
    pub(super) fn new(at: u64, total: Option<u64>, show: bool) -> Self {
        // Standard error; what is not a terminal is not drawn on.
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => {
                "{percent:>3}% {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}"
            }
            None => "{spinner} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_position(at);
        bar.reset_eta();
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self(bar)
    }

    pub(super) fn got(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    pub(super) fn finish(&self) {
        self.0.finish();
    }

    /// It broke: the bar stays, to show how far it came.
    pub(super) fn abandon(&self) {
        self.0.abandon();
    }
}
