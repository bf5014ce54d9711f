//! The keys of the random contexts, their protocol, and an executor that waits for nobody.

use std::any::Any;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Endpoint, Flow, FlowError, Key, Protection, Protocol, RawFlow,
    ReadBuf,
};

use crate::case::{ENDS, PLAIN, Verdict};

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The closure of this binding ran on these inputs.
    Ran { binding: usize, inputs: Vec<u64> },
    /// This value of the endpoint key of this number was connected.
    Dialled { key: usize, value: u64 },
}

/// Where closures and connects write what they do.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Event>>>);

impl Log {
    pub(crate) fn add(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An endpoint: its value decides what becomes of connecting it.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) value: u64,
    pub(crate) key: usize,
    pub(crate) verdict: Verdict,
    pub(crate) log: Log,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value)
    }
}

/// The protocol of all endpoint keys here.
pub(crate) struct Line;

impl Protocol for Line {
    type Endpoint = Peer;
    type Flow = Flow;

    async fn connect(&self, peer: Peer, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        peer.log.add(Event::Dialled { key: peer.key, value: peer.value });
        once_pending(peer.value & 4 != 0).await;
        match peer.verdict {
            Verdict::Connects => Ok(Flow::new(Opened(peer.value))),
            Verdict::Refuses => Err(ConnectError::new(ConnectErrorKind::Refused, "connect")),
            Verdict::Impostor => Err(ConnectError::new(ConnectErrorKind::Verification, "verify")),
        }
    }
}

/// A flow that ends at once.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) u64);

impl RawFlow for Opened {
    fn poll_read(&mut self, _: &mut TaskContext<'_>, _: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_write(&mut self, _: &mut TaskContext<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        Poll::Ready(Ok(bytes.iter().map(|slice| slice.len()).sum()))
    }
    fn poll_flush(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), FlowError>> {
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
}

/// One static for each key that a case can name.
pub(crate) struct Pool {
    pub(crate) ends: [&'static Endpoint<Line>; ENDS],
    pub(crate) plain: [&'static Key<u64>; PLAIN],
}

static FORWARD_PLAIN: [Key<u64>; PLAIN] =
    [plain(0), plain(1), plain(2), plain(3), plain(4), plain(5), plain(6), plain(7)];
static FORWARD_ENDS: [Endpoint<Line>; ENDS] = [end(0), end(1), end(2), end(3), end(4)];

/// The keys' addresses ascend with their numbers.
pub(crate) static FORWARD: Pool = Pool {
    ends: [&FORWARD_ENDS[0], &FORWARD_ENDS[1], &FORWARD_ENDS[2], &FORWARD_ENDS[3], &FORWARD_ENDS[4]],
    plain: [
        &FORWARD_PLAIN[0],
        &FORWARD_PLAIN[1],
        &FORWARD_PLAIN[2],
        &FORWARD_PLAIN[3],
        &FORWARD_PLAIN[4],
        &FORWARD_PLAIN[5],
        &FORWARD_PLAIN[6],
        &FORWARD_PLAIN[7],
    ],
};

static BACKWARD_PLAIN: [Key<u64>; PLAIN] =
    [plain(7), plain(6), plain(5), plain(4), plain(3), plain(2), plain(1), plain(0)];
static BACKWARD_ENDS: [Endpoint<Line>; ENDS] = [end(4), end(3), end(2), end(1), end(0)];

/// The keys' addresses descend with their numbers.
pub(crate) static BACKWARD: Pool = Pool {
    ends: [&BACKWARD_ENDS[4], &BACKWARD_ENDS[3], &BACKWARD_ENDS[2], &BACKWARD_ENDS[1], &BACKWARD_ENDS[0]],
    plain: [
        &BACKWARD_PLAIN[7],
        &BACKWARD_PLAIN[6],
        &BACKWARD_PLAIN[5],
        &BACKWARD_PLAIN[4],
        &BACKWARD_PLAIN[3],
        &BACKWARD_PLAIN[2],
        &BACKWARD_PLAIN[1],
        &BACKWARD_PLAIN[0],
    ],
};

/// The endpoint key of this number; [`DECLARED`](crate::case::DECLARED) says it again, for the
/// model.
const fn end(number: usize) -> Endpoint<Line> {
    match number {
        0 => Endpoint::new("e0", &Line).priority(10),
        1 => Endpoint::new("e1", &Line).priority(10),
        2 => Endpoint::new("e2", &Line).priority(-5).protection(Protection::Encrypted),
        3 => Endpoint::new("e3", &Line),
        _ => Endpoint::new("e4", &Line).priority(5).protection(Protection::Authenticated),
    }
}

const fn plain(number: usize) -> Key<u64> {
    Key::new(match number {
        0 => "k0",
        1 => "k1",
        2 => "k2",
        3 => "k3",
        4 => "k4",
        5 => "k5",
        6 => "k6",
        _ => "k7",
    })
}

/// Runs `future` to its end. Panics if it waits without having arranged to be woken: here, nobody
/// else could wake it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    while woken.0.swap(false, Ordering::SeqCst) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            return output;
        }
    }
    panic!("the future is pending, and nobody will wake it");
}

/// Pending once, if `wait`, and woken at once.
pub(crate) async fn once_pending(mut wait: bool) {
    std::future::poll_fn(|cx| match std::mem::take(&mut wait) {
        true => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        false => Poll::Ready(()),
    })
    .await;
}
