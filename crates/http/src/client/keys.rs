//! What a URL says, as values of a context.

use std::fmt;
use std::sync::Arc;

use tuyau_core::{Context, Key};

/// The scheme of the URL that is asked for: intent, which derivations may ask for
/// (`is(&SCHEME, Scheme::Https)`). That a connection *is* protected is a fact of its flow.
pub static SCHEME: Key<Scheme> = Key::new("http-scheme").shown();

/// How a context connects for a scheme, where what it offers anyway is not the answer to both: see [`Stacks`].
pub static STACKS: Key<Stacks> = Key::new("http-stacks");

/// The schemes of HTTP (RFC 9110 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`: whatever the context offers.
    Http,
    /// `https`: only what is encrypted from end to end is connected, whatever the context offers.
    Https,
}

impl Scheme {
    /// The port that goes without saying.
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Given a context that knows the scheme, host and port that are asked for, the one that offers what is to be
/// connected: by TCP for `http`, by TLS over TCP for `https`. Bound to [`STACKS`] by whoever puts transports
/// together; a client applies it once per context and origin.
///
/// ```
/// use tuyau_core::Context;
/// use tuyau_http::{STACKS, Scheme, Stacks};
/// use tuyau_tokio::{TCP, derivations};
///
/// # fn tls_over_tcp(ctx: Context) -> Context { ctx }
/// let ctx = derivations(Context::new()).with(&STACKS, Stacks::new(|scheme, ctx| match scheme {
///     Scheme::Http => ctx.offer(&TCP),
///     Scheme::Https => tls_over_tcp(ctx),
/// }));
/// ```
#[derive(Clone)]
pub struct Stacks(Arc<dyn Fn(Scheme, Context) -> Context + Send + Sync>);

impl Stacks {
    /// Stacks by this function.
    pub fn new(stacks: impl Fn(Scheme, Context) -> Context + Send + Sync + 'static) -> Self {
        Self(Arc::new(stacks))
    }

    /// The context that connects for `scheme`.
    pub fn apply(&self, scheme: Scheme, ctx: Context) -> Context {
        (self.0)(scheme, ctx)
    }
}

impl fmt::Debug for Stacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stacks")
    }
}
