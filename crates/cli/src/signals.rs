//! The signals that end a command.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::watch;
use tuyau::core::{BoxFuture, Instant, Runtime, SharedRuntime};

use crate::exit::Failure;

/// How long after a failure its cause may turn out to be a signal.
const GRACE: Duration = Duration::from_millis(20);
/// How long what is being connected may take to say what it was doing.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whether a signal has come.
static CUT: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);
static RUNTIME: LazyLock<SharedRuntime> = LazyLock::new(|| Arc::new(Cut(tuyau_tokio::runtime())));

/// Tokio's time and tasks, until a signal comes: what is being connected ends then, with the report of it.
pub(crate) fn runtime() -> SharedRuntime {
    RUNTIME.clone()
}

/// Whether a signal has come.
pub(crate) fn has_come() -> bool {
    *CUT.borrow()
}

struct Cut(SharedRuntime);

impl Runtime for Cut {
    fn now(&self) -> Instant {
        if has_come() { self.0.now().after_cut() } else { self.0.now() }
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let mut sleep = self.0.sleep_until(until);
        let mut cut = CUT.subscribe();
        Box::pin(async move {
            let mut signal = pin!(cut.wait_for(|cut| *cut));
            let mut woken = false;
            poll_fn(|cx| {
                woken = woken || signal.as_mut().poll(cx).is_ready();
                sleep.as_mut().poll(cx)
            })
            .await
        })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }
}

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

    /// Runs `command` until it ends or a signal comes, which drops it: after it has said what it was connecting,
    /// if it was.
    pub(crate) async fn end<T>(
        &mut self,
        command: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut command = pin!(command);
        let result = tokio::select! {
            result = &mut command => result,
            signal = self.next() => {
                // Whoever connects sleeps until its deadline.
                let patience = if CUT.receiver_count() > 0 { LAST_WORDS } else { Duration::ZERO };
                return Err(match tokio::time::timeout(patience, command).await {
                    Ok(Err(Failure::Failed(words))) => Failure::Interrupted(signal, words),
                    _ => Failure::Signal(signal),
                });
            }
        };
        // Ctrl-C goes to the programs that this one started, too: that they died of it may be seen first.
        if let Err(Failure::Broken(_)) = result
            && let Ok(signal) = tokio::time::timeout(GRACE, self.next()).await
        {
            return Err(Failure::Signal(signal));
        }
        result
    }

    /// The next signal, which cuts off what is being connected. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        let signal = self.receive().await;
        CUT.send_replace(true);
        signal
    }

    async fn receive(&mut self) -> Signal {
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
