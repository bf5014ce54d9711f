//! futures-io's traits on [`Flow`], and flows from what has those traits.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use futures_io::{AsyncRead, AsyncWrite};

use super::{as_bytes, as_io_slices};
use crate::{Flow, FlowError, RawFlow, ReadBuf};

struct FuturesFlow<S>(S);

impl Flow {
    /// A flow over a futures-io stream. [`find`](Self::find) finds the stream by its type.
    /// (The trait reads into initialised memory only, so each read may zero its buffer first.)
    pub fn from_futures_io<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
    {
        Self::new(FuturesFlow(stream))
    }
}

impl<S> RawFlow for FuturesFlow<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + 'static,
{
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        let stream = Pin::new(&mut self.0);
        stream.poll_read(cx, buf.initialized_unfilled()).map_ok(|n| buf.advance(n)).map_err(FlowError::from)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        let stream = Pin::new(&mut self.0);
        match bytes {
            [bytes] => stream.poll_write(cx, bytes),
            _ => as_io_slices(bytes, |slices| stream.poll_write_vectored(cx, slices)),
        }
        .map_err(FlowError::from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(FlowError::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Pin::new(&mut self.0).poll_close(cx).map_err(FlowError::from)
    }

    fn as_any(&self) -> &dyn Any {
        &self.0
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.0
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }
}

impl AsyncRead for Flow {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(bytes);
        Flow::poll_read(self.get_mut(), cx, &mut buf).map_ok(|()| buf.filled().len()).map_err(io::Error::from)
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

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Flow::poll_flush(self.get_mut(), cx).map_err(io::Error::from)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Flow::poll_shutdown(self.get_mut(), cx).map_err(io::Error::from)
    }
}
