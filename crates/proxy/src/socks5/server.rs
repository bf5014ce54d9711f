//! A SOCKS5 server, to embed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tuyau_core::names::{HOST, LOCAL, PEER, PORT};
use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, SharedRuntime, Target, copy_bidirectional,
};

use super::wire;
use crate::Credentials;
use crate::error::said;
use crate::handshake::{Broken, Handshake};
use crate::within::within;

/// How long what a client still sends is read and thrown away after a refusal: closing with unread
/// bytes could reset the connection before the refusal is read.
const LINGER: Duration = Duration::from_secs(1);

/// The server side of SOCKS5 (RFC 1928): a handler of accepted flows that connects them to what they ask
/// for, through any context.
///
/// The context is resolved with [`HOST`] and [`PORT`] of the request over it, so it decides how, and how
/// far, clients get: by which net, under which policy and deadline. It needs a
/// [`RUNTIME`](tuyau_core::names::RUNTIME).
///
/// Only `CONNECT` is done; `BIND` and `UDP ASSOCIATE` are refused as such. Without
/// [`with_user`](Self::with_user), clients need no password.
#[derive(Clone)]
pub struct Socks5Server {
    ctx: Context,
    runtime: SharedRuntime,
    users: Vec<Credentials>,
    allow: Arc<dyn Fn(&Target) -> bool + Send + Sync>,
    timeout: Duration,
}

impl Socks5Server {
    /// Connects through `ctx`, whoever asks for whatever.
    ///
    /// # Errors
    /// If `ctx` has no [`RUNTIME`](tuyau_core::names::RUNTIME), or one that is derived: a client that
    /// says nothing could not be dropped.
    pub fn new(ctx: Context) -> Result<Self, ConnectError> {
        let runtime = ConnectCx::new(&ctx)?.runtime().cloned().ok_or_else(|| {
            ConnectError::new(ConnectErrorKind::Misuse, "a SOCKS5 server needs a runtime in its context")
                .with_hint("bind RUNTIME: silent clients could not be dropped in time without")
        })?;
        let allow = Arc::new(|_: &Target| true);
        Ok(Self { ctx, runtime, users: Vec::new(), allow, timeout: Duration::from_secs(10) })
    }

    /// Lets this user in, and nobody without a password any more (RFC 1929).
    pub fn with_user(mut self, credentials: Credentials) -> Self {
        self.users.push(credentials);
        self
    }

    /// Connects only to what `allow` says yes to; it sees what was asked for, a name or an address. (What
    /// a name may turn out to be is the business of the context's policy.)
    pub fn allow(mut self, allow: impl Fn(&Target) -> bool + Send + Sync + 'static) -> Self {
        self.allow = Arc::new(allow);
        self
    }

    /// How long a client may take to say what it wants. 10 s if not set.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Serves one client until both sides have ended: the bytes that went from the client, and to it.
    ///
    /// Dropping the future closes both sides.
    ///
    /// # Errors
    /// If the client could not be understood, was refused, or what it asked for could not be connected
    /// (it was told so then); or if relaying failed.
    pub async fn serve(&self, client: Flow) -> Result<(u64, u64), ConnectError> {
        let who = client.fact(&PEER).map_or_else(|| "a client".into(), |peer| format!("client {peer}"));
        let mut handshake = Handshake::new(client);
        let asked = within(&self.runtime, self.timeout, self.hear(&mut handshake, &who)).await;
        let asked = asked.unwrap_or_else(|| {
            let what = format!("{who} did not say in {:?} what it wants", self.timeout);
            Err(ConnectError::new(ConnectErrorKind::TimedOut, what))
        });
        let target = match asked {
            Ok(target) => target,
            Err(error) => return self.leave(handshake, error).await,
        };
        let mut far = match self.connect(&target).await {
            Ok(far) => far,
            Err((code, error)) => {
                let reply = wire::encode_reply(code, UNKNOWN);
                let _ = within(&self.runtime, self.timeout, handshake.send(&reply)).await;
                return self.leave(handshake, error).await;
            }
        };
        let bound = match far.fact(&LOCAL) {
            Some(Target::Addr(bound)) => bound,
            _ => UNKNOWN,
        };
        let sent = handshake.send(&wire::encode_reply(0, bound)).await;
        sent.map_err(|broken| broken.explain(&who, "before it was answered", &handshake, "nothing to do"))?;
        let mut near = handshake.into_flow();
        copy_bidirectional(&mut near, &mut far).await.map_err(|error| {
            let kind = ConnectError::from(tuyau_core::FlowError::new(error.kind())).kind();
            ConnectError::new(kind, format!("the relay between {who} and {target} broke")).with_source(error)
        })
    }

    /// Ends the connection so that what was said last is read.
    async fn leave<T>(&self, handshake: Handshake, error: ConnectError) -> Result<T, ConnectError> {
        let mut flow = handshake.into_flow();
        let linger = async {
            flow.shutdown().await?;
            let mut rest = [0; 1024];
            while flow.read(&mut rest).await? > 0 {}
            Ok::<_, tuyau_core::FlowError>(())
        };
        let _ = within(&self.runtime, LINGER, linger).await;
        Err(error)
    }

