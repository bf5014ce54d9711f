//! Bodies of requests that nobody wants.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tuyau::http::Incoming;

/// How long a client may go on sending what nobody wants, once it has the response.
const PATIENCE: Duration = Duration::from_secs(2);

/// The body of a response to a request whose body is not read before: so that whoever sends one is answered at once, and
/// asked for none by `100 Continue`.
///
/// Over HTTP/2 it is read after the response, and the stream ends with it: a client that is uploading may take a stream that
/// is reset for a failure, whatever it was answered; and only its end shows whether a request is by the rules. Over HTTP/1
/// the connection sees to it.
#[derive(Debug)]
pub(super) struct Unwanted<B> {
    body: B,
    rest: Option<Box<Rest>>,
}

#[derive(Debug)]
struct Rest {
    body: Incoming,
    is_read: bool,
    /// Since the response has ended.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<B> Unwanted<B> {
    pub(super) fn after(body: B, unwanted: Incoming, version: Version) -> Self {
        let is_read = version == Version::HTTP_2;
        let rest =
            (!unwanted.is_end_stream()).then(|| Box::new(Rest { body: unwanted, is_read, patience: None }));
        Self { body, rest }
    }
}

impl Rest {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        if patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Some(Ok(_)) = ready!(pin!(&mut self.body).poll_frame(cx)) {}
        Poll::Ready(())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Unwanted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let has_ended = this.rest.as_ref().is_some_and(|rest| rest.patience.is_some());
        if !has_ended && let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            return Poll::Ready(Some(frame));
        }
        if let Some(rest) = this.rest.as_mut().filter(|rest| rest.is_read) {
            ready!(rest.poll_end(cx));
        }
        this.rest = None;
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
