//! hyper's I/O traits on [`Flow`].

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::as_bytes;
use crate::Flow;
use crate::flow::fill_hyper;

impl Read for Flow {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        fill_hyper(&mut buf, |buf| Flow::poll_read(self.get_mut(), cx, buf)).map_err(io::Error::from)
    }
}

impl Write for Flow {
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