    /// What the client wants to be connected to. It was told if that's refused here.
    async fn hear(&self, handshake: &mut Handshake, who: &str) -> Result<Target, ConnectError> {
        match self.request(handshake, who).await {
            Ok(Ok(target)) => Ok(target),
            Ok(Err((answer, error))) => {
                // Whether the refusal arrives changes nothing.
                let _ = handshake.send(&answer).await;
                Err(error)
            }
            Err(broken) => Err(broken.explain(who, "during the handshake", handshake, "nothing to do here")),
        }
    }

    async fn request(
        &self,
        handshake: &mut Handshake,
        who: &str,
    ) -> Result<Result<Target, (Vec<u8>, ConnectError)>, Broken> {
        let refuse = |answer: Vec<u8>, kind, what: String| Ok(Err((answer, ConnectError::new(kind, what))));
        let reply = |code| wire::encode_reply(code, UNKNOWN);
        handshake.until(1).await?;
        if handshake.unread()[0] != wire::VERSION {
            let what = format!("{who} does not speak SOCKS5: it said {}", said(handshake.unread()));
            return refuse(Vec::new(), ConnectErrorKind::Protocol, what);
        }
        let [_, count] = handshake.take().await?;
        let methods = handshake.take_vec(count.into()).await?;
        let method = if self.users.is_empty() { wire::NO_AUTHENTICATION } else { wire::PASSWORD };
        if !methods.contains(&method) {
            let what = match method {
                wire::PASSWORD => format!("{who} offers no password"),
                _ => format!("{who} insists on authentication, and there is none here"),
            };
            let answer = vec![wire::VERSION, wire::NO_METHOD];
            return refuse(answer, ConnectErrorKind::Authentication, what);
        }
        handshake.send(&[wire::VERSION, method]).await?;
        if method == wire::PASSWORD {
            let [version, length] = handshake.take().await?;
            let user = handshake.take_vec(length.into()).await?;
            let [length] = handshake.take().await?;
            let password = handshake.take_vec(length.into()).await?;
            // All are compared, so that the time does not tell who exists.
            let known = self.users.iter().fold(false, |known, one| known | one.are(&user, &password));
            if version != wire::AUTH_VERSION || !known {
                let what = format!("{who} has a wrong user name or password");
                return refuse(vec![wire::AUTH_VERSION, 1], ConnectErrorKind::Authentication, what);
            }
            handshake.send(&[wire::AUTH_VERSION, 0]).await?;
        }
        let [version, command, _] = handshake.take().await?;
        if version != wire::VERSION {
            let what = format!("{who} sent a request of version {version}");
            return refuse(Vec::new(), ConnectErrorKind::Protocol, what);
        }
        handshake.until(2).await?;
        let kind = [handshake.unread()[0], handshake.unread()[1]];
        let Some(length) = wire::address_length(kind) else {
            let what = format!("{who} sent an address of type {}", kind[0]);
            return refuse(reply(8), ConnectErrorKind::Unsupported, what);
        };
        let address = handshake.take_vec(length).await?;
        if command != wire::CONNECT {
            let what = format!("{who} wants command {command}; only CONNECT is done");
            return refuse(reply(7), ConnectErrorKind::Unsupported, what);
        }
        let Some(target) = wire::decode_address(&address) else {
            return refuse(reply(1), ConnectErrorKind::Protocol, format!("{who} sent a name that is none"));
        };
        if !(self.allow)(&target) {
            let what = format!("{who} may not connect to {target}");
            return refuse(reply(2), ConnectErrorKind::Policy, what);
        }
        Ok(Ok(target))
    }

    /// Connects; else the reply code, and the error.
    async fn connect(&self, target: &Target) -> Result<Flow, (u8, ConnectError)> {
        let (host, port) = match target {
            Target::Name { host, port } => (host.clone(), *port),
            Target::Addr(address) => (address.ip().to_string().into(), address.port()),
            other => return Err((8, crate::beyond::cant("socks5", other))),
        };
        let ctx = self.ctx.clone().with(&HOST, host).with(&PORT, port);
        match ctx.resolve().await {
            Ok(resolved) => Ok(resolved.into_flow()),
            Err(error) => {
                let kind = error.kind();
                let what = format!("{target} could not be connected for a client");
                Err((code(kind), ConnectError::new(kind, what).with_source(error)))
            }
        }
    }
}

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What is told to the client (RFC 1928 section 6).
fn code(kind: ConnectErrorKind) -> u8 {
    match kind {
        ConnectErrorKind::Policy => 2,
        ConnectErrorKind::Unreachable | ConnectErrorKind::NotFound => 4,
        ConnectErrorKind::Refused | ConnectErrorKind::Closed => 5,
        ConnectErrorKind::TimedOut => 6,
        _ => 1,
    }
}

impl fmt::Debug for Socks5Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socks5Server").field("users", &self.users.len()).finish_non_exhaustive()
    }
}
