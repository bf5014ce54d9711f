//! The accept loop.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, BoxFuture, ConnectError, ConnectErrorKind, Flow, Listener,
};

/// Accepts from `listener` and runs `handler` for each flow, in a task of its own. Await what this
/// returns, after setting what should differ:
///
/// ```no_run
/// # use std::time::Duration;
/// # use tuyau_core::Listener;
/// # use tuyau_tokio::serve;
/// # async fn example(listener: Listener, stop: impl Future<Output = ()> + Send + 'static) {
/// let served = serve(listener, |mut flow| async move {
///     let _ = flow.write_all(b"hello\n").await;
/// })
/// .stop(stop)
/// .drain(Duration::from_secs(5))
/// .await;
/// println!("{served}");
/// # }
/// ```
///
/// * The loop never waits for a handshake: those run in the tasks, [bounded in number](Serve::max_handshakes)
///   and [time](Serve::handshake_timeout).
/// * Without descriptors or memory (EMFILE), it waits, longer each time up to a second, or until a
///   connection ends; it never spins, and never ends for that.
/// * A connection that died before it was accepted is counted and forgotten.
/// * A handler that panics ends its connection only.
/// * It ends once [`stop`](Serve::stop) is ready, or all listeners are closed, and the connections
///   have ended. After `stop` those that have not ended within the [drain time](Serve::drain) are
///   aborted.
///
/// Dropping the future aborts everything at once. It must be awaited in a tokio runtime.
pub fn serve<H, Fut>(listener: Listener, handler: H) -> Serve<H>
where
    H: Fn(Flow) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Serve {
        listeners: vec![listener],
        handler,
        stop: Box::pin(std::future::pending()),
        drain: Duration::from_secs(10),
        abort: Box::pin(std::future::pending()),
        max_handshakes: 1024,
        handshake_timeout: Duration::from_secs(10),
        max_connections: Semaphore::MAX_PERMITS,
        on_failure: Arc::new(|_| {}),
    }
}

/// What [`serve`] is about to do. Await it.
#[must_use = "nothing is served unless it is awaited"]
pub struct Serve<H> {
    listeners: Vec<Listener>,
    handler: H,
    stop: BoxFuture<'static, ()>,
    drain: Duration,
    abort: BoxFuture<'static, ()>,
    max_handshakes: usize,
    handshake_timeout: Duration,
    max_connections: usize,
    on_failure: OnFailure,
}

type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

impl<H> Serve<H> {
    /// Accepts from this listener too, in turn.
    pub fn listen(mut self, listener: Listener) -> Self {
        self.listeners.push(listener);
        self
    }

    /// Once this is ready, nothing more is accepted, and what is under way may end. Never, if not set.
    pub fn stop(mut self, stop: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(stop);
        self
    }

    /// How long connections may go on after `stop`. 10 s if not set.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Once this is ready after `stop`, the drain time is over. Never, if not set.
    pub fn abort(mut self, abort: impl Future<Output = ()> + Send + 'static) -> Self {
        self.abort = Box::pin(abort);
        self
    }

    /// How many handshakes may be under way; while there are so many, nothing is accepted. 1024 if not set,
    /// at least 1.
    pub fn max_handshakes(mut self, max: usize) -> Self {
        self.max_handshakes = max;
        self
    }

    /// How long a handshake may take. 10 s if not set.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// How many connections may be open, handshakes included; while there are so many, nothing is accepted:
    /// the system queues some more, and refuses the rest. Unlimited if not set, at least 1.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// Is told what goes wrong outside the handlers. Called from the loop and from tasks: it must not block.
    pub fn on_failure(mut self, on_failure: impl Fn(Failure) + Send + Sync + 'static) -> Self {
        self.on_failure = Arc::new(on_failure);
        self
    }
}

impl<H> fmt::Debug for Serve<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// What went wrong outside a handler.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// Nothing could be accepted. The loop goes on, unless the listener is closed.
    Accept(AcceptError),
    /// A handshake failed, or took too long.
    Handshake(ConnectError),
    /// A handler panicked.
    Panic,
}

/// What was served, once it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Of these, those whose handler returned.
    pub finished: u64,
    /// Of these, those whose handshake failed or took too long.
    pub handshakes_failed: u64,
    /// Of these, those whose handler panicked.
    pub panicked: u64,
    /// Of these, those that were aborted, because they had not ended in time after the stop.
    pub aborted: u64,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, finished, handshakes_failed, panicked, aborted } = self;
        write!(f, "{accepted} accepted, {finished} finished")?;
        for (count, what) in
            [(handshakes_failed, "handshakes failed"), (panicked, "panicked"), (aborted, "aborted")]
        {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

impl<H, Fut> IntoFuture for Serve<H>
where
    H: Fn(Flow) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    type Output = Served;
    type IntoFuture = BoxFuture<'static, Served>;

    fn into_future(self) -> BoxFuture<'static, Served> {
        Box::pin(run(self))
    }
}

