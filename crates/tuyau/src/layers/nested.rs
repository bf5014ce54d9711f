//! What a second layer of the same kind lies on: a context of its own, so that each has its own settings.

use std::fmt;
use std::sync::Arc;

use tuyau_core::{ConnectCx, ConnectError, Context, Endpoint, Flow, Protocol};

/// The lower part of a stack, in a context of its own.
pub(crate) static NESTED: Endpoint<NestedStack> = Endpoint::new("stack", &NestedStack);

pub(crate) struct NestedStack;

/// A context that offers one endpoint, and where it leads to.
#[derive(Clone)]
pub(crate) struct Nested {
    pub(crate) ctx: Context,
    pub(crate) to: Arc<str>,
}

impl fmt::Debug for Nested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to)
    }
}

impl Protocol for NestedStack {
    type Endpoint = Nested;
    type Flow = Flow;

    async fn connect(&self, below: Nested, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Ok(cx.resolve(&below.ctx).await?.into_flow())
    }
}
