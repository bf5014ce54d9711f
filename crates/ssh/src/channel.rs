//! A channel of an SSH connection as a flow.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use russh::ChannelWriteHalf;
use russh::client::Msg;
use tuyau_core::names::{LOCAL, PEER, SECURITY};
use tuyau_core::{Ask, Flow, FlowError, FlowErrorKind, Protection, RawFlow, ReadBuf, Target};

use crate::config::HOST_KEY;
use crate::exec::{CommandFailed, EXIT, Exit};
use crate::handler::PATIENCE;
use crate::inbox::{Inbox, LIMIT, Next};
use crate::session::Session;

/// How much one write takes: more only waits longer in memory.
const CHUNK: usize = 64 * 1024;

/// An open channel. Dropped, it is closed.
pub(crate) struct Channel {
    half: Arc<ChannelWriteHalf<Msg>>,
    inbox: Arc<Inbox>,
    session: Arc<Session>,
    /// We have sent the end.
    ended: bool,
}

impl Channel {
    pub(crate) fn new(half: ChannelWriteHalf<Msg>, session: Arc<Session>) -> Self {
        let inbox = session.inboxes().open(half.id());
        Self { half: Arc::new(half), inbox, session, ended: false }
    }

    pub(crate) fn half(&self) -> &ChannelWriteHalf<Msg> {
        &self.half
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// As a flow to `peer`.
    pub(crate) fn into_flow(self, peer: Target) -> Flow {
        self.flow(peer, None)
    }

    /// As a flow to a command.
    pub(crate) fn into_command(self, command: Arc<str>) -> Flow {
        let peer = format!("`{command}` on {}", self.session.server());
        self.flow(Target::Described(peer.into()), Some(command))
    }

    fn flow(self, peer: Target, command: Option<Arc<str>>) -> Flow {
        Flow::new(ChannelFlow {
            channel: self,
            peer,
            command,
            exit: None,
            current: Bytes::new(),
            sending: None,
            write: WriteSide::Open,
        })
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.inbox.abandon();
        // Once both sides have sent the end the server closes the channel, when it has passed everything
        // on; what is still with it would be lost if we did.
        if !(self.ended && self.inbox.has_ended()) {
            self.session.close(self.half.clone());
        }
    }
}

type Sending = Pin<Box<dyn Future<Output = Result<(), russh::Error>> + Send + Sync>>;

#[derive(PartialEq)]
enum WriteSide {
    Open,
    Ending,
    Ended,
}

struct ChannelFlow {
    channel: Channel,
    peer: Target,
    /// The command, if it is one: its exit status decides about the end.
    command: Option<Arc<str>>,
    exit: Option<Exit>,
    current: Bytes,
    /// What was taken, and waits for the window or for the connection.
    sending: Option<Sending>,
    write: WriteSide,
}

/// Why a flow through an SSH server failed: the connection that carried it.
#[derive(Clone, Debug)]
pub struct SessionEnded {
    server: Arc<str>,
    why: Option<Arc<str>>,
}

impl fmt::Display for SessionEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "the SSH connection to {} ended: {why}", self.server),
            None => write!(f, "{} closed the channel", self.server),
        }
    }
}

impl std::error::Error for SessionEnded {}

/// Why a flow through an SSH server was given up: nothing was read of it, so much waited that the connection could
/// carry no more, and other flows waited behind it.
#[derive(Clone, Debug)]
pub struct Unread {
    server: Arc<str>,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, waiting) = (&self.server, LIMIT >> 20);
        write!(
            f,
            "nothing was read for {PATIENCE:?} while {waiting} MiB waited, and other flows of the SSH "
        )?;
        write!(f, "connection to {server} waited behind it")
    }
}

impl std::error::Error for Unread {}