async fn run<H, Fut>(serve: Serve<H>) -> Served
where
    H: Fn(Flow) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Serve {
        listeners,
        handler,
        mut stop,
        drain,
        abort,
        max_handshakes,
        handshake_timeout,
        max_connections,
        on_failure,
    } = serve;
    let handler = Arc::new(handler);
    let mut accepting = Accepting {
        listeners,
        turn: 0,
        handshakes: Places::new(max_handshakes),
        connections: Places::new(max_connections),
        pause: Pause::default(),
    };
    let mut tasks = Tasks { set: JoinSet::new(), served: Served::default(), on_failure: on_failure.clone() };
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = tasks.set.join_next() => {
                tasks.count(ended);
                accepting.pause.end();
            }
            next = accepting.next() => match next {
                Next::Accepted(accepted, connection, handshake) => {
                    tasks.served.accepted += 1;
                    let (handler, on_failure) = (handler.clone(), on_failure.clone());
                    tasks.set.spawn(async move {
                        let _connection = connection;
                        let flow = match finish(accepted, handshake, handshake_timeout).await {
                            Ok(flow) => flow,
                            Err(error) => {
                                on_failure(Failure::Handshake(error));
                                return Ended::HandshakeFailed;
                            }
                        };
                        handler(flow).await;
                        Ended::Finished
                    });
                }
                Next::Failed(error) => on_failure(Failure::Accept(error)),
                Next::Closed => {
                    tokio::select! {
                        biased;
                        () = &mut stop => break,
                        () = tasks.all() => return tasks.served,
                    }
                }
            },
        }
    }
    // Closed before the drain: clients that come now are refused, and can go elsewhere.
    drop(accepting);
    let ended = tokio::select! {
        ended = timeout(drain, tasks.all()) => ended.is_ok(),
        () = abort => false,
    };
    if !ended {
        tasks.abort().await;
    }
    tasks.served
}

async fn finish(
    accepted: Accepted,
    place: OwnedSemaphorePermit,
    time: Duration,
) -> Result<Flow, ConnectError> {
    let peer = accepted.peer();
    let handshake = match accepted {
        Accepted::Flow(flow) => return Ok(flow),
        Accepted::Handshake(handshake) | Accepted::HandshakeWith(_, handshake) => handshake,
    };
    let result = timeout(time, handshake).await;
    drop(place);
    result.unwrap_or_else(|_| {
        let whose = peer.map(|peer| format!(" with the client {peer}")).unwrap_or_default();
        let what = format!("the handshake{whose} took more than {time:?}");
        Err(ConnectError::new(ConnectErrorKind::TimedOut, what)
            .with_hint("the client is silent, or speaks another protocol"))
    })
}

/// How a task ended.
enum Ended {
    Finished,
    HandshakeFailed,
}

struct Tasks {
    set: JoinSet<Ended>,
    served: Served,
    on_failure: OnFailure,
}

impl Tasks {
    fn count(&mut self, ended: Result<Ended, JoinError>) {
        match ended {
            Ok(Ended::Finished) => self.served.finished += 1,
            Ok(Ended::HandshakeFailed) => self.served.handshakes_failed += 1,
            Err(error) if error.is_panic() => {
                self.served.panicked += 1;
                (self.on_failure)(Failure::Panic);
            }
            Err(_) => self.served.aborted += 1,
        }
    }

    /// Until all have ended.
    async fn all(&mut self) {
        while let Some(ended) = self.set.join_next().await {
            self.count(ended);
        }
    }

    /// Aborts all. One that blocks its thread can't be aborted, and is not waited for for long.
    async fn abort(&mut self) {
        self.set.abort_all();
        if timeout(Duration::from_secs(1), self.all()).await.is_err() {
            self.served.aborted += self.set.len() as u64;
        }
    }
}

enum Next {
    Accepted(Accepted, OwnedSemaphorePermit, OwnedSemaphorePermit),
    Failed(AcceptError),
    Closed,
}

struct Accepting {
    listeners: Vec<Listener>,
    turn: usize,
    handshakes: Places,
    connections: Places,
    pause: Pause,
}

impl Accepting {
    /// The next connection, once there is place for it. Cancel safe.
    async fn next(&mut self) -> Next {
        self.pause.wait().await;
        // Both before accepting: whether it has a handshake is not known until then.
        let connection = self.connections.take().await;
        let handshake = self.handshakes.take().await;
        let accepted = std::future::poll_fn(|cx| poll_accept(&mut self.listeners, &mut self.turn, cx)).await;
        match accepted {
            None => Next::Closed,
            Some(Ok(accepted)) => {
                self.pause.reset();
                Next::Accepted(accepted, connection, handshake)
            }
            Some(Err(error)) => {
                if error.kind() == AcceptErrorKind::Exhausted {
                    self.pause.start();
                }
                Next::Failed(error)
            }
        }
    }
}

/// The next of any listener, in turn; `None` once all are closed.
fn poll_accept(
    listeners: &mut Vec<Listener>,
    turn: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Accepted, AcceptError>>> {
    for _ in 0..listeners.len() {
        *turn = (*turn + 1) % listeners.len();
        let Poll::Ready(accepted) = listeners[*turn].poll_accept(cx) else { continue };
        if accepted.as_ref().is_err_and(|error| error.kind() == AcceptErrorKind::Closed) {
            listeners.remove(*turn);
        }
        return Poll::Ready(Some(accepted));
    }
    if listeners.is_empty() { Poll::Ready(None) } else { Poll::Pending }
}

/// A bound on how many of something there may be.
struct Places(Arc<Semaphore>);

impl Places {
    fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))))
    }

    async fn take(&self) -> OwnedSemaphorePermit {
        match self.0.clone().acquire_owned().await {
            Ok(place) => place,
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }
}

/// The time to wait while nothing can be accepted for lack of descriptors.
#[derive(Default)]
struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Pause {
    const FIRST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_secs(1);

    fn start(&mut self) {
        self.length = (self.length * 2).clamp(Self::FIRST, Self::LONGEST);
        self.until = Some(Instant::now() + self.length);
    }

    /// Something has been given back: worth a try.
    fn end(&mut self) {
        self.until = None;
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    async fn wait(&mut self) {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
    }
}
