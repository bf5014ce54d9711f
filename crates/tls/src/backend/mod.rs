//! What differs between the libraries: a handshake and records without I/O.

#[cfg(feature = "openssl")]
pub(crate) mod openssl;
#[cfg(feature = "rustls")]
pub(crate) mod rustls;

use std::sync::Arc;
use std::task::{Context, Poll};

use tuyau_core::{FlowError, ReadBuf};

use crate::config::Version;
use crate::error::TlsError;
use crate::lower::Lower;

/// How many bytes one write takes at most: what is encrypted at once, and waits if the flow below is slow. A piece of
/// 64 KiB, as bodies often come, goes with its head.
pub(crate) const MAX_WRITE: usize = 80 * 1024;

/// One connection of a library: it has bytes to send, and is fed bytes that were received.
pub(crate) trait Engine: Send + Sync + 'static {
    /// Whether decrypted bytes can be lent: see [`lend`](Self::lend).
    const LENDS: bool;

    /// Goes on with the handshake, as far as the bytes received allow. Whether it is done.
    fn handshake(&mut self) -> Result<bool, TlsError>;

    /// Takes what the flow below has received. 0 is its end.
    fn receive(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>>;

    /// Decrypts into `buf`, which has room, what was received.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> Result<Had, TlsError>;

    /// Decrypts what was received, for [`lent`](Self::lent).
    fn lend(&mut self) -> Result<Had, TlsError>;

    /// The decrypted bytes that are to be read next.
    fn lent(&mut self) -> &[u8];

    /// Counts `n` of the lent bytes as read.
    fn consume(&mut self, n: usize);

    /// Looks for an alert in what was received. Whether more can be received: not if bytes that are to be read
    /// come first.
    fn alert(&mut self) -> Result<bool, TlsError>;

    /// Encrypts, up to [`MAX_WRITE`] bytes. How many it took.
    fn write(&mut self, bytes: &[&[u8]]) -> Result<usize, TlsError>;

    /// Puts `close_notify` behind all that was written.
    fn close(&mut self);

    /// Whether something waits to be sent.
    fn has_output(&self) -> bool;

    /// Sends something of what waits.
    fn send(&mut self, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<usize, FlowError>>;

    /// What was agreed on in the handshake.
    fn agreed(&self) -> Agreed;
}

/// What a read had.
pub(crate) enum Had {
    Some,
    /// `close_notify`.
    End,
    /// It needs to receive more first.
    Nothing,
}

/// What was agreed on in a handshake.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) version: Version,
    pub(crate) cipher: Arc<str>,
    pub(crate) alpn: Option<Arc<[u8]>>,
    /// The peer's own certificate first.
    pub(crate) peer: Option<Arc<[Vec<u8>]>>,
    pub(crate) resumed: bool,
    pub(crate) certificate_requested: bool,
    /// On the server's side: the name that the client asked for.
    pub(crate) asked: Option<Arc<str>>,
}
