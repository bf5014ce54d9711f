//! The signals that end a command.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

use crate::exit::Failure;

/// How long after a failure its cause may turn out to be a signal.
const GRACE: Duration = Duration::from_millis(20);

/// A signal that ends a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// Receives the signals that end a command, from the moment it is made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: unix::signal(SignalKind::hangup())?,
        })
    }

    /// Runs `command` until it ends or a signal comes, which drops it.
    pub(crate) async fn end<T>(
        &mut self,
        command: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let result = tokio::select! {
            result = command => result,
            signal = self.next() => return Err(Failure::Signal(signal)),
        };
        // Ctrl-C goes to the programs that this one started, too: that they died of it may be seen first.
        if let Err(Failure::Broken(_)) = result
            && let Ok(signal) = tokio::time::timeout(GRACE, self.next()).await
        {
            return Err(Failure::Signal(signal));
        }
        result
    }

    /// The next signal. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            if self.interrupt.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::Interrupt);
            }
            if self.hang_up.poll_recv(cx).is_ready() {
                return Poll::Ready(Signal::HangUp);
            }
            self.terminate.poll_recv(cx).map(|_| Signal::Terminate)
        })
        .await
    }
}
