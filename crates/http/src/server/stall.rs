//! Streams of HTTP/2 whose client takes nothing: a window that stays shut.
//!
//! hyper takes the next piece of a body only when there is room for it in the client's window. Between the
//! two, the client is waited for; each stream that waits is in a task of its own, which is where that is timed.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use super::watch::Watch;
use crate::alarm::Alarm;
use crate::incoming::FOR_EVER;
use crate::limits::Patience;

/// How long the client of one stream may still be waited for.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Option<Instant>,
    patience: Patience,
}

thread_local! {
    /// Whether the task that is started next is that of a stream: hyper calls the service and starts the task in
    /// one go. (It starts others for upgrades.)
    static NEXT_IS_STREAM: Cell<bool> = const { Cell::new(false) };
    /// That of the stream whose task this thread is polling: its body has no other way to it but shared memory, an
    /// allocation and a lock for each request.
    static POLLED: Cell<Option<Stall>> = const { Cell::new(None) };
    /// Streams that began in this turn of their connection's task.
    static BEGUN: RefCell<Vec<Pin<Box<dyn Future<Output = ()> + Send>>>> = const { RefCell::new(Vec::new()) };
}

/// The next task is that of a stream.
pub(crate) fn stream() {
    NEXT_IS_STREAM.set(true);
}

/// A piece of `bytes` was handed over: there may be no room for more.
pub(crate) fn handed_over(bytes: usize) {
    change(|stall| {
        stall.patience.earned(bytes);
        stall.since = Some(Instant::now());
    });
}

/// The next one is asked for, or none will be.
pub(crate) fn over() {
    change(|stall| {
        if let Some(since) = stall.since.take() {
            stall.patience.waited(since.elapsed());
        }
    });
}

fn change(f: impl FnOnce(&mut Stall)) {
    if let Some(mut stall) = POLLED.get() {
        f(&mut stall);
        POLLED.set(Some(stall));
    }
}

/// Lets the streams that began in this turn go as far as they can without waiting. Most are done then; the others get
/// tasks of their own.
pub(crate) fn run_begun() {
    for mut stream in BEGUN.take() {
        // Whoever waits is polled again by its task, and told by what wakes that.
        let mut cx = Context::from_waker(Waker::noop());
        // As in a task, a panic ends the stream alone.
        let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(&mut cx)));
        if let Ok(Poll::Pending) = polled {
            drop(tokio::spawn(stream));
        }
    }
}

/// Runs the tasks of one connection, those of its streams with an eye on them.
#[derive(Clone)]
pub(crate) struct Tasks {
    watch: Arc<Watch>,
    /// On a runtime of one thread nobody else could run a stream meanwhile: no need for a task just to begin it.
    one_thread: bool,
}

impl Tasks {
    pub(crate) fn new(watch: &Arc<Watch>) -> Self {
        let one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        Self { watch: watch.clone(), one_thread }
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let Self { watch, one_thread } = self;
        if NEXT_IS_STREAM.replace(false) {
            let patience = Patience::new(watch.limits.write_idle, watch.limits.min_rate);
            let stall = Stall { since: None, patience };
            let stream = Stream { task, stall, alarm: Alarm::default(), watch: watch.clone() };
            match one_thread {
                true => BEGUN.with_borrow_mut(|begun| begun.push(Box::pin(stream))),
                false => drop(tokio::spawn(stream)),
            }
        } else {
            // One for a stream that was taken over: the connection is in use as long as that is.
            let tunnel = watch.tunnel();
            drop(tokio::spawn(async move {
                let _tunnel = tunnel;
                task.await;
            }));
        }
    }
}

pin_project! {
    /// Dropping hyper's task resets the stream.
    struct Stream<F> {
        #[pin]
        task: F,
        stall: Stall,
        alarm: Alarm,
        watch: Arc<Watch>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outer = POLLED.replace(Some(*this.stall));
        let polled = this.task.poll(cx);
        if let Some(stall) = POLLED.replace(outer) {
            *this.stall = stall;
        }
        if polled.is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = this.stall.since else { return Poll::Pending };
        let until = since + this.stall.patience.left().min(FOR_EVER);
        let late = this.alarm.poll_until(until, cx);
        if late.is_ready() {
            this.watch.body_was_late();
        }
        late
    }
}
