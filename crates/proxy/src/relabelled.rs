//! A flow that knows more about itself than the one below, and is the same in all else.

use std::any::Any;
use std::task::{Context, Poll};

use tuyau_core::{Ask, Flow, FlowError, RawFlow, ReadBuf};

/// What a relabelled flow knows. [`Flow::find`] finds this.
pub(crate) trait Label: Any + Send + Sync {
    fn fact(&self, ask: &mut Ask<'_>, below: &Flow);
}

/// `lower` with the facts of `label` in front.
pub(crate) fn relabelled(lower: Flow, label: impl Label) -> Flow {
    Flow::new(Relabelled { lower, label })
}

struct Relabelled<L> {
    lower: Flow,
    label: L,
}

impl<L: Label> RawFlow for Relabelled<L> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        self.lower.poll_read(cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        self.lower.poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.lower.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.lower.poll_shutdown(cx)
    }

    fn as_any(&self) -> &dyn Any {
        &self.label
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.label
    }

    fn lower(&self) -> Option<&Flow> {
        Some(&self.lower)
    }

    fn lower_mut(&mut self) -> Option<&mut Flow> {
        Some(&mut self.lower)
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Ok((self.lower, Vec::new()))
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        self.label.fact(ask, &self.lower);
    }

    fn can_fill(&self) -> bool {
        self.lower.can_fill()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        self.lower.poll_fill(cx)
    }

    fn consume(&mut self, n: usize) {
        self.lower.consume(n);
    }
}
