//! The smallest protocol: a closure that gives the flow.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use crate::{BoxFuture, ConnectCx, ConnectError, Endpoint, Flow, Protocol};

/// What [`Context::from_fn`](crate::Context::from_fn) binds and offers.
pub(crate) static FROM_FN: Endpoint<FromFnProtocol> = Endpoint::new("from-fn", &FromFnProtocol);

pub(crate) struct FromFnProtocol;

#[derive(Clone)]
pub(crate) struct FromFn(Arc<dyn Fn() -> BoxFuture<'static, Result<Flow, ConnectError>> + Send + Sync>);

impl FromFn {
    pub(crate) fn new<F, Fut>(connect: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Flow, ConnectError>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(connect())))
    }
}

impl fmt::Debug for FromFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a function")
    }
}

impl Protocol for FromFnProtocol {
    type Endpoint = FromFn;
    type Flow = Flow;

    async fn connect(&self, connect: FromFn, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        (connect.0)().await
    }
}
