//! Listeners, and where they are.

use std::sync::Arc;
use std::task::{Context, Poll};

use tuyau_core::{AcceptError, AcceptErrorKind, Accepted, Flow, RawListener, Target};

use crate::core::Owner;
use crate::flow::TcpFlow;

/// Listens on the wire, and to the stack itself.
pub(crate) struct TcpListener {
    pub(crate) on: Vec<Bound>,
    pub(crate) local: Target,
    pub(crate) turn: usize,
}

/// A port that one core listens on. Dropping it frees the port.
pub(crate) struct Bound {
    pub(crate) owner: Arc<Owner>,
    pub(crate) listener: usize,
}

impl RawListener for TcpListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        for _ in 0..self.on.len() {
            self.turn = (self.turn + 1) % self.on.len();
            let Bound { owner, listener } = &self.on[self.turn];
            if let Poll::Ready(accepted) = owner.0.poll_accept(*listener, cx) {
                return Poll::Ready(match accepted {
                    Ok(connection) => Ok(Accepted::Flow(Flow::new(TcpFlow::new(owner.clone(), connection)))),
                    Err(dead) => Err(AcceptError::with_source(AcceptErrorKind::Closed, dead)),
                });
            }
        }
        Poll::Pending
    }

    fn local(&self) -> Target {
        self.local.clone()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.owner.0.close_listener(self.listener);
    }
}
