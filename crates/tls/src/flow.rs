//! TLS over a flow, once the handshake is done.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tuyau_core::names::{NEGOTIATED_ALPN, PEER_CERTIFICATES, SECURITY, SERVER_NAME};
use tuyau_core::{Ask, Flow, FlowError, FlowErrorKind, Protection, RawFlow, ReadBuf};

use crate::backend::{Agreed, Engine, Had};
use crate::config::{CERTIFICATE_REQUESTED, CIPHER, RESUMED, VERSION};
use crate::error::TlsError;
use crate::lower::Lower;

/// What a write takes is encrypted at once, all slices as one record where they fit one, and sent as far as
/// the flow below takes it without waiting. The rest goes with the next write, or flush.
pub(crate) struct TlsFlow<E> {
    engine: E,
    lower: Lower,
    agreed: Agreed,
    server_name: Option<Arc<str>>,
    security: Protection,
    read: ReadSide,
    write: WriteSide,
    /// Whether somebody waits for the flow below to take more.
    blocked: bool,
    /// How often we have made way for what the peer said last.
    made_way: u8,
}

/// How often we make way for what the peer said last: for whoever notices, on this thread or another, that there is
/// something to read.
const MAKE_WAY: u8 = 100;

enum ReadSide {
    Open,
    Ended,
    Failed(TlsError),
}

#[derive(PartialEq)]
enum WriteSide {
    Open,
    /// `close_notify` is on its way.
    Closing,
    /// It has been sent.
    Ended,
    Closed,
}

impl<E: Engine> TlsFlow<E> {
    /// After a handshake. `server_name` is what a client asked for; a server knows it by its engine.
    pub(crate) fn new(
        engine: E,
        lower: Lower,
        agreed: Agreed,
        server_name: Option<Arc<str>>,
        security: Protection,
    ) -> Self {
        let server_name = server_name.or_else(|| agreed.asked.clone());
        let (read, write) = (ReadSide::Open, WriteSide::Open);
        Self { engine, lower, agreed, server_name, security, read, write, blocked: false, made_way: 0 }
    }

