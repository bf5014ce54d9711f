//! A TCP connection as a flow.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use smoltcp::socket::tcp::RecvError;
use smoltcp::wire::IpEndpoint;
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{Ask, Flow, FlowError, FlowErrorKind, RawFlow, ReadBuf, Target};

use crate::core::{Core, Owner, State};
use crate::error;

/// What was written goes into the socket's buffer, and is sent from there. Dropping it ends both sides without
/// waiting: what was written is still sent, unless bytes were left unread, which resets the connection.
pub(crate) struct TcpFlow {
    owner: Arc<Owner>,
    connection: usize,
    shut: bool,
}

impl TcpFlow {
    /// Takes the connection over: it is closed with the flow.
    pub(crate) fn new(owner: Arc<Owner>, connection: usize) -> Self {
        Self { owner, connection, shut: false }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.owner.0
    }

    fn broken(&self, state: &State) -> FlowError {
        let trouble = state.dead.as_ref().or(state.trouble.as_ref());
        error::flow(state.fate(self.connection), trouble)
    }
}

impl RawFlow for TcpFlow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.owner.0.lock();
        let Some(socket) = state.stream(self.connection) else {
            state.rest(self.connection, |bytes| put(bytes, buf));
            return Poll::Ready(Ok(()));
        };
        let full = socket.recv_capacity() - socket.recv_queue();
        let mut read = 0;
        loop {
            // Twice, where the bytes go round the end of the ring.
            match socket.recv(|bytes| {
                let n = put(bytes, buf);
                (n, n)
            }) {
                Ok(0) if read > 0 => break,
                Ok(0) => {
                    socket.register_recv_waker(cx.waker());
                    return Poll::Pending;
                }
                Ok(n) => read += n,
                Err(_) if read > 0 => break,
                Err(RecvError::Finished) => return Poll::Ready(Ok(())),
                Err(RecvError::InvalidState) => return Poll::Ready(Err(self.broken(&state))),
            }
            if buf.remaining() == 0 {
                break;
            }
        }
        // The peer is told of the room once there is much of it, or when an acknowledgement is due anyway.
        if full < socket.recv_capacity() / 2 || read >= socket.recv_capacity() / 4 {
            state.kick();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.shut {
            return Poll::Ready(Err(FlowErrorKind::WriteAfterShutdown.into()));
        }
        let core = &self.owner.0;
        let mut state = core.lock();
        let Some(socket) = state.stream(self.connection).filter(|socket| socket.may_send()) else {
            return Poll::Ready(Err(self.broken(&state)));
        };
        if bytes.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        let mut written = 0;
        for slice in bytes {
            // It is open, so all that can happen is that it takes less.
            let n = socket.send_slice(slice).unwrap_or(0);
            written += n;
            if n < slice.len() {
                break;
            }
        }
        if written == 0 {
            socket.register_send_waker(cx.waker());
            return Poll::Pending;
        }
        socket.set_timeout(Some(core.config.timeout.into()));
        state.kick();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if !self.shut {
            self.shut = true;
            self.owner.0.shutdown(self.connection);
        }
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

    fn fact(&self, ask: &mut Ask<'_>) {
        let ends = self.owner.0.lock().ends(self.connection);
        ask.answer(&PEER, || target(ends.remote)).answer(&LOCAL, || target(ends.local));
    }
}

impl Drop for TcpFlow {
    fn drop(&mut self) {
        self.owner.0.close(self.connection);
    }
}

/// As much as fits.
fn put(bytes: &[u8], buf: &mut ReadBuf<'_>) -> usize {
    let n = bytes.len().min(buf.remaining());
    buf.put_slice(&bytes[..n]);
    n
}

pub(crate) fn target(end: IpEndpoint) -> Target {
    Target::Addr(SocketAddr::new(end.addr.into(), end.port))
}
