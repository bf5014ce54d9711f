//! From a URI to a flow or a listener.

use std::time::Duration;

use tuyau_core::names::{ATTEMPT_TIMEOUT, NET, PORT};
use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Key, Listener, Resolved, SharedNet, Target,
};
#[cfg(unix)]
use tuyau_tokio::{FifoPair, listen_fifo};
use tuyau_tokio::{MEM_HUB, STDIO, StdioEndpoint, listen_stdio};

use crate::error::ListenError;
use crate::schemes::Wiring;
#[cfg(unix)]
use crate::uri::to_path;
use crate::uri::{Address, Host, Use, assign};
use crate::{Error, Uri, uri};

/// How long an attempt may take by default.
const ATTEMPT: Duration = Duration::from_secs(120);

/// The default context: tokio's time and tasks, the host's network, and what derives the endpoints
/// of this build's transports. It offers none of them yet: a URI does, or
/// [`Context::offer`].
///
/// An attempt may take two minutes ([`ATTEMPT_TIMEOUT`]): its hops, connects and handshakes together. That is how
/// long systems try to connect, and how long SSH servers wait for a login. `with` another time, or
/// `without` any, it is yours.
///
/// Each call makes a new one, which shares nothing with any other: what listens in memory in one is
/// not there in another. Clones and overlays of one do share it.
pub fn context() -> Context {
    let ctx = Context::new().with(&STDIO, StdioEndpoint::new()).with(&ATTEMPT_TIMEOUT, ATTEMPT);
    tuyau_tokio::derivations(ctx)
}

/// Connects to `uri` in a [`context()`] of its own: to the network only, as the URI may come from a
/// stranger. For what else there is: `tuyau::uri(text)?.allow(…).connect()`.
///
/// Needs a tokio runtime with I/O and time enabled. Cancel safe.
///
/// ```no_run
/// # async fn example() -> Result<(), tuyau::Error> {
/// let mut flow = tuyau::connect("tcp://localhost:8080").await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the URI can't be used, or nothing could be connected.
pub async fn connect(uri: &str) -> Result<Flow, Error> {
    self::uri(uri)?.connect().await
}

/// Listens on `uri` in a [`context()`] of its own.
///
/// Where to listen is the program's own decision, and wants no [`allow`](Uri::allow), but for options that
/// name files, a certificate's say: `tuyau::uri(text)?.allow(Allow::FILES).listen()`. Needs a tokio runtime
/// with I/O enabled. Cancel safe.
///
/// ```no_run
/// # async fn example() -> Result<(), tuyau::Error> {
/// let mut listener = tuyau::listen("unix:/run/x.sock").await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// If the URI can't be used, or can't be listened on.
pub async fn listen(uri: &str) -> Result<Listener, Error> {
    self::uri(uri)?.listen().await
}

impl Uri {
    /// Connects in a [`context()`] of its own. Cancel safe.
    ///
    /// # Errors
    /// As [`apply`](Self::apply) and [`Context::resolve`] have them.
    pub async fn connect(&self) -> Result<Flow, Error> {
        Ok(self.connect_in(&context()).await?.into_flow())
    }

    /// Connects in `ctx`, to which it [applies](Self::apply). Cancel safe.
    ///
    /// # Errors
    /// As [`apply`](Self::apply) and [`Context::resolve`] have them, and if neither the URI nor `ctx` has
    /// a port.
    pub async fn connect_in(&self, ctx: &Context) -> Result<Resolved, Error> {
        let ctx = self.apply(ctx.clone())?;
        self.require_port(&ctx).await?;
        Ok(ctx.resolve().await?)
    }

    /// Fails if this URI needs a port, and neither it nor `ctx` has one. (What [`apply`](Self::apply)
    /// gives may still get a port from the defaults of a protocol library.) Cancel safe.
    ///
    /// # Errors
    /// That the port is missing, or why the port of `ctx` could not be had.
    pub async fn require_port(&self, ctx: &Context) -> Result<(), Error> {
        let none = matches!(self.address, Address::Host { port: None, .. }) && self.default_port().is_none();
        if none && ctx.get(&PORT).await?.is_none() {
            return Err(self.port_is_missing().into());
        }
        Ok(())
    }

    /// Listens in a [`context()`] of its own. Cancel safe.
    ///
    /// # Errors
    /// As [`listen_in`](Self::listen_in).
    pub async fn listen(&self) -> Result<Listener, Error> {
        self.listen_in(&context()).await
    }

