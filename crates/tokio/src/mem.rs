//! Flows in memory, by name.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::mpsc;
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, Ask, ConnectCx, ConnectError, ConnectErrorKind, Endpoint, Flow,
    FlowError, FlowErrorKind, Key, Listener, Protocol, RawFlow, RawListener, ReadBuf, Target,
};

/// A flow in memory, to whoever listens on a name of the endpoint's hub.
pub static MEM: Endpoint<Mem> = Endpoint::new("mem", &Mem);
/// Where names in memory are listened on. A value, not a global: who shares it can meet.
pub static MEM_HUB: Key<MemHub> = Key::new("mem-hub");
/// The name in memory to connect to.
pub static MEM_NAME: Key<Arc<str>> = Key::new("mem-name").shown();

/// How many bytes may wait in each direction for the peer to take them over. It takes them over
/// all at once, so that twice as many can be under way.
const CAPACITY: usize = 64 * 1024;
/// How many connections may wait to be accepted.
const BACKLOG: usize = 128;

/// The protocol of [`MEM`].
#[derive(Clone, Copy, Debug)]
pub struct Mem;

/// Which name in memory to connect to.
#[derive(Clone, Debug)]
pub struct MemEndpoint {
    /// Where the name is.
    pub hub: MemHub,
    /// The name.
    pub name: Arc<str>,
}

impl Protocol for Mem {
    type Endpoint = MemEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: MemEndpoint, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        endpoint.hub.connect(&endpoint.name).await
    }

    fn describe(&self, endpoint: &MemEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&endpoint.name)
    }
}

/// Names in memory that can be listened on and connected to. Clones are the same hub.
#[derive(Clone, Default)]
pub struct MemHub(Arc<Mutex<HashMap<Arc<str>, mpsc::Sender<Flow>>>>);

impl MemHub {
    /// A hub where nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `name`, until the listener is dropped.
    ///
    /// # Errors
    /// [`Environment`](ConnectErrorKind::Environment), if somebody listens there already.
    pub fn listen(&self, name: &str) -> Result<Listener, ConnectError> {
        let mut names = lock(&self.0);
        if names.contains_key(name) {
            return Err(ConnectError::new(
                ConnectErrorKind::Environment,
                format!("listen on `{name}` in memory"),
            )
            .with_hint("somebody listens there already: choose another name, or another hub"));
        }
        let name: Arc<str> = name.into();
        let (connected, to_accept) = mpsc::channel(BACKLOG);
        names.insert(name.clone(), connected);
        Ok(Listener::new(MemListener { hub: self.clone(), name, to_accept }))
    }

    /// Connects to whoever listens on `name`. Waits while too many others wait to be accepted.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Refused`](ConnectErrorKind::Refused), if nobody does.
    pub async fn connect(&self, name: &str) -> Result<Flow, ConnectError> {
        let listener = lock(&self.0).get(name).cloned();
        let place = match &listener {
            Some(listener) => listener.reserve().await.ok(),
            None => None,
        };
        let Some(place) = place else {
            return Err(ConnectError::new(
                ConnectErrorKind::Refused,
                format!("connect to `{name}` in memory"),
            )
            .with_hint(
                "nobody listens on that name in this process and context: another process is reached by `unix:`",
            ));
        };
        let target = named(name);
        let client = Target::Described(format!("client of {target}").into());
        let (ours, theirs) = pair(client, target);
        place.send(theirs);
        Ok(ours)
    }
}

impl fmt::Debug for MemHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).keys()).finish()
    }
}

fn named(name: &str) -> Target {
    Target::Described(format!("mem:{name}").into())
}

struct MemListener {
    hub: MemHub,
    name: Arc<str>,
    to_accept: mpsc::Receiver<Flow>,
}

impl RawListener for MemListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        match ready!(self.to_accept.poll_recv(cx)) {
            Some(flow) => Poll::Ready(Ok(Accepted::Flow(flow))),
            None => Poll::Ready(Err(AcceptError::new(AcceptErrorKind::Closed))),
        }
    }

    fn local(&self) -> Target {
        named(&self.name)
    }
}

impl Drop for MemListener {
    fn drop(&mut self) {
        lock(&self.hub.0).remove(&self.name);
    }
}

