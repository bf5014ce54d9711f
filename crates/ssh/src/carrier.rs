//! The flow that carries the SSH connection, as russh wants it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tuyau_core::Flow;

/// What may wait to be written while the peer does not read. russh reads nothing while it writes: two of
/// them, each waiting for the other to read, would wait for ever. What the channels may send is bounded
/// by their windows anyway.
const AHEAD: usize = 8 * 1024 * 1024;
/// How much of what the peer says first is kept, to be shown if it speaks no SSH.
const FIRST_WORDS: usize = 256;

/// What the peer said first.
#[derive(Clone, Default)]
pub(crate) struct FirstWords(Arc<Mutex<Vec<u8>>>);

impl FirstWords {
    pub(crate) fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, bytes: &[u8]) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = FIRST_WORDS - heard.len();
        heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
        heard.len() < FIRST_WORDS
    }
}

pub(crate) struct Carrier {
    flow: Flow,
    ahead: Vec<u8>,
    written: usize,
    /// A flush of the flow was asked for, or is due behind what waits, and is not done.
    flushing: bool,
    heard: Option<FirstWords>,
    /// From when on it may be acknowledged late what came.
    settled: Arc<AtomicBool>,
    /// The connection ends at once when the other side of this is dropped.
    cut: Option<oneshot::Receiver<()>>,
}

impl Carrier {
    /// `flow`, until the sender that is returned is dropped: then it fails, whatever waits for it.
    pub(crate) fn new(
        flow: Flow,
        heard: FirstWords,
        settled: Arc<AtomicBool>,
    ) -> (Self, oneshot::Sender<()>) {
        let (guard, cut) = oneshot::channel();
        (
            Self {
                flow,
                ahead: Vec::new(),
                written: 0,
                flushing: false,
                heard: Some(heard),
                settled,
                cut: Some(cut),
            },
            guard,
        )
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(cut) = &mut self.cut else { return Err(given_up()) };
        if Pin::new(cut).poll(cx).is_ready() {
            self.cut = None;
            return Err(given_up());
        }
        Ok(())
    }

    /// Writes what waits. Ready when nothing does.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.ahead.len() {
            match ready!(self.flow.poll_write(cx, &[&self.ahead[self.written..]])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => self.written += n,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.ahead.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Writes what waits, and flushes, as far as can be. A flow may keep what it took until it is flushed.
    fn go_on_writing(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.flushing
            && let Poll::Ready(result) = self.poll_ahead(cx)
        {
            result?;
            if let Poll::Ready(result) = self.flow.poll_flush(cx) {
                result?;
                self.flushing = false;
            }
        }
        Ok(())
    }

    /// Has the system acknowledge at once what came.
    ///
    /// OpenSSH's server does not set TCP_NODELAY: one thing it can say only once what it said before is acknowledged.
    /// Its announcements after authentication, and that a channel is open, come right after each other, with nothing
    /// of ours between them, which would have the first acknowledged after 40 ms only.
    fn acknowledge(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(socket) = self.flow.find::<tokio::net::TcpStream>() {
            // It only makes it faster.
            let _ = socket.set_quickack(true);
        }
    }

    fn waiting(&self) -> usize {
        self.ahead.len() - self.written
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "nobody needs the connection any more")
}

impl AsyncRead for Carrier {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(cx)?;
        // The task that reads is the one that writes, and always waits to read.
        this.go_on_writing(cx)?;
        let before = buf.filled().len();
        let Poll::Ready(result) = AsyncRead::poll_read(Pin::new(&mut this.flow), cx, buf) else {
            if !this.settled.load(Ordering::Relaxed) {
                this.acknowledge();
            }
            return Poll::Pending;
        };
        result?;
        if let Some(heard) = &this.heard
            && !heard.hear(&buf.filled()[before..])
        {
            this.heard = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.poll_cut(cx)?;
        if let Poll::Ready(result) = this.poll_ahead(cx) {
            result?;
            if let Poll::Ready(result) = this.flow.poll_write(cx, &[bytes]) {
                return Poll::Ready(result.map_err(io::Error::from));
            }
        }
        if this.waiting() >= AHEAD {
            return Poll::Pending;
        }
        if this.written > 0 {
            this.ahead.drain(..this.written);
            this.written = 0;
        }
        this.ahead.extend_from_slice(bytes);
        this.flushing = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(cx)?;
        this.flushing = true;
        // What is not done now reading goes on with.
        this.go_on_writing(cx)?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.poll_cut(cx)?;
        ready!(this.poll_ahead(cx))?;
        this.flow.poll_shutdown(cx).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::atomic::AtomicUsize;
    use std::task::Waker;

    use tuyau_core::{FlowError, RawFlow};

    use super::*;

    /// Keeps what it takes until it is flushed, which it can't do the first time.
    struct Keeps(Arc<AtomicUsize>);

    impl RawFlow for Keeps {
        fn poll_read(
            &mut self,
            _: &mut Context<'_>,
            _: &mut tuyau_core::ReadBuf<'_>,
        ) -> Poll<Result<(), FlowError>> {
            Poll::Pending
        }

        fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
            Poll::Ready(Ok(bytes.iter().map(|bytes| bytes.len()).sum()))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        }

        fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
            Poll::Ready(Ok(()))
        }

        fn as_any(&self) -> &dyn Any {
            self
        }

        fn as_any_mut(&mut self) -> &mut dyn Any {
            self
        }

        fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
            Err(self)
        }
    }

    #[test]
    fn reading_goes_on_with_a_flush_that_could_not_be_done() {
        let flushes = Arc::<AtomicUsize>::default();
        let (mut carrier, _guard) =
            Carrier::new(Flow::new(Keeps(flushes.clone())), FirstWords::default(), Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut carrier).poll_write(&mut cx, b"hello").is_ready());
        assert!(Pin::new(&mut carrier).poll_flush(&mut cx).is_ready(), "it must read meanwhile");
        for asked in [2, 2] {
            let mut memory = [0; 8];
            let mut buf = ReadBuf::new(&mut memory);
            assert!(Pin::new(&mut carrier).poll_read(&mut cx, &mut buf).is_pending());
            assert_eq!(flushes.load(Ordering::Relaxed), asked, "once more, until it is done");
        }
    }
}