    /// Listens on what this URI names, on the [`NET`] and the
    /// [`MEM_HUB`](tuyau_tokio::MEM_HUB) of `ctx`. Cancel safe.
    ///
    /// # Errors
    /// If the URI is only for connecting, or has a user or an option that listening does not
    /// consume; or if it can't be listened on.
    pub async fn listen_in(&self, ctx: &Context) -> Result<Listener, Error> {
        self.check_listen()?;
        let options = assign(self, Use::Listen)?;
        let base = self.stack.parts().count() - 1;
        let routed = self.route(options.bind_whole(ctx.clone())?)?;
        let ctx = &options.bind_part(routed.clone(), base)?;
        let failed = |error| Error::from(ListenError::new(self, error));
        let cx = ConnectCx::new(ctx).map_err(failed)?;
        let listener = match &self.address {
            Address::Host { host, port } => {
                let port = match port.or(self.default_port()) {
                    Some(port) => port,
                    None => ctx.get(&PORT).await?.ok_or_else(|| self.port_is_missing())?,
                };
                let target = match host {
                    Host::V4(address) => Target::Addr((*address, port).into()),
                    Host::V6(address, None) => Target::Addr((*address, port).into()),
                    host => Target::name(&host.to_plain(), port),
                };
                listen_on(&self.required(ctx, &NET).await?, &target, &cx).await
            }
            Address::Socket(path) => {
                listen_on(&self.required(ctx, &NET).await?, &Target::path(path), &cx).await
            }
            Address::Name(name) if self.base().connects => self.required(ctx, &MEM_HUB).await?.listen(name),
            Address::Nothing => Ok(listen_stdio(self.required(ctx, &STDIO).await?)),
            #[cfg(unix)]
            Address::Name(name) => systemd(name),
            #[cfg(unix)]
            Address::Path(path) => listen_fifo(FifoPair::server(to_path(path))),
            _ => Err(ConnectError::new(ConnectErrorKind::Unsupported, "nothing can be listened on there")),
        };
        let listener = listener.map_err(failed)?;
        #[cfg(feature = "proxy-protocol")]
        let listener = crate::layers::proxy_protocol::accepting(listener, ctx).map_err(failed)?;
        let mut layers = self.stack.layers.iter().enumerate().rev();
        layers.try_fold(listener, |listener, (index, layer)| {
            let Wiring::Layer(wiring) = layer.scheme.wiring else { return Ok(listener) };
            let ctx = options.bind_part(routed.clone(), index)?;
            Ok(listener.layered((wiring.layer)(&ctx).map_err(failed)?, &ctx))
        })
    }

    async fn required<T: Clone + 'static>(&self, ctx: &Context, key: &'static Key<T>) -> Result<T, Error> {
        let missing = || {
            let what = format!("the context has no `{}`", key.name());
            let error =
                ConnectError::new(ConnectErrorKind::Misuse, what).with_hint("build it over tuyau::context()");
            ListenError::new(self, error)
        };
        Ok(ctx.get(key).await?.ok_or_else(missing)?)
    }
}

/// Listens, in the time that `cx` gives: beyond a hop, that must be connected first.
async fn listen_on(net: &SharedNet, target: &Target, cx: &ConnectCx<'_>) -> Result<Listener, ConnectError> {
    cx.in_time(net.listen(target, cx)).await.unwrap_or_else(|| {
        let what = format!("{} has not begun to listen", net.describe());
        Err(ConnectError::new(ConnectErrorKind::TimedOut, what)
            .with_hint("it was waited for: is it up, and is that the right port?"))
    })
}

/// The one socket that systemd handed over, or the one of this name.
#[cfg(unix)]
fn systemd(name: &str) -> Result<Listener, ConnectError> {
    let misuse =
        |what: String, hint: String| Err(ConnectError::new(ConnectErrorKind::Misuse, what).with_hint(hint));
    let handed_over = tuyau_tokio::systemd().map_err(|error| {
        ConnectError::new(ConnectErrorKind::Environment, "sockets from systemd").with_source(error)
    })?;
    if handed_over.is_empty() {
        return misuse(
            "systemd handed no socket over".into(),
            "start it from a .socket unit, or by systemd-socket-activate".into(),
        );
    }
    let names: Vec<_> = handed_over.iter().map(|(name, _)| name.clone()).collect();
    let mut found = handed_over.into_iter().filter(|(its, _)| name.is_empty() || its == name);
    let hint =
        format!("it handed over: {}; FileDescriptorName= in the unit tells them apart", names.join(", "));
    match (found.next(), found.next()) {
        (Some((_, listener)), None) => Ok(listener),
        (None, _) => misuse(format!("systemd handed over no socket called {name}"), hint),
        (Some(_), Some(_)) if name.is_empty() => misuse("systemd handed over several sockets".into(), hint),
        (Some(_), Some(_)) => misuse(format!("systemd handed over several sockets called {name}"), hint),
    }
}
