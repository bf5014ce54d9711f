//! Listeners that have a name.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Poll};

use tuyau_core::{AcceptError, Accepted, Flow, FlowError, Listener, RawFlow, RawListener, ReadBuf, Target};

/// The flow of a listener that has a name. It is taken off before anything is read.
pub(crate) struct Named {
    name: Arc<str>,
    flow: Flow,
}

impl Named {
    pub(crate) fn take(flow: Flow) -> (Option<Arc<str>>, Flow) {
        match flow.into_inner::<Self>() {
            Ok(Self { name, flow }) => (Some(name), flow),
            Err(flow) => (None, flow),
        }
    }
}

pub(crate) fn named(name: &str, listener: Listener) -> Listener {
    Listener::new(NamedListener { name: name.into(), listener })
}

struct NamedListener {
    name: Arc<str>,
    listener: Listener,
}

impl RawListener for NamedListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let name = self.name.clone();
        self.listener.poll_accept(cx).map_ok(|accepted| match accepted {
            Accepted::Flow(flow) => Accepted::Flow(Flow::new(Named { name, flow })),
            handshake @ Accepted::Handshake(_) => Accepted::Handshake(Box::pin(async move {
                let flow = handshake.finish().await?;
                Ok(Flow::new(Named { name, flow }))
            })),
        })
    }

    fn local(&self) -> Target {
        self.listener.local()
    }
}

impl RawFlow for Named {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        self.flow.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        self.flow.poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.flow.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.flow.poll_shutdown(cx)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn lower(&self) -> Option<&Flow> {
        Some(&self.flow)
    }

    fn lower_mut(&mut self) -> Option<&mut Flow> {
        Some(&mut self.flow)
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Ok((self.flow, Vec::new()))
    }
}
