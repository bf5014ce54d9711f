//! Protocols and the endpoint keys that carry them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use core::ops::Deref;

use crate::key::HIDDEN;
use crate::{BoxFuture, ConnectCx, ConnectError, Flow, Key, KeyRef, Protection};

/// A value of any type, as contexts hold them.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

/// Opens a flow from a typed endpoint. Implement [`connect`](Self::connect) as a plain `async fn`.
///
/// ```
/// use tuyau_core::{ConnectCx, ConnectError, Endpoint, Flow, Protocol};
/// # fn open(_: u32) -> Flow { unimplemented!() }
/// struct Serial;
///
/// impl Protocol for Serial {
///     type Endpoint = u32; // the baud rate
///     type Flow = Flow;
///     async fn connect(&self, baud: u32, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
///         Ok(open(baud))
///     }
/// }
///
/// static SERIAL: Endpoint<Serial> = Endpoint::new("serial", &Serial);
/// ```
pub trait Protocol: Send + Sync + 'static {
    /// The remote side: all that [`connect`](Self::connect) needs to know of it.
    type Endpoint: Clone + fmt::Debug + Send + Sync + 'static;
    /// What connecting gives.
    type Flow: Into<Flow>;

    /// Connects. Dropping the future gives up, and must leave nothing behind.
    fn connect(
        &self,
        endpoint: Self::Endpoint,
        cx: &ConnectCx<'_>,
    ) -> impl Future<Output = Result<Self::Flow, ConnectError>> + Send;

    /// Shows an endpoint to people. Its `Debug` form if not overridden.
    fn describe(&self, endpoint: &Self::Endpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{endpoint:?}")
    }

    /// The group that the endpoint is of, if candidates of different groups are to take turns in a
    /// race: the address family, for what dials addresses (RFC 8305 section 4).
    fn group(&self, _endpoint: &Self::Endpoint) -> Option<u32> {
        None
    }
}

/// A key whose values can be connected: it carries its protocol, so that a context that holds an
/// endpoint knows how to connect it. Derefs to the [`Key`] of the protocol's endpoint.
pub struct Endpoint<P: Protocol> {
    key: Key<P::Endpoint>,
    protocol: &'static P,
    priority: Option<i32>,
    protection: Protection,
}

impl<P: Protocol> Endpoint<P> {
    /// An endpoint key named `name`, clear and without priority. Assign it to a `static`.
    pub const fn new(name: &'static str, protocol: &'static P) -> Self {
        Self { key: Key::new(name), protocol, priority: None, protection: Protection::Clear }
    }

    /// Its place among the candidates: lower first, no priority last.
    pub const fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// How far the protocol protects what it carries, when it connects at all.
    pub const fn protection(mut self, protection: Protection) -> Self {
        self.protection = protection;
        self
    }

    /// Marks endpoints as secret: reports show that there is one, not which.
    pub const fn sensitive(mut self) -> Self {
        self.key = self.key.sensitive();
        self
    }
}

impl<P: Protocol> Deref for Endpoint<P> {
    type Target = Key<P::Endpoint>;

    fn deref(&self) -> &Key<P::Endpoint> {
        &self.key
    }
}

impl<P: Protocol> fmt::Debug for Endpoint<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.key.name())
    }
}

/// An endpoint key without its type. Implemented by [`Endpoint`] alone.
pub trait AnyEndpoint: Send + Sync + sealed::Erased {
    /// The key.
    fn key_ref(&'static self) -> KeyRef;
}

pub(crate) mod sealed {
    use super::{BoxFuture, ConnectCx, ConnectError, Flow, Protection, fmt};
    use core::any::Any;

    pub trait Erased {
        fn default_priority(&self) -> Option<i32>;
        fn declared_protection(&self) -> Protection;
        fn group(&self, endpoint: &dyn Any) -> Option<u32>;
        fn describe(&self, endpoint: &dyn Any, f: &mut fmt::Formatter<'_>) -> fmt::Result;
        fn connect<'a>(
            &'static self,
            endpoint: &dyn Any,
            cx: ConnectCx<'a>,
        ) -> Option<BoxFuture<'a, Result<Flow, ConnectError>>>;
    }
}

impl<P: Protocol> AnyEndpoint for Endpoint<P> {
    fn key_ref(&'static self) -> KeyRef {
        self.key.erase()
    }
}

impl<P: Protocol> sealed::Erased for Endpoint<P> {
    fn default_priority(&self) -> Option<i32> {
        self.priority
    }

    fn declared_protection(&self) -> Protection {
        self.protection
    }

    fn group(&self, endpoint: &dyn Any) -> Option<u32> {
        self.protocol.group(endpoint.downcast_ref()?)
    }

    fn describe(&self, endpoint: &dyn Any, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_sensitive() {
            return f.write_str(HIDDEN);
        }
        match endpoint.downcast_ref() {
            Some(endpoint) => self.protocol.describe(endpoint, f),
            None => f.write_str("?"),
        }
    }

    fn connect<'a>(
        &'static self,
        endpoint: &dyn Any,
        cx: ConnectCx<'a>,
    ) -> Option<BoxFuture<'a, Result<Flow, ConnectError>>> {
        let endpoint = endpoint.downcast_ref::<P::Endpoint>()?.clone();
        Some(Box::pin(async move { self.protocol.connect(endpoint, &cx).await.map(Into::into) }))
    }
}

/// An endpoint and its protocol, not yet opened: what [`dial`](crate::dial) gives a derivation, so
/// that a layer can open what it lies on.
#[derive(Clone)]
pub struct Dial {
    pub(crate) endpoint: &'static dyn AnyEndpoint,
    pub(crate) value: Value,
}

impl Dial {
    /// Connects. Reports show it as a hop. Cancel safe.
    pub async fn open(&self, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        cx.policy().check_protocol(self.key())?;
        let Some(connect) = self.endpoint.connect(&*self.value, cx.reborrow()) else {
            unreachable!("the endpoint key binds values of its own type only")
        };
        cx.hop_to(self, connect).await
    }

    /// The endpoint key that is dialled.
    pub fn key(&self) -> KeyRef {
        self.endpoint.key_ref()
    }

    /// The endpoint, if `key` is what is dialled.
    pub fn endpoint<T: Clone + 'static>(&self, key: &'static Key<T>) -> Option<T> {
        (self.key() == key.erase()).then(|| self.value.downcast_ref().cloned()).flatten()
    }

    /// The group that the endpoint is of; a protocol that dials it usually passes it on.
    pub fn group(&self) -> Option<u32> {
        self.endpoint.group(&*self.value)
    }

    /// What people are shown of the endpoint.
    pub fn address(&self) -> String {
        alloc::format!("{self}")
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.describe(&*self.value, f)
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {self}", self.key().name())
    }
}
