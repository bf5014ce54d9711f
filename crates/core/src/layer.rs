//! Layers: from a flow to a flow.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use crate::{BoxFuture, ConnectCx, ConnectError, Flow};

/// Which side of a handshake one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that opened the flow, or speaks first.
    Client,
    /// The side that accepted it.
    Server,
}

/// Turns a flow into a flow: TLS, Noise, WebSocket. Serves dialling, accepting and upgrades in
/// mid-stream alike; see [`Context::upgrade`](crate::Context::upgrade).
pub trait Layer: Send + Sync + 'static {
    /// What it is, for reports.
    fn describe(&self) -> String;

    /// Does the handshake over `inner` and wraps it. Bytes that it read beyond the handshake are
    /// the first that the new flow reads. Dropping the future closes `inner`.
    fn wrap<'a>(
        &'a self,
        inner: Flow,
        role: Role,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>>;

    /// Whether the peer of the new flow is that of `inner`. It is, unless the handshake says who is really there.
    fn keeps_peer(&self) -> bool {
        true
    }
}

/// A [`Layer`], shared.
pub type SharedLayer = Arc<dyn Layer>;

impl fmt::Debug for dyn Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({})", self.describe())
    }
}
