//! Two pipes, one per direction, as one stream.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::fcntl::Flock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tuyau_core::{FlowError, FlowErrorKind, Target};

/// Reads from one pipe and writes to another. Half-close closes the second.
#[derive(Debug)]
pub(crate) struct Pipes {
    read: pipe::Receiver,
    write: Option<pipe::Sender>,
    ends: Option<(Target, Target)>,
    /// Held as long as this is.
    _lock: Option<Flock<File>>,
}

impl Pipes {
    pub(crate) fn new(read: pipe::Receiver, write: pipe::Sender) -> Self {
        Self { read, write: Some(write), ends: None, _lock: None }
    }

    /// Keeps `lock` until dropped.
    pub(crate) fn locked(self, lock: Option<Flock<File>>) -> Self {
        Self { _lock: lock, ..self }
    }

    /// Pipes don't know their files, so they are told: this end and the other.
    pub(crate) fn between(self, local: Target, peer: Target) -> Self {
        Self { ends: Some((local, peer)), ..self }
    }

    pub(crate) fn ends(&self) -> Option<&(Target, Target)> {
        self.ends.as_ref()
    }

    fn writer(&mut self) -> io::Result<Pin<&mut pipe::Sender>> {
        match &mut self.write {
            Some(write) => Ok(Pin::new(write)),
            None => Err(FlowError::new(FlowErrorKind::WriteAfterShutdown).into()),
        }
    }
}

impl AsyncRead for Pipes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writer()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write = None;
        Poll::Ready(Ok(()))
    }
}
