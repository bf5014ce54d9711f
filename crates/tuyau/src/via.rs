//! Hops: what one goes through on the way.

use std::fmt;
use std::str::FromStr;

use tuyau_core::names::{ALPN, NET, POLICY, PORT, SERVER_NAME};
use tuyau_core::{AnyEndpoint, Context, SharedNet};

use crate::schemes::{SchemeKind, Wiring};
use crate::uri::{UriRole, Use, assign, parse};
use crate::{Allow, Scheme, Uri, UriError, UriErrorKind};

/// A hop: a proxy, a bastion, a program that leads on. Parsed from a URI of the schemes in
/// [`hops`](crate::hops()).
///
/// A hop is dialled in the context that it is [applied](Self::apply) to, by its own host, port and
/// options. What the destination is asked for (its SNI, its certificates) is not the hop's.
#[derive(Clone)]
pub struct Via {
    uri: Box<Uri>,
    /// The variable of the environment that it comes from, with what that says.
    #[cfg(any(feature = "socks5", feature = "http"))]
    env: Option<tuyau_proxy::EnvProxy>,
}

/// Parses a hop. Nothing but the network is allowed to it until [`Via::allow`] says so.
///
/// ```
/// # #[cfg(feature = "exec")] {
/// use tuyau::Allow;
/// let bastion = tuyau::via("exec:ssh -W %h:%p bastion")?.allow(Allow::EXEC);
/// let uri = tuyau::uri("tcp://db.internal:5432")?.via(bastion);
/// # }
/// # Ok::<(), tuyau::UriError>(())
/// ```
///
/// # Errors
/// If it is no URI, or of no hop that this build has.
pub fn via(text: &str) -> Result<Via, UriError> {
    Ok(Via::of(parse(text, UriRole::Hop)?))
}

impl Via {
    fn of(uri: Uri) -> Self {
        Self {
            uri: Box::new(uri),
            #[cfg(any(feature = "socks5", feature = "http"))]
            env: None,
        }
    }

    #[cfg(any(feature = "socks5", feature = "http"))]
    pub(crate) fn set_by(self, env: tuyau_proxy::EnvProxy) -> Self {
        Self { env: Some(env), ..self }
    }

    /// Allows `what`, besides what was allowed before: see [`Uri::allow`].
    pub fn allow(mut self, what: Allow) -> Self {
        self.uri = Box::new(self.uri.allow(what));
        self
    }

    /// What one goes through.
    pub fn scheme(&self) -> &'static Scheme {
        self.uri.stack.hop.as_ref().map_or(self.uri.base(), |hop| hop.scheme)
    }

    /// The host of the hop, if it has one.
    pub fn host(&self) -> Option<String> {
        self.uri.host()
    }

    /// The port of the hop, if it has one: what its URI says, or the usual one.
    pub fn port(&self) -> Option<u16> {
        let default = self.wiring_port();
        self.uri.host().and_then(|_| self.uri.port().or(default))
    }

    /// See [`Uri::option_spellings`].
    pub fn option_spellings(&self, name: &str) -> Vec<String> {
        self.uri.option_spellings(name)
    }

    /// See [`Uri::has_option`].
    pub fn has_option(&self, spelling: &str) -> bool {
        self.uri.has_option(spelling)
    }

    /// See [`Uri::with_option`].
    ///
    /// # Errors
    /// If it is given already.
    pub fn with_option(mut self, name: &str, value: &str) -> Result<Self, UriError> {
        self.uri = Box::new(self.uri.with_option(name, value)?);
        Ok(self)
    }

    /// Goes through this hop: replaces the net of `ctx` by the one beyond this hop,
    /// which is itself dialled in `ctx`. Fold over several, nearest first; or [`Uri::via`].
    ///
    /// # Errors
    /// If the hop was not [allowed](Self::allow), or has an option that nothing consumes.
    #[track_caller]
    pub fn apply(&self, ctx: Context) -> Result<Context, UriError> {
        self.apply_at(ctx, true)
    }

    /// The same, of one that comes after others, or not.
    #[track_caller]
    pub(crate) fn apply_at(&self, ctx: Context, first: bool) -> Result<Context, UriError> {
        let net = self.net(&ctx, first)?;
        Ok(ctx.replace(&NET, net))
    }

    #[track_caller]
    fn net(&self, ctx: &Context, first: bool) -> Result<SharedNet, UriError> {
        let uri = &*self.uri;
        uri.check_allowed()?;
        uri.check_port()?;
        let Wiring::Hop(wiring) = self.scheme().wiring else {
            return Err(uri.unusable("it is not to go through"));
        };
        if !self.scheme().user && uri.user.is_some() {
            return Err(uri.user_is_unused());
        }
        if self.stands_alone() {
            let options = assign(uri, Use::Connect)?;
            let outer = options.bind_part(options.bind_whole(ctx.clone().without(&POLICY))?, 0)?;
            return (wiring.net)(uri, outer, first);
        }
        // The policy comes to each hop with the resolution, as far as it is for hops.
        let mut outer = ctx.clone().without(&SERVER_NAME).without(&ALPN).without(&POLICY);
        if uri.port().is_none() && uri.host().is_some() {
            outer = outer.with(&PORT, (wiring.default_port)(uri));
        }
        let (outer, endpoint) = uri.bind(outer)?;
        let outer = outer.offer(endpoint).only(endpoint);
        #[cfg(any(feature = "socks5", feature = "http"))]
        if let Some(env) = &self.env {
            return Ok(env.hop().over(outer));
        }
        (wiring.net)(uri, outer, first)
    }

    /// What is dialled for it, innermost first.
    pub(crate) fn endpoints(&self, ctx: &Context) -> Vec<&'static dyn AnyEndpoint> {
        let mut endpoints: Vec<&'static dyn AnyEndpoint> = Vec::new();
        #[cfg(unix)]
        if self.stands_alone() && self.scheme().name == "exec" {
            endpoints.push(&tuyau_tokio::EXEC);
        }
        if !self.stands_alone() {
            // What is wrong with it was said when it was applied.
            let _ = self.uri.bind_telling(ctx.clone(), |endpoint| endpoints.push(endpoint));
        }
        endpoints
    }

    /// Whether it lies on no transport.
    fn stands_alone(&self) -> bool {
        self.uri.base().kind == SchemeKind::Hop
    }

    /// A hop that dials nothing by the context's net would not use the one before it.
    pub(crate) fn check_after(&self, before: &Self) -> Result<(), UriError> {
        let base = self.uri.base();
        if base.routed {
            return Ok(());
        }
        let message = format!("`{}` goes its own way: {before} would not be used", base.name);
        Err(UriError::new(UriErrorKind::Route, self.uri.text(), self.uri.scheme_span(), message)
            .with_hint("it can only be the first hop, the nearest"))
    }

    fn wiring_port(&self) -> Option<u16> {
        match self.scheme().wiring {
            Wiring::Hop(wiring) => Some((wiring.default_port)(&self.uri)),
            _ => None,
        }
    }
}

impl FromStr for Via {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        via(text)
    }
}

/// As a [`Uri`] is shown: in one spelling, without secrets.
impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Via({self})")
    }
}
