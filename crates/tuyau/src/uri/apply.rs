//! What a URI means: the values and the offer that it adds to a context.

#[cfg(unix)]
use tuyau_core::Target;
use tuyau_core::names::{HOST, PORT};
use tuyau_core::{AnyEndpoint, Context};
#[cfg(unix)]
use tuyau_tokio::{Command, EXEC, FIFO, FifoPair, UNIX, UNIX_PATH};
use tuyau_tokio::{MEM, MEM_NAME, STDIO, TCP};

use super::error::quote;
use super::options::{Use, assign};
use super::parse::Address;
use super::{Uri, UriError, UriErrorKind};
use crate::layers::{NESTED, Nested};
use crate::schemes::Wiring;

impl Uri {
    /// Adds to `ctx` what this URI says: values ([`HOST`], [`PORT`], socket options, …), over
    /// what is there, and the offer of one transport. What derives the transport's endpoint from them
    /// is in [`context()`](crate::context()), over which `ctx` should lie. Nothing is connected yet.
    ///
    /// A port that the URI does not have is left to the context.
    ///
    /// ```
    /// let ctx = tuyau::uri("tcp://localhost:8080")?.apply(tuyau::context())?;
    /// // ctx.resolve().await
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    ///
    /// # Errors
    /// If the URI is only for listening, was not [allowed](Self::allow), or has a user or an
    /// option that nothing consumes.
    #[track_caller]
    pub fn apply(&self, ctx: Context) -> Result<Context, UriError> {
        self.check_connect()?;
        let ctx = self.route(ctx)?;
        let (ctx, endpoint) = self.bind(ctx)?;
        Ok(ctx.offer(endpoint))
    }

    /// `ctx`, with a net that goes through the hops.
    #[track_caller]
    pub(crate) fn route(&self, ctx: Context) -> Result<Context, UriError> {
        let base = self.base();
        if let (Some(hop), false) = (self.hops.first(), base.routed) {
            let message = format!("{} goes its own way: {hop} would not be used", quote(base.name));
            return Err(UriError::new(UriErrorKind::Route, &self.text, self.scheme_span(), message)
                .with_hint("hops carry what is dialled by a host or a path, like tcp://host:port"));
        }
        let mut before = None;
        self.hops.iter().try_fold(ctx, |ctx, hop| {
            let before = before.replace(hop);
            if let Some(before) = before {
                hop.check_after(before)?;
            }
            hop.apply_at(ctx, before.is_none())
        })
    }

    /// Adds the values of this URI to `ctx`, and what derives its endpoint from them.
    #[track_caller]
    pub(crate) fn bind(&self, ctx: Context) -> Result<(Context, &'static dyn AnyEndpoint), UriError> {
        self.bind_telling(ctx, |_| ())
    }

