//! Streams of HTTP/2 whose client takes nothing: a window that stays shut.
//!
//! hyper takes the next piece of a body only when there is room for it in the client's window. Between the
//! two, the client is waited for; each stream runs in a task of its own, which is where that is timed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::watch::Watch;
use crate::limits::Patience;

/// The response of one stream.
#[derive(Debug)]
pub(crate) struct Stall(Mutex<State>);

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    patience: Patience,
}

impl Stall {
    pub(crate) fn new(patience: Patience) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { since: None, patience })))
    }

    /// A piece of `bytes` was handed over: there may be no room for more.
    pub(crate) fn handed_over(&self, bytes: usize) {
        self.with(|state| {
            state.patience.earned(bytes);
            state.since = Some(Instant::now());
        });
    }

    /// The next one is asked for, or none will be.
    pub(crate) fn over(&self) {
        self.with(|state| {
            if let Some(since) = state.since.take() {
                state.patience.waited(since.elapsed());
            }
        });
    }

    /// Until when the client may be waited for, if it is.
    fn until(&self) -> Option<Instant> {
        self.with(|state| {
            let left = state.patience.left().min(crate::incoming::FOR_EVER);
            state.since.map(|since| since + left)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs the tasks of one connection, those of its streams with an eye on them.
#[derive(Clone)]
pub(crate) struct Tasks {
    watch: Arc<Watch>,
    /// What belongs to the stream whose task hyper starts next. hyper calls the service and starts the task in
    /// one go, so it is that of the same thread; tasks of other threads start tasks too (for upgrades).
    next: Arc<Mutex<Option<(ThreadId, Arc<Stall>)>>>,
}

impl Tasks {
    pub(crate) fn new(watch: &Arc<Watch>) -> Self {
        Self { watch: watch.clone(), next: Arc::default() }
    }

    pub(crate) fn stream(&self, stall: &Arc<Stall>) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((thread::current().id(), stall.clone()));
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let next = self
            .next
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(thread, _)| *thread == thread::current().id());
        match next {
            Some((_, stall)) => {
                drop(tokio::spawn(Stream { task, stall, timer: None, watch: self.watch.clone() }));
            }
            // One for a stream that was taken over: the connection is in use as long as that is.
            None => {
                let tunnel = self.watch.tunnel();
                drop(tokio::spawn(async move {
                    let _tunnel = tunnel;
                    task.await;
                }));
            }
        }
    }
}

pin_project! {
    /// Dropping hyper's task resets the stream.
    struct Stream<F> {
        #[pin]
        task: F,
        stall: Arc<Stall>,
        timer: Option<Pin<Box<Sleep>>>,
        watch: Arc<Watch>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.task.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(until) = this.stall.until() else { return Poll::Pending };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        let late = timer.as_mut().poll(cx);
        if late.is_ready() {
            this.watch.body_was_late();
        }
        late
    }
}
