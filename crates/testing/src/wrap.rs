//! Wrappers for tests: one that does nothing, one that counts.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tuyau_core::{Flow, RawFlow, forward};

/// A wrapper that changes nothing: to see what wrapping alone costs or loses.
#[derive(Debug)]
pub struct PassThrough(pub Flow);

impl PassThrough {
    /// `flow` in `depth` wrappers.
    pub fn nested(flow: Flow, depth: usize) -> Flow {
        (0..depth).fold(flow, |flow, _| Flow::new(Self(flow)))
    }
}

impl RawFlow for PassThrough {
    forward!(0: read write lend itself lower unwrap);
}

/// How often a stream was written to. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Calls(Arc<[AtomicUsize; 2]>);

impl Calls {
    /// Writes of one slice.
    pub fn plain(&self) -> usize {
        self.0[0].load(Ordering::Relaxed)
    }

    /// Vectored writes.
    pub fn vectored(&self) -> usize {
        self.0[1].load(Ordering::Relaxed)
    }
}

/// A tokio stream that counts the writes.
#[derive(Debug)]
pub struct Counting<S> {
    stream: S,
    calls: Calls,
}

impl<S> Counting<S> {
    /// Counts the writes of `stream` in `calls`.
    pub fn new(stream: S, calls: &Calls) -> Self {
        Self { stream, calls: calls.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.calls.0[0].fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.calls.0[1].fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
