//! Clients that don't get past the handshake: whoever runs the server is to see why, and a stranger who knocks all day
//! is not to fill the log.

use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tuyau::ConnectError;

use crate::app::App;
use crate::exit::Chain;
use crate::output::{Output, Visible};

/// So many are told in each [`WINDOW`], and then how many there were besides; with `-v` all are.
const MOST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Refused {
    out: Output,
    verbose: bool,
    window: Mutex<Window>,
}

impl Refused {
    pub(crate) fn new(app: &App) -> Self {
        Self { out: app.out, verbose: app.verbose, window: Mutex::default() }
    }

    /// Tells why a handshake failed, unless there were too many.
    pub(crate) fn tell(&self, error: &ConnectError) {
        let tell = || self.out.error(Visible(&Chain(error).to_string()));
        if self.verbose {
            return tell();
        }
        // Load balancers look whether the port is open, and ask for nothing.
        if is_knock(error) {
            return;
        }
        let now = Instant::now();
        let (before, place) = self.window.lock().unwrap_or_else(PoisonError::into_inner).enter(now);
        if before > 0 {
            self.out.tell(format_args!("{before} more handshakes failed meanwhile"));
        }
        match place {
            Place::Told => tell(),
            Place::Last => {
                tell();
                let seconds = WINDOW.as_secs();
                self.out.tell(format_args!(
                    "for {seconds} s, handshakes that fail are only counted: -v tells all"
                ));
            }
            Place::Untold => {}
        }
    }
}

/// Who hung up without having said anything.
fn is_knock(error: &ConnectError) -> bool {
    #[cfg(feature = "tls")]
    {
        use tuyau::tls::TlsError;
        let tls = error.source().and_then(|cause| cause.downcast_ref::<TlsError>());
        matches!(tls, Some(TlsError::HungUp { silent: true }))
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        false
    }
}

#[derive(Debug, Default)]
struct Window {
    until: Option<Instant>,
    told: u32,
    untold: u64,
}

#[derive(Debug, PartialEq)]
enum Place {
    Told,
    /// The last of its window.
    Last,
    Untold,
}

impl Window {
    /// One more: what becomes of it, and how many went untold before, if that is to be said now.
    fn enter(&mut self, now: Instant) -> (u64, Place) {
        let mut before = 0;
        if self.until.is_none_or(|until| until <= now) {
            before = self.untold;
            *self = Self { until: Some(now + WINDOW), told: 0, untold: 0 };
        }
        if self.told == MOST {
            self.untold += 1;
            return (before, Place::Untold);
        }
        self.told += 1;
        if self.told == MOST {
            self.until = Some(now + WINDOW);
            return (before, Place::Last);
        }
        (before, Place::Told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flood_is_told_and_nothing_is_forgotten() {
        let (mut window, start) = (Window::default(), Instant::now());
        let mut enter = |seconds| window.enter(start + Duration::from_secs(seconds));
        for _ in 1..MOST {
            assert_eq!(enter(0), (0, Place::Told));
        }
        assert_eq!(enter(30), (0, Place::Last));
        assert_eq!([enter(31), enter(89)], [(0, Place::Untold), (0, Place::Untold)]);
        assert_eq!([enter(90), enter(91)], [(2, Place::Told), (0, Place::Told)]);
    }

    #[test]
    fn few_are_all_told() {
        let (mut window, start) = (Window::default(), Instant::now());
        for minute in 0..100 {
            assert_eq!(window.enter(start + minute * WINDOW), (0, Place::Told));
        }
    }
}