    /// Hands what is encrypted to the flow below.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        while self.engine.has_output() {
            let sent = self.engine.send(&mut self.lower, cx);
            self.blocked = sent.is_pending();
            match ready!(sent) {
                Ok(0) => return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(ready!(self.poll_reason(cx, error)))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whoever refuses us says so in an alert before hanging up, and we may learn of the latter first: also before it
    /// is known that there is something to read.
    fn poll_reason(&mut self, cx: &mut Context<'_>, error: FlowError) -> Poll<FlowError> {
        if !is_gone(&error) {
            return Poll::Ready(error);
        }
        loop {
            match self.engine.alert() {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(error),
                Err(alert) => return Poll::Ready(self.fail(alert)),
            }
            match self.engine.receive(&mut self.lower, cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Pending => {
                    ready!(self.make_way(cx));
                    return Poll::Ready(error);
                }
                _ => return Poll::Ready(error),
            }
        }
    }

    fn fail(&mut self, error: TlsError) -> FlowError {
        self.read = ReadSide::Failed(error.clone());
        error.into_flow()
    }

    /// Reads the end below once both have ended here, as is the `close_notify` of TLS in TLS: to close over it would have
    /// the system reset the connection, and the peer lose what was written last. It may be about to come, and it may
    /// never come.
    fn poll_end_below(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 256];
        for _ in 0..4 {
            match self.lower.poll_read(cx, &mut bytes) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Pending if self.lower.flow.fact(&SECURITY).is_some() => return self.make_way(cx),
                _ => break,
            }
        }
        Poll::Ready(())
    }

    /// Waits for no more than that others have had their turn.
    fn make_way(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.made_way == MAKE_WAY {
            return Poll::Ready(());
        }
        self.made_way += 1;
        cx.waker().wake_by_ref();
        std::thread::yield_now();
        Poll::Pending
    }

    /// Receives until `read` of the engine has something, or the end.
    fn poll_had(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut E) -> Result<Had, TlsError>,
    ) -> Poll<Result<(), FlowError>> {
        loop {
            match &self.read {
                ReadSide::Open => {}
                ReadSide::Ended => {
                    if self.write == WriteSide::Closed {
                        ready!(self.poll_end_below(cx));
                    }
                    return Poll::Ready(Ok(()));
                }
                ReadSide::Failed(error) => return Poll::Ready(Err(error.clone().into_flow())),
            }
            match read(&mut self.engine) {
                Ok(Had::Some) => return Poll::Ready(Ok(())),
                Ok(Had::End) => self.read = ReadSide::Ended,
                Ok(Had::Nothing) => match ready!(self.engine.receive(&mut self.lower, cx))? {
                    0 => return Poll::Ready(Err(self.fail(TlsError::Truncated))),
                    _ => continue,
                },
                Err(error) => {
                    let error = self.fail(error);
                    // The peer should learn why. A writer that waits must stay the one to be woken.
                    if !self.blocked {
                        let _ = self.poll_send(cx);
                    }
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl<E: Engine> RawFlow for TlsFlow<E> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_had(cx, |engine| engine.read(buf))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.write != WriteSide::Open {
            return Poll::Ready(Err(FlowErrorKind::WriteAfterShutdown.into()));
        }
        if bytes.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_send(cx))?;
        let n = self.engine.write(bytes).map_err(|error| self.fail(error))?;
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(n)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        ready!(self.poll_send(cx))?;
        self.lower.flow.poll_flush(cx)
    }

    /// Sends `close_notify`, then ends the write side of the flow below.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if self.write == WriteSide::Open {
            self.engine.close();
            self.write = WriteSide::Closing;
        }
        if self.write == WriteSide::Closing {
            ready!(self.poll_flush(cx))?;
            self.write = WriteSide::Ended;
        }
        if self.write == WriteSide::Ended {
            match ready!(self.lower.flow.poll_shutdown(cx)) {
                // The peer has read the end, and may well have gone.
                Err(error) if is_gone(&error) => {}
                result => result?,
            }
            self.write = WriteSide::Closed;
        }
        if matches!(self.read, ReadSide::Ended) {
            ready!(self.poll_end_below(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn lower(&self) -> Option<&Flow> {
        Some(&self.lower.flow)
    }

    fn lower_mut(&mut self) -> Option<&mut Flow> {
        Some(&mut self.lower.flow)
    }

    /// Refuses: what comes next below is encrypted.
    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        let Agreed { version, cipher, alpn, peer, resumed, certificate_requested, asked: _ } = &self.agreed;
        ask.answer(&SECURITY, || self.security)
            .answer(&VERSION, || *version)
            .answer(&CIPHER, || cipher.clone())
            .answer(&RESUMED, || *resumed)
            .answer(&CERTIFICATE_REQUESTED, || *certificate_requested);
        if let Some(name) = &self.server_name {
            ask.answer(&SERVER_NAME, || name.clone());
        }
        if let Some(alpn) = alpn {
            ask.answer(&NEGOTIATED_ALPN, || alpn.clone());
        }
        if let Some(peer) = peer {
            ask.answer(&PEER_CERTIFICATES, || peer.clone());
        }
    }

    fn can_fill(&self) -> bool {
        E::LENDS
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        if !E::LENDS {
            return Poll::Ready(Err(FlowErrorKind::Unsupported.into()));
        }
        ready!(self.poll_had(cx, E::lend))?;
        Poll::Ready(Ok(self.engine.lent()))
    }

    fn consume(&mut self, n: usize) {
        self.engine.consume(n);
    }
}

fn is_gone(error: &FlowError) -> bool {
    matches!(error.kind(), FlowErrorKind::Reset | FlowErrorKind::BrokenPipe)
}
