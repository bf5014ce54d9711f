//! tokio's I/O traits on [`Flow`], and flows from what has those traits.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{as_bytes, as_io_slices};
use crate::flow::{fill_tokio, read_tokio};
use crate::{Ask, Flow, FlowError, RawFlow, ReadBuf};

/// What [`Flow::from_tokio_with`] calls to answer for the stream.
type Facts<S> = fn(&S, &mut Ask<'_>);

struct TokioFlow<S> {
    stream: S,
    facts: Facts<S>,
}

impl Flow {
    /// A flow over a tokio stream. [`find`](Self::find) finds the stream by its type.
    pub fn from_tokio<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        Self::from_tokio_with(stream, |_, _| {})
    }

    /// Like [`from_tokio`](Self::from_tokio), with facts about the stream.
    pub fn from_tokio_with<S>(stream: S, facts: fn(&S, &mut Ask<'_>)) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        Self::new(TokioFlow { stream, facts })
    }

    /// The tokio stream that the flow was built from; the flow comes back if it is no `S`.
    pub fn into_tokio<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static>(self) -> Result<S, Self> {
        self.into_inner::<TokioFlow<S>>().map(|flow| flow.stream)
    }
}

impl<S> RawFlow for TokioFlow<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        read_tokio(&mut self.stream, cx, buf).map_err(FlowError::from)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        let stream = Pin::new(&mut self.stream);
        match bytes {
            [bytes] => stream.poll_write(cx, bytes),
            _ => as_io_slices(bytes, |slices| stream.poll_write_vectored(cx, slices)),
        }
        .map_err(FlowError::from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Pin::new(&mut self.stream).poll_flush(cx).map_err(FlowError::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Pin::new(&mut self.stream).poll_shutdown(cx).map_err(FlowError::from)
    }

    fn as_any(&self) -> &dyn Any {
        &self.stream
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.stream
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        (self.facts)(&self.stream, ask);
    }
}

impl AsyncRead for Flow {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        fill_tokio(buf, |buf| Flow::poll_read(self.get_mut(), cx, buf)).map_err(io::Error::from)
    }
}

impl AsyncWrite for Flow {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Flow::poll_write(self.get_mut(), cx, &[bytes]).map_err(io::Error::from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        as_bytes(slices, |bytes| Flow::poll_write(self.get_mut(), cx, bytes)).map_err(io::Error::from)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Flow::poll_flush(self.get_mut(), cx).map_err(io::Error::from)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Flow::poll_shutdown(self.get_mut(), cx).map_err(io::Error::from)
    }
}
