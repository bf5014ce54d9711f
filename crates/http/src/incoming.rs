//! Bodies that come from a peer.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::alarm::Alarm;
use crate::error::{BodyError, BodyErrorKind};
use crate::limits::Patience;
use crate::proxy::fields::of_trailers;
use crate::server::watch::{Kind, Watch};

/// The body of a request that is served, as it comes. Reading it ends with an error
/// [`TimedOut`](BodyErrorKind::TimedOut) if the client keeps the reader waiting beyond
/// [`Limits::body_idle`](crate::Limits::body_idle); time in which nobody reads does not count.
///
/// Dropped before its end, what is left of it is not read: HTTP/1 closes the connection after the response,
/// HTTP/2 resets the stream.
pub struct Incoming {
    body: hyper::body::Incoming,
    /// Made by the first wait: most requests have no body, most bodies are there.
    waiting: Option<Box<Waiting>>,
    for_ever: bool,
    /// Is told if it is dropped before its end.
    watch: Option<Arc<Watch>>,
}

struct Waiting {
    patience: Patience,
    since: Option<Instant>,
    alarm: Alarm,
}

impl Incoming {
    /// `ended`: whether there is nothing of it.
    pub(crate) fn new(body: hyper::body::Incoming, ended: bool, watch: &Arc<Watch>) -> Self {
        let watch = (!ended).then(|| watch.clone());
        Self { body, waiting: None, for_ever: false, watch }
    }

    /// Waits without end from now on, for a client that may be quiet.
    pub fn wait_for_ever(&mut self) {
        (self.for_ever, self.waiting) = (true, None);
    }

    /// What is waited on has come: `bytes` of it.
    fn came(&mut self, bytes: usize) {
        let Some(waiting) = &mut self.waiting else { return };
        if let Some(since) = waiting.since.take() {
            waiting.patience.waited(since.elapsed());
        }
        waiting.patience.earned(bytes);
    }

    /// Whether it has been waited too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(watch) = self.watch.as_ref().filter(|_| !self.for_ever) else { return Poll::Pending };
        let limits = &watch.limits;
        if limits.body_idle >= FOR_EVER {
            return Poll::Pending;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let patience = Patience::new(limits.body_idle, limits.min_rate);
            Box::new(Waiting { patience, since: None, alarm: Alarm::default() })
        });
        let since = *waiting.since.get_or_insert_with(Instant::now);
        waiting.alarm.poll_until(since + waiting.patience.left(), cx)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut polled = Pin::new(&mut this.body).poll_frame(cx);
        let mut ended = false;
        if polled.is_pending()
            && let Some(watch) = this.watch.as_ref().filter(|watch| watch.kind == Kind::H1)
        {
            watch.reads(cx.waker());
            ended = watch.is_ended();
            if ended {
                // What came before the client's end may have come since.
                polled = Pin::new(&mut this.body).poll_frame(cx);
            }
        }
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.came(frame.data_ref().map_or(1, Bytes::len));
                if this.body.is_end_stream() {
                    this.watch = None;
                }
                Poll::Ready(Some(Ok(of_trailers(frame))))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError::with_source(BodyErrorKind::Broken, error))))
            }
            Poll::Ready(None) => {
                this.watch = None;
                Poll::Ready(None)
            }
            Poll::Pending if ended => {
                let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the client ended its side before");
                Poll::Ready(Some(Err(BodyError::with_source(BodyErrorKind::Broken, end))))
            }
            Poll::Pending => this.poll_late(cx).map(|()| {
                this.wait_for_ever();
                if let Some(watch) = &this.watch {
                    watch.body_was_late();
                }
                Some(Err(BodyError::new(BodyErrorKind::TimedOut)))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.body_was_dropped();
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("size_hint", &self.size_hint()).finish_non_exhaustive()
    }
}

/// The longest time that is a limit at all: tokio's clock can't represent much more.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
