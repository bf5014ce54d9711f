//! Bodies of requests.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

use crate::error::BoxError;

/// The body of a request: bytes, or a stream of them with trailers. Bytes can be sent again, when a request is
/// retried or redirected; a stream can't.
pub struct Body {
    kind: Kind,
    progress: Option<Arc<Progress>>,
    gate: Option<Gate>,
}

/// When a piece of a body was last taken to be sent.
#[derive(Debug)]
pub(super) struct Progress {
    origin: Instant,
    /// Milliseconds since.
    last: AtomicU64,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { origin: Instant::now(), last: AtomicU64::new(0) })
    }

    fn made(&self) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Relaxed);
    }

    pub(super) fn last(&self) -> Instant {
        self.origin + Duration::from_millis(self.last.load(Relaxed))
    }
}

/// Holds a body back until the server wants it (RFC 9110 section 10.1.1), or has had the time to say no.
struct Gate {
    wanted: oneshot::Receiver<()>,
    timer: Pin<Box<Sleep>>,
}

/// How long a server may take to say whether it wants the body.
const CONTINUE: Duration = Duration::from_secs(1);

/// Larger bytes are handed over in pieces of this size, so that progress shows.
const PIECE: usize = 256 * 1024;

enum Kind {
    Bytes(Bytes),
    /// The mutex, never locked, makes it `Sync`.
    Stream(Mutex<UnsyncBoxBody<Bytes, BoxError>>),
}

impl Body {
    const fn of(kind: Kind) -> Self {
        Self { kind, progress: None, gate: None }
    }

    /// No body.
    pub const fn empty() -> Self {
        Self::of(Kind::Bytes(Bytes::new()))
    }

    /// Any body. One of this type comes back as it was, and a [`Full`] of bytes is known to be bytes.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let mut body = Some(body);
        // In a box they would no longer be known to be bytes.
        if let Some(body) = (&mut body as &mut dyn Any).downcast_mut::<Option<Self>>() {
            return body.take().unwrap_or_else(Self::empty);
        }
        if let Some(Some(body)) = (&mut body as &mut dyn Any).downcast_mut::<Option<Full<Bytes>>>() {
            let all = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Ok(frame))) = all else { return Self::empty() };
            return Self::from(frame.into_data().unwrap_or_default());
        }
        match body {
            Some(body) => Self::of(Kind::Stream(Mutex::new(body.map_err(Into::into).boxed_unsync()))),
            None => Self::empty(),
        }
    }

    /// Tells of its progress from now on, if there is any to tell of.
    pub(super) fn progress(&mut self) -> Option<Arc<Progress>> {
        if !self.is_end_stream() {
            self.progress = Some(Progress::new());
        }
        self.progress.clone()
    }

    /// Holds it back until the sender says that it is wanted.
    pub(super) fn held_back(&mut self) -> oneshot::Sender<()> {
        let (sender, wanted) = oneshot::channel();
        self.gate = Some(Gate { wanted, timer: Box::pin(sleep(CONTINUE)) });
        sender
    }

    /// The same again, if it is bytes.
    pub fn try_clone(&self) -> Option<Self> {
        match &self.kind {
            Kind::Bytes(bytes) => Some(Self::of(Kind::Bytes(bytes.clone()))),
            Kind::Stream(_) => None,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(gate) = &mut self.gate {
            let open = Pin::new(&mut gate.wanted).poll(cx).is_ready();
            if !open {
                ready!(gate.timer.as_mut().poll(cx));
            }
            self.gate = None;
        }
        if let Some(progress) = &self.progress {
            progress.made();
        }
        match &mut self.kind {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => {
                let piece = bytes.len().min(PIECE);
                Poll::Ready(Some(Ok(Frame::data(bytes.split_to(piece)))))
            }
            Kind::Stream(body) => {
                Pin::new(body.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Stream(body) => body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(body) => body.lock().unwrap_or_else(PoisonError::into_inner).size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

macro_rules! from_bytes {
    ($($type:ty),*) => {$(
        impl From<$type> for Body {
            fn from(bytes: $type) -> Self {
                Self::of(Kind::Bytes(bytes.into()))
            }
        }
    )*};
}
from_bytes!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[tokio::test]
    async fn what_is_bytes_is_known_to_be() {
        let bytes = Bytes::from_static(b"again");
        for body in [
            Body::new(Full::new(bytes.clone())),
            Body::new(Body::from("again")),
            Body::new(Body::new(Full::new(bytes))),
        ] {
            for body in [body.try_clone().expect("bytes"), body] {
                assert_eq!(body.collect().await.expect("bytes").to_bytes(), "again");
            }
        }
        assert!(Body::new(Empty::<Bytes>::new()).try_clone().expect("nothing").is_end_stream());
        assert!(Body::new(Full::new(Bytes::from_static(b"once")).boxed()).try_clone().is_none());
    }
}
