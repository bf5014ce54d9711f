//! The flow below, and what is told of it when a handshake fails.

#[cfg(feature = "rustls")]
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tuyau_core::{Flow, FlowError, ReadBuf};

/// How many of the first bytes are kept, to tell what the peer speaks.
const HEAD: usize = 128;

pub(crate) struct Lower {
    pub(crate) flow: Flow,
    head: Vec<u8>,
}

impl Lower {
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, head: Vec::new() }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<Result<usize, FlowError>> {
        let mut buf = ReadBuf::new(bytes);
        std::task::ready!(self.flow.poll_read(cx, &mut buf))?;
        let got = buf.filled();
        if self.head.len() < HEAD {
            self.head.extend_from_slice(&got[..got.len().min(HEAD - self.head.len())]);
        }
        Poll::Ready(Ok(got.len()))
    }

    /// The first bytes that the peer sent.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether what the peer sent first can't be TLS: neither a handshake nor an alert (RFC 8446 section 5.1).
    pub(crate) fn is_plain(&self) -> bool {
        match *self.head.as_slice() {
            [] => false,
            [kind] => !matches!(kind, 21 | 22),
            [kind, major, ..] => !matches!((kind, major), (21 | 22, 3)),
        }
    }

    /// Whether the peer began as clients do (RFC 8446 sections 4 and 5.1).
    pub(crate) fn is_client_hello(&self) -> bool {
        matches!(self.head.as_slice(), [22, 3, _, _, _, 1, ..])
    }
}

/// The flow below as the standard library's blocking I/O, which says `WouldBlock` where it would wait.
#[cfg(feature = "rustls")]
pub(crate) struct Sync<'a, 'b, 'c> {
    pub(crate) lower: &'a mut Lower,
    pub(crate) cx: &'b mut Context<'c>,
}

#[cfg(feature = "rustls")]
impl io::Read for Sync<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        blocking(self.lower.poll_read(self.cx, bytes))
    }
}

#[cfg(feature = "rustls")]
impl io::Write for Sync<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        blocking(self.lower.flow.poll_write(self.cx, &[bytes]))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        const MOST: usize = 16;
        let mut bytes: [&[u8]; MOST] = [&[]; MOST];
        let count = slices.len().min(MOST);
        for (to, from) in bytes.iter_mut().zip(slices) {
            *to = from;
        }
        blocking(self.lower.flow.poll_write(self.cx, &bytes[..count]))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "rustls")]
fn blocking<T>(poll: Poll<Result<T, FlowError>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result.map_err(io::Error::from),
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// And back.
#[cfg(feature = "rustls")]
pub(crate) fn polled<T>(result: io::Result<T>) -> Poll<Result<T, FlowError>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result.map_err(FlowError::from)),
    }
}
