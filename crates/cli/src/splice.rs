//! Bytes from socket to socket through a pipe in the kernel, which nobody copies (splice(2)).

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tuyau::Flow;

/// How much a pipe holds, if the system lets it: the usual limit for who is not root (pipe(7)).
const CAPACITY: usize = 1 << 20;

/// A socket of this machine that nothing lies over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Socket<'a> {
    Tcp(&'a TcpStream),
    Unix(&'a UnixStream),
}

impl<'a> Socket<'a> {
    pub(crate) fn of(flow: &'a Flow) -> Option<Self> {
        flow.outermost().map(Self::Tcp).or_else(|| flow.outermost().map(Self::Unix))
    }

    fn poll_io<T>(
        self,
        cx: &mut Context<'_>,
        interest: Interest,
        mut work: impl FnMut(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            match (self, interest.is_readable()) {
                (Self::Tcp(it), true) => ready!(it.poll_read_ready(cx))?,
                (Self::Tcp(it), false) => ready!(it.poll_write_ready(cx))?,
                (Self::Unix(it), true) => ready!(it.poll_read_ready(cx))?,
                (Self::Unix(it), false) => ready!(it.poll_write_ready(cx))?,
            }
            let done = match self {
                Self::Tcp(it) => it.try_io(interest, || Ok(work(it.as_fd())?)),
                Self::Unix(it) => it.try_io(interest, || Ok(work(it.as_fd())?)),
            };
            match done {
                // It was not ready after all.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// Until all that was written to `socket` is on its way, or nobody takes it any more: a reset drops what the kernel still has.
pub(crate) async fn sent(socket: &TcpStream) {
    // Then it takes more only once nothing waits.
    if SockRef::from(socket).set_tcp_notsent_lowat(1).is_err() {
        return;
    }
    let nothing_waits = || {
        let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut sockets, PollTimeout::ZERO)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    };
    let _ = socket.async_io(Interest::WRITABLE, nothing_waits).await;
}

/// A pipe, and what is in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
    filled: usize,
}

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        // With less it works, too.
        let _ = fcntl(&writer, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
        Ok(Self { reader, writer, filled: 0 })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Fills the pipe, which is empty, with what there is. If it is empty still, that was the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, from: Socket<'_>) -> Poll<io::Result<()>> {
        let Self { writer, filled, .. } = self;
        *filled = ready!(from.poll_io(cx, Interest::READABLE, |socket| {
            splice(socket, None, &*writer, None, CAPACITY, SpliceFFlags::SPLICE_F_NONBLOCK)
        }))?;
        Poll::Ready(Ok(()))
    }

    /// Empties the pipe as far as `to` takes it.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, to: Socket<'_>) -> Poll<io::Result<usize>> {
        let Self { reader, filled, .. } = self;
        let n = ready!(to.poll_io(cx, Interest::WRITABLE, |socket| {
            splice(&*reader, None, socket, None, *filled, SpliceFFlags::SPLICE_F_NONBLOCK)
        }))?;
        *filled -= n;
        Poll::Ready(Ok(n))
    }
}
