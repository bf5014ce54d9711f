//! A connection of HTTP/2 in turns of its task: what it has to say in one turn is written at once.
//!
//! h2 flushes after each frame of some size, as it has room for one, and hyper can't know what comes next. So a flush
//! of theirs does nothing here, and there is one when the turn is over. They also look for something to read after each
//! request: once there was nothing in a turn, the flow is not asked again before the next one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use pin_project_lite::pin_project;
use tuyau_core::{Flow, FlowError};

use super::stall;

/// The flow of such a connection: hyper has it, and the turn's end. They are in one task, so nobody waits for the lock.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Inner>>);

struct Inner {
    flow: Flow,
    /// There was nothing to read in this turn; the task is woken when there is.
    read_all: bool,
    /// What a turn's end met, for hyper to be told next.
    failed: Option<FlowError>,
}

impl Shared {
    pub(crate) fn new(flow: Flow) -> Self {
        Self(Arc::new(Mutex::new(Inner { flow, read_all: false, failed: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets hyper use the flow, unless that has failed.
    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut inner = self.lock();
        match inner.failed.take() {
            Some(error) => Poll::Ready(Err(error.into())),
            None => f(&mut inner),
        }
    }

    fn end_turn(&self, cx: &mut Context<'_>) {
        let mut inner = self.lock();
        inner.read_all = false;
        if let Poll::Ready(Err(error)) = inner.flow.poll_flush(cx) {
            inner.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }
}

impl Read for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| {
            if inner.read_all {
                return Poll::Pending;
            }
            let polled = Read::poll_read(Pin::new(&mut inner.flow), cx, buf);
            inner.read_all = polled.is_pending();
            polled
        })
    }
}

impl Write for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|inner| Write::poll_write(Pin::new(&mut inner.flow), cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|inner| Write::poll_write_vectored(Pin::new(&mut inner.flow), cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// There is one at the turn's end.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|inner| Write::poll_shutdown(Pin::new(&mut inner.flow), cx))
    }
}

pin_project! {
    /// The connection.
    pub(crate) struct InTurns<C> {
        #[pin]
        pub(crate) connection: C,
        pub(crate) flow: Shared,
    }
}

impl<C: Future> Future for InTurns<C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.project();
        let polled = this.connection.poll(cx);
        stall::run_begun();
        if polled.is_pending() {
            this.flow.end_turn(cx);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use hyper::rt::ReadBuf;

    use super::*;

    #[tokio::test]
    async fn what_comes_in_a_turn_is_read_in_the_next_once_there_was_nothing() {
        let (ours, mut theirs) = tuyau_tokio::duplex();
        let mut shared = Shared::new(ours);
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = |shared: &mut Shared| {
            let mut bytes = [0; 8];
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = Pin::new(shared).poll_read(&mut cx, buf.unfilled());
            polled.map(|read| read.map(|()| buf.filled().to_vec()).expect("no error"))
        };
        theirs.write_all(b"a").await.expect("it is open");
        assert_eq!(read(&mut shared), Poll::Ready(b"a".to_vec()));
        assert!(read(&mut shared).is_pending());
        theirs.write_all(b"b").await.expect("it is open");
        assert!(read(&mut shared).is_pending());
        shared.end_turn(&mut Context::from_waker(Waker::noop()));
        assert_eq!(read(&mut shared), Poll::Ready(b"b".to_vec()));
    }
}