impl ChannelFlow {
    fn ended(&self, kind: FlowErrorKind, why: Option<Arc<str>>) -> FlowError {
        FlowError::with_source(kind, SessionEnded { server: self.channel.session.server().into(), why })
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        let Some(sending) = &mut self.sending else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            self.sending = None;
            return Poll::Ready(sent.map_err(|_| {
                let why = self.channel.session.inboxes().died();
                self.ended(FlowErrorKind::BrokenPipe, why)
            }));
        }
        self.poll_closed(cx)?;
        Poll::Pending
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Result<(), FlowError> {
        match self.channel.inbox.poll_closed(cx) {
            Poll::Ready(why) => {
                self.sending = None;
                Err(self.ended(FlowErrorKind::BrokenPipe, why))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// After the end of a command's output: whether it was a good one.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        let Some(command) = &self.command else { return Poll::Ready(Ok(())) };
        if self.exit.is_none() {
            self.exit = ready!(self.channel.inbox.poll_exit(cx));
        }
        match &self.exit {
            Some(exit) if exit.success() => Poll::Ready(Ok(())),
            exit => {
                let failed = CommandFailed::new(command, exit.clone(), self.channel.inbox.last_words());
                Poll::Ready(Err(FlowError::with_source(FlowErrorKind::UnexpectedEof, failed)))
            }
        }
    }
}

impl RawFlow for ChannelFlow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_fill(cx))?;
        let n = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..n]);
        self.current.advance(n);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.write != WriteSide::Open {
            return Poll::Ready(Err(FlowErrorKind::WriteAfterShutdown.into()));
        }
        ready!(self.poll_sent(cx))?;
        self.poll_closed(cx)?;
        let total = bytes.iter().map(|bytes| bytes.len()).sum::<usize>().min(CHUNK);
        if total == 0 {
            return Poll::Ready(Ok(0));
        }
        self.channel.inbox.touch(self.channel.session.runtime().now());
        let mut chunk = BytesMut::with_capacity(total);
        for bytes in bytes {
            let room = total - chunk.len();
            chunk.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        let half = self.channel.half.clone();
        self.sending = Some(Box::pin(async move { half.data_bytes(chunk.freeze()).await }));
        // So that it is on its way; if it can't be, the next call waits.
        if let Poll::Ready(result) = self.poll_sent(cx) {
            result?;
        }
        Poll::Ready(Ok(total))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.poll_sent(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        loop {
            ready!(self.poll_sent(cx))?;
            match self.write {
                WriteSide::Open => {
                    // A peer that has gone has been told the end, as far as that can be.
                    if self.channel.inbox.poll_closed(cx).is_ready() {
                        self.write = WriteSide::Ended;
                        return Poll::Ready(Ok(()));
                    }
                    let half = self.channel.half.clone();
                    self.sending = Some(Box::pin(async move { half.eof().await }));
                    self.write = WriteSide::Ending;
                }
                WriteSide::Ending => {
                    self.write = WriteSide::Ended;
                    self.channel.ended = true;
                }
                WriteSide::Ended => return Poll::Ready(Ok(())),
            }
        }
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
        let session = &self.channel.session;
        ask.answer(&PEER, || self.peer.clone());
        ask.answer(&LOCAL, || Target::Described(format!("a channel of {}", session.server()).into()));
        ask.answer(&HOST_KEY, || session.host_key());
        // What the server forwards it forwards in clear; its own commands end where SSH does.
        if self.command.is_some() {
            ask.answer(&SECURITY, || session.protection());
        } else {
            ask.answer(&SECURITY, || Protection::Clear);
        }
        if let Some(exit) = &self.exit {
            ask.answer(&EXIT, || exit.clone());
        }
    }

    fn can_fill(&self) -> bool {
        true
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        while self.current.is_empty() {
            match ready!(self.channel.inbox.poll_next(cx)) {
                Next::Data(data) => self.current = data,
                Next::End => {
                    ready!(self.poll_end(cx))?;
                    break;
                }
                Next::Closed => return Poll::Ready(Err(self.ended(FlowErrorKind::Reset, None))),
                Next::GivenUp => {
                    let unread = Unread { server: self.channel.session.server().into() };
                    return Poll::Ready(Err(FlowError::with_source(FlowErrorKind::Aborted, unread)));
                }
                Next::Died(why) => return Poll::Ready(Err(self.ended(FlowErrorKind::Reset, Some(why)))),
            }
        }
        Poll::Ready(Ok(&self.current))
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}
