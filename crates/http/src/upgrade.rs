//! Connections that stop being HTTP's: WebSocket, CONNECT, anything behind an upgrade.

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use tuyau_core::{Ask, Flow, FlowError, RawFlow, ReadBuf, Unboxed};

use crate::client::Listening;
use crate::connection::Connection;
use crate::error::BoxError;
use crate::server::guard::Guard;

/// A request or response whose connection, or stream, may be taken over.
pub trait Upgradable: sealed::Sealed {}

impl<B> Upgradable for &mut Request<B> {}
impl<B> Upgradable for &mut Response<B> {}

mod sealed {
    use super::{Connection, Held};
    use http::{Request, Response};

    pub trait Sealed {
        fn take(self) -> (hyper::upgrade::OnUpgrade, Option<Connection>, Option<Held>);
    }

    impl<B> Sealed for &mut Request<B> {
        fn take(self) -> (hyper::upgrade::OnUpgrade, Option<Connection>, Option<Held>) {
            let connection = self.extensions().get().cloned();
            let held = self.extensions_mut().remove();
            (hyper::upgrade::on(self), connection, held)
        }
    }

    impl<B> Sealed for &mut Response<B> {
        fn take(self) -> (hyper::upgrade::OnUpgrade, Option<Connection>, Option<Held>) {
            let connection = self.extensions().get().cloned();
            let held = self.extensions_mut().remove();
            (hyper::upgrade::on(self), connection, held)
        }
    }
}

/// The flow that `message` came by, once HTTP has left it.
///
/// A server asks with the request, before it answers `101 Switching Protocols` (HTTP/1.1, RFC 9110 section 7.8)
/// or 2xx to a CONNECT (section 9.3.6; over HTTP/2 also with a `:protocol`, RFC 8441), and awaits this
/// afterwards, in a task of its own. A client asks with the response.
///
/// Over HTTP/1 it is the connection's own flow, with all that was read from it beyond the head: layers can be
/// taken off, and facts asked for. Over HTTP/2 it is one stream, which answers for the connection's facts.
///
/// Cancel safe: dropped, the connection is closed.
///
/// # Errors
/// If the message asked for no upgrade, or what was answered does not agree to it, or the connection broke.
pub async fn upgrade(message: impl Upgradable) -> Result<Flow, UpgradeError> {
    let (upgrade, connection, held) = message.take();
    let upgraded = upgrade.await.map_err(|error| UpgradeError(error.into()))?;
    let upgraded = match upgraded.downcast::<Unboxed<Guard>>() {
        Ok(parts) => {
            let (flow, guarded) = parts.io.0.into_parts();
            // hyper's come first: it read them through the guard.
            return Ok(flow.with_unread([parts.read_buf.as_ref(), &guarded].concat()));
        }
        Err(upgraded) => upgraded,
    };
    Ok(match upgraded.downcast::<Unboxed<Listening>>() {
        Ok(parts) => parts.io.0.into_flow().with_unread(parts.read_buf.to_vec()),
        Err(upgraded) => Flow::new(Stream { io: Mutex::new(upgraded), connection, _held: held }),
    })
}

/// Why a connection could not be taken over.
#[derive(Debug)]
pub struct UpgradeError(BoxError);

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection could not be taken over")
    }
}

impl std::error::Error for UpgradeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// A stream of HTTP/2. The mutex, never locked, makes it `Sync`.
struct Stream {
    io: Mutex<hyper::upgrade::Upgraded>,
    connection: Option<Connection>,
    _held: Option<Held>,
}

/// Keeps a client's connection from being idle as long as one of its streams is in use: an extension of the
/// response that the stream is taken over by.
#[derive(Clone)]
#[allow(unreachable_pub, missing_debug_implementations)] // named by a sealed trait
#[allow(dead_code)] // what it does, it does when it is dropped
pub struct Held(pub(crate) Arc<dyn Any + Send + Sync>);

impl Stream {
    fn io(&mut self) -> Pin<&mut hyper::upgrade::Upgraded> {
        Pin::new(self.io.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RawFlow for Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        let unfilled = buf.initialized_unfilled();
        let mut read = hyper::rt::ReadBuf::new(unfilled);
        let poll = hyper::rt::Read::poll_read(self.io(), cx, read.unfilled());
        let n = read.filled().len();
        buf.advance(n);
        poll.map_err(FlowError::from)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        // One stream, one frame: slices would be copied into one buffer anyway.
        let Some(first) = bytes.iter().find(|bytes| !bytes.is_empty()) else { return Poll::Ready(Ok(0)) };
        hyper::rt::Write::poll_write(self.io(), cx, first).map_err(FlowError::from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        hyper::rt::Write::poll_flush(self.io(), cx).map_err(FlowError::from)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        hyper::rt::Write::poll_shutdown(self.io(), cx).map_err(FlowError::from)
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
        if let Some(connection) = &self.connection {
            connection.answer(ask);
        }
    }
}
