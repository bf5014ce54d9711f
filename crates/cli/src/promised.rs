//! Bodies that are as long as their heads say, or break off.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use tuyau::http::BoxError;

use crate::access::length;

/// A body that breaks off if it ends too early, as of a file that shrinks meanwhile: once compressed, nothing else
/// would tell.
#[derive(Debug)]
pub(crate) struct Promised<B> {
    body: B,
    length: Option<u64>,
    bytes: u64,
}

impl<B: Body> Promised<B> {
    /// `response`, of the length that its head gives.
    pub(crate) fn response(response: Response<B>) -> Response<Self> {
        let length = length(response.headers());
        // There is none for HEAD and the like.
        response.map(|body| Self { length: length.filter(|_| !body.is_end_stream()), body, bytes: 0 })
    }
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for Promised<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Poll::Ready(None) => {
                let bytes = self.bytes;
                // Once.
                if let Some(length) = self.length.take().filter(|length| bytes < *length) {
                    let why = format!("what is sent ended after {bytes} of {length} bytes");
                    return Poll::Ready(Some(Err(why.into())));
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