    /// The same, which tells each endpoint that is dialled, innermost first.
    #[track_caller]
    pub(crate) fn bind_telling(
        &self,
        ctx: Context,
        mut tell: impl FnMut(&'static dyn AnyEndpoint),
    ) -> Result<(Context, &'static dyn AnyEndpoint), UriError> {
        let options = assign(self, Use::Connect)?;
        let ctx = self.bind_host(options.bind_whole(ctx)?);
        let base = self.stack.parts().count() - 1;
        let (mut stack, mut endpoint) = self.bind_base(options.bind_part(ctx.clone(), base)?)?;
        tell(endpoint);
        let mut inside: Vec<&str> = Vec::new();
        let first = usize::from(self.stack.hop.is_some());
        for (index, layer) in self.stack.layers.iter().enumerate().rev() {
            let Wiring::Layer(wiring) = layer.scheme.wiring else { continue };
            if inside.contains(&layer.scheme.name) {
                let to = self.destination().into();
                let below = Nested { ctx: stack.offer(endpoint).only(endpoint), to };
                (stack, endpoint) = (ctx.clone().with(&NESTED, below), &NESTED);
                inside.clear();
            }
            inside.push(layer.scheme.name);
            (stack, endpoint) = (wiring.over)(options.bind_part(stack, first + index)?, endpoint);
            tell(endpoint);
        }
        if self.stack.hop.is_some() {
            stack = options.bind_part(stack, 0)?;
        }
        Ok((stack, endpoint))
    }

    /// Where it leads to, whatever the stack: `localhost:8080`.
    fn destination(&self) -> String {
        let Address::Host { host, port } = &self.address else { return self.base().name.into() };
        let host = host.to_plain();
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        match port.or(self.default_port()) {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    #[track_caller]
    fn bind_host(&self, ctx: Context) -> Context {
        let Address::Host { host, port } = &self.address else { return ctx };
        let ctx = ctx.with(&HOST, host.to_plain().into());
        match port.or(self.default_port()) {
            Some(port) => ctx.with(&PORT, port),
            None => ctx,
        }
    }

    /// The port of the stack where the URI has none; most have none, and leave it to the protocol.
    pub(crate) fn default_port(&self) -> Option<u16> {
        let mut layers = self.stack.layers.iter().map(|layer| layer.scheme.name);
        match (self.base().name, layers.next(), layers.next()) {
            // RFC 6455 section 3.
            ("tcp", Some("ws"), Some("tls")) => Some(443),
            ("tcp", Some("ws"), _) => Some(80),
            ("ssh", ..) => Some(22),
            _ => None,
        }
    }

    #[track_caller]
    fn bind_base(&self, ctx: Context) -> Result<(Context, &'static dyn AnyEndpoint), UriError> {
        let (ctx, endpoint): (_, &'static dyn AnyEndpoint) = match &self.address {
            #[cfg(feature = "ssh")]
            Address::Host { .. } if self.base().name == "ssh" => {
                return crate::hops::ssh::wired::target(self, ctx, self.hops.is_empty());
            }
            Address::Host { .. } => (ctx, &TCP),
            Address::Name(name) => (ctx.with(&MEM_NAME, name.as_str().into()), &MEM),
            Address::Nothing => (ctx, &STDIO),
            #[cfg(unix)]
            Address::Socket(path) => (ctx.with(&UNIX_PATH, Target::path(path)), &UNIX),
            #[cfg(unix)]
            Address::Path(path) => (ctx.with(&FIFO, FifoPair::client(to_path(path))), &FIFO),
            #[cfg(unix)]
            Address::Argv(argv) => (ctx.with(&EXEC, Command::argv(argv)), &EXEC),
            #[cfg(unix)]
            Address::Line(line) => (ctx.with(&EXEC, Command::shell(line)), &EXEC),
            #[cfg(not(unix))]
            _ => return Err(self.direction("this platform can't connect to it")),
        };
        #[cfg(feature = "proxy-protocol")]
        let (ctx, endpoint) =
            crate::layers::proxy_protocol::sending(ctx, endpoint).map_err(|why| self.unusable(why))?;
        Ok((ctx, endpoint))
    }

    fn check_connect(&self) -> Result<(), UriError> {
        self.check_allowed()?;
        self.check_port()?;
        self.check_user()
    }

    /// Whether it can be connected to, and may be.
    pub(crate) fn check_allowed(&self) -> Result<(), UriError> {
        let base = self.base();
        if !base.connects {
            return Err(self.direction("is to listen on only"));
        }
        if !self.allow.contains(base.wants) {
            let message = format!("the program has not allowed {}", quote(base.name));
            return Err(UriError::new(UriErrorKind::NotAllowed, &self.text, self.scheme_span(), message)
                .with_hint(format!(
                    "a URI may come from a stranger; if this one is to be trusted: .allow({})",
                    base.wants
                )));
        }
        Ok(())
    }

    pub(crate) fn check_listen(&self) -> Result<(), UriError> {
        if !self.stack.parts().all(|scheme| scheme.listens) {
            return Err(self.direction("is to connect to only"));
        }
        self.check_user()
    }

    fn check_user(&self) -> Result<(), UriError> {
        if self.user.is_some() && !self.base().user { Err(self.user_is_unused()) } else { Ok(()) }
    }

    pub(crate) fn user_is_unused(&self) -> UriError {
        let span = self.user.as_ref().map_or(0..0, |(_, span)| span.clone());
        let message = format!("{} has no use for a user", self.base().name);
        UriError::new(UriErrorKind::User, &self.text, span, message)
            .with_hint("leave it out; a protocol that wants it takes it from the URI first")
    }

    pub(crate) fn check_port(&self) -> Result<(), UriError> {
        if self.port() != Some(0) {
            return Ok(());
        }
        let end = self.authority_end();
        let start = self.text[..end].rfind(':').map_or(end, |colon| colon + 1);
        Err(UriError::new(UriErrorKind::Port, &self.text, start..end, "port 0 can't be connected to")
            .with_hint("a port is a number from 1 to 65535"))
    }

    /// For a URI without a port in a context without one.
    pub(crate) fn port_is_missing(&self) -> UriError {
        let end = self.authority_end();
        UriError::new(UriErrorKind::Port, &self.text, end..end, "the port is missing")
            .with_hint(format!("for example: {}", self.base().example))
    }

    fn authority_end(&self) -> usize {
        self.address_span.start + self.text[self.address_span.clone()].trim_end_matches('/').len()
    }

    fn direction(&self, what: &str) -> UriError {
        let message = format!("{} {what}", quote(self.base().name));
        UriError::new(UriErrorKind::Direction, &self.text, self.scheme_span(), message)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Where the base transport is named, or where it would be.
    pub(crate) fn scheme_span(&self) -> std::ops::Range<usize> {
        self.stack.base.span.clone()
    }

    /// That it can't be used, and why.
    #[cfg(feature = "ssh")]
    pub(crate) fn refused(&self, error: &dyn std::error::Error) -> UriError {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why.push_str(&format!(": {error}"));
            cause = error.source();
        }
        self.unusable(&why)
    }

    /// That its address can't be used as it is.
    pub(crate) fn unusable(&self, why: &str) -> UriError {
        UriError::new(UriErrorKind::Command, &self.text, self.address_span.clone(), why)
    }
}

#[cfg(unix)]
pub(crate) fn to_path(path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path).into()
}
