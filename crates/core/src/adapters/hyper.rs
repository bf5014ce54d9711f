//! hyper's I/O traits on flows.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;

use hyper::rt::{Read, ReadBufCursor, Write};

use super::as_bytes;
use crate::flow::fill_hyper;
use crate::{Flow, RawFlow};

/// A flow whose type is known, for hyper: what goes through it needs no call by a table, as a [`Flow`] does.
#[derive(Debug)]
pub struct Unboxed<R>(pub R);

macro_rules! hypers {
    ($([$($generic:tt)*] $type:ty: $this:ident => $raw:expr;)*) => {$(
        impl<$($generic)*> Read for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                mut buf: ReadBufCursor<'_>,
            ) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                fill_hyper(&mut buf, |buf| $raw.poll_read(cx, buf)).map_err(io::Error::from)
            }
        }

        impl<$($generic)*> Write for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                $raw.poll_write(cx, &[bytes]).map_err(io::Error::from)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let $this = self.get_mut();
                as_bytes(slices, |bytes| $raw.poll_write(cx, bytes)).map_err(io::Error::from)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                $raw.poll_flush(cx).map_err(io::Error::from)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                let $this = self.get_mut();
                $raw.poll_shutdown(cx).map_err(io::Error::from)
            }
        }
    )*};
}

hypers! {
    [] Flow: flow => flow.0;
    [R: RawFlow + Unpin] Unboxed<R>: flow => flow.0;
}