/// Two flows in memory, connected to each other.
///
/// As with Unix sockets: dropping one ends both directions; the peer reads what was written, then
/// the end, or [`Reset`](FlowErrorKind::Reset) if the one dropped had bytes unread; the peer's
/// writes fail with [`BrokenPipe`](FlowErrorKind::BrokenPipe).
pub fn duplex() -> (Flow, Flow) {
    let end = || Target::Described("memory".into());
    pair(end(), end())
}

fn pair(a: Target, b: Target) -> (Flow, Flow) {
    let (there, back) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let end = |from: &Arc<Pipe>, to: &Arc<Pipe>, local: &Target, peer: &Target| {
        Flow::new(MemFlow {
            from: from.clone(),
            to: to.clone(),
            taken: Vec::new(),
            read: 0,
            shut: false,
            local: local.clone(),
            peer: peer.clone(),
        })
    };
    (end(&back, &there, &a, &b), end(&there, &back, &b, &a))
}

/// One direction.
#[derive(Default)]
struct Pipe(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// No more bytes will come.
    ended: bool,
    /// The writer went away with bytes of the other direction unread.
    reset: bool,
    /// The reader went away.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of two pipes. The bytes that it has taken over from its peer are its own, so that it can
/// lend them.
struct MemFlow {
    from: Arc<Pipe>,
    to: Arc<Pipe>,
    taken: Vec<u8>,
    read: usize,
    shut: bool,
    local: Target,
    peer: Target,
}

impl MemFlow {
    /// Takes over what the peer has written, if all that was taken before is read.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if self.read < self.taken.len() {
            return Poll::Ready(Ok(()));
        }
        let writer = {
            let mut from = lock(&self.from.0);
            if from.bytes.is_empty() {
                if from.reset {
                    return Poll::Ready(Err(FlowErrorKind::Reset.into()));
                }
                if from.ended {
                    return Poll::Ready(Ok(()));
                }
                register(&mut from.reader, cx);
                return Poll::Pending;
            }
            self.taken.clear();
            self.read = 0;
            // Both buffers keep their memory: nothing is allocated, or copied, per read.
            mem::swap(&mut self.taken, &mut from.bytes);
            from.writer.take()
        };
        wake(writer);
        Poll::Ready(Ok(()))
    }

    fn unread(&self) -> &[u8] {
        &self.taken[self.read..]
    }
}

impl RawFlow for MemFlow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_take(cx))?;
        let n = self.unread().len().min(buf.remaining());
        buf.put_slice(&self.unread()[..n]);
        self.read += n;
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.shut {
            return Poll::Ready(Err(FlowErrorKind::WriteAfterShutdown.into()));
        }
        let (written, reader) = {
            let mut to = lock(&self.to.0);
            if to.broken {
                return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into()));
            }
            if bytes.iter().all(|slice| slice.is_empty()) {
                return Poll::Ready(Ok(0));
            }
            let room = CAPACITY.saturating_sub(to.bytes.len());
            if room == 0 {
                register(&mut to.writer, cx);
                return Poll::Pending;
            }
            let mut written = 0;
            for slice in bytes {
                let n = slice.len().min(room - written);
                to.bytes.extend_from_slice(&slice[..n]);
                written += n;
            }
            (written, to.reader.take())
        };
        wake(reader);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.shut = true;
        let reader = {
            let mut to = lock(&self.to.0);
            to.ended = true;
            to.reader.take()
        };
        wake(reader);
        Poll::Ready(Ok(()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&PEER, || self.peer.clone()).answer(&LOCAL, || self.local.clone());
    }

    fn can_fill(&self) -> bool {
        true
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        ready!(self.poll_take(cx))?;
        Poll::Ready(Ok(self.unread()))
    }

    fn consume(&mut self, n: usize) {
        self.read = (self.read + n).min(self.taken.len());
    }
}

impl Drop for MemFlow {
    fn drop(&mut self) {
        let (unread, writer) = {
            let mut from = lock(&self.from.0);
            from.broken = true;
            (!self.unread().is_empty() || !from.bytes.is_empty(), from.writer.take())
        };
        let reader = {
            let mut to = lock(&self.to.0);
            to.ended = true;
            to.reset = unread;
            to.reader.take()
        };
        wake(writer);
        wake(reader);
    }
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Nothing panics while a lock is held, and nothing is left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
