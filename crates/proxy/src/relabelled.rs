//! A flow that knows more about itself than the one below, and is the same in all else.

use std::any::Any;

use tuyau_core::{Ask, Flow, RawFlow, forward};

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
    forward!(lower: read write lend lower unwrap);

    fn as_any(&self) -> &dyn Any {
        &self.label
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        &mut self.label
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        self.label.fact(ask, &self.lower);
    }
}
