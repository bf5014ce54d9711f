//! What the servers to embed have in common.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tuyau_core::names::{HOST, LOCAL, PEER, PORT};
use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, FlowError, SharedRuntime, Target,
    copy_bidirectional,
};

use crate::Credentials;
use crate::handshake::{Broken, Handshake};
use crate::within::within;

/// How long what a client still sends is read and thrown away after a refusal: closing with unread
/// bytes could reset the connection before the refusal is read.
const LINGER: Duration = Duration::from_secs(1);

/// What is told to a client, and why.
pub(crate) type Refused = (Vec<u8>, ConnectError);

/// The language that a server speaks.
pub(crate) trait Speaks: Sync {
    /// What the client wants to be connected to.
    fn hear(
        &self,
        serving: &Serving,
        handshake: &mut Handshake,
        who: &str,
    ) -> impl Future<Output = Result<Result<Target, Refused>, Broken>> + Send;

    /// What is told to a client that is connected, from this address.
    fn connected(&self, bound: Option<SocketAddr>) -> Vec<u8>;

    /// What is told to a client that could not be, or must not be connected.
    fn failed(&self, kind: ConnectErrorKind) -> Vec<u8>;
}

/// What all servers to embed can be told, and do; `$users` is how clients give user name and password.
macro_rules! server {
    ($server:ident, $speaker:expr, $users:literal) => {
        impl $server {
            /// Connects through `ctx`, whoever asks for whatever.
            ///
            /// # Errors
            /// If `ctx` has no [`RUNTIME`](tuyau_core::names::RUNTIME), or one that is derived: a client that
            /// says nothing could not be dropped.
            pub fn new(ctx: tuyau_core::Context) -> Result<Self, tuyau_core::ConnectError> {
                $crate::serving::Serving::new(ctx).map(Self)
            }

            #[doc = concat!("Lets this user in, and nobody without a password any more (", $users, ").")]
            pub fn with_user(mut self, credentials: $crate::Credentials) -> Self {
                self.0.users.push(credentials);
                self
            }

            /// Connects only to what `allow` says yes to; it sees what was asked for, a name or an address. (What
            /// a name may turn out to be is the business of the context's policy.)
            pub fn allow(
                mut self,
                allow: impl Fn(&tuyau_core::Target) -> bool + Send + Sync + 'static,
            ) -> Self {
                self.0.allow = std::sync::Arc::new(allow);
                self
            }

            /// How long a client may take to say what it wants. 10 s if not set.
            pub fn handshake_timeout(mut self, timeout: std::time::Duration) -> Self {
                self.0.timeout = timeout;
                self
            }

            /// Serves one client until both sides have ended: the bytes that went from the client, and to it.
            ///
            /// Dropping the future closes both sides.
            ///
            /// # Errors
            /// If the client could not be understood, was refused, or what it asked for could not be connected
            /// (it was told so then); or if relaying failed.
            pub async fn serve(
                &self,
                client: tuyau_core::Flow,
            ) -> Result<(u64, u64), tuyau_core::ConnectError> {
                self.0.serve(&$speaker, client).await
            }
        }

        impl std::fmt::Debug for $server {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($server))
                    .field("users", &self.0.users.len())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use server;

/// A server's settings.
#[derive(Clone)]
pub(crate) struct Serving {
    ctx: Context,
    runtime: SharedRuntime,
    pub(crate) users: Vec<Credentials>,
    pub(crate) allow: Arc<dyn Fn(&Target) -> bool + Send + Sync>,
    pub(crate) timeout: Duration,
}

impl Serving {
    pub(crate) fn new(ctx: Context) -> Result<Self, ConnectError> {
        let runtime = ConnectCx::new(&ctx)?.runtime().cloned().ok_or_else(|| {
            ConnectError::new(ConnectErrorKind::Misuse, "a proxy server needs a runtime in its context")
                .with_hint("bind RUNTIME: silent clients could not be dropped in time without")
        })?;
        let allow = Arc::new(|_: &Target| true);
        Ok(Self { ctx, runtime, users: Vec::new(), allow, timeout: Duration::from_secs(10) })
    }

    /// Whether these are the user name and password of one who is let in.
    pub(crate) fn knows(&self, user: &[u8], password: &[u8]) -> bool {
        // All are compared, so that the time does not tell who exists.
        self.users.iter().fold(false, |known, one| known | one.are(user, password))
    }

    pub(crate) async fn serve(&self, speaks: &impl Speaks, client: Flow) -> Result<(u64, u64), ConnectError> {
        let who = client.fact(&PEER).map_or_else(|| "a client".into(), |peer| format!("client {peer}"));
        let mut handshake = Handshake::new(client);
        let asked = within(&self.runtime, self.timeout, speaks.hear(self, &mut handshake, &who)).await;
        let refused = match asked {
            Some(Ok(Ok(target))) if !(self.allow)(&target) => {
                let error = ConnectErrorKind::Policy;
                (speaks.failed(error), ConnectError::new(error, format!("{who} may not connect to {target}")))
            }
            Some(Ok(Ok(target))) => match self.connect(&target).await {
                Ok(far) => return self.relay(speaks, handshake, &who, far, &target).await,
                Err(error) => (speaks.failed(error.kind()), error),
            },
            Some(Ok(Err(refused))) => refused,
            Some(Err(broken)) => {
                let error = broken.explain(&who, "during the handshake", &handshake, "nothing to do here");
                (Vec::new(), error)
            }
            None => {
                let what = format!("{who} did not say in {:?} what it wants", self.timeout);
                (Vec::new(), ConnectError::new(ConnectErrorKind::TimedOut, what))
            }
        };
        self.refuse(handshake, refused).await
    }

    async fn relay(
        &self,
        speaks: &impl Speaks,
        mut handshake: Handshake,
        who: &str,
        mut far: Flow,
        target: &Target,
    ) -> Result<(u64, u64), ConnectError> {
        let bound = match far.fact(&LOCAL) {
            Some(Target::Addr(bound)) => Some(bound),
            _ => None,
        };
        let sent = handshake.send(&speaks.connected(bound)).await;
        sent.map_err(|broken| broken.explain(who, "before it was answered", &handshake, "nothing to do"))?;
        let mut near = handshake.into_flow();
        copy_bidirectional(&mut near, &mut far).await.map_err(|error| {
            let kind = ConnectError::from(FlowError::new(error.kind())).kind();
            ConnectError::new(kind, format!("the relay between {who} and {target} broke")).with_source(error)
        })
    }

    /// Ends the connection so that what is said last is read. Whether it is changes nothing.
    async fn refuse<T>(&self, mut handshake: Handshake, (answer, error): Refused) -> Result<T, ConnectError> {
        if !answer.is_empty() {
            let _ = within(&self.runtime, self.timeout, handshake.send(&answer)).await;
        }
        let mut flow = handshake.into_flow();
        let linger = async {
            flow.shutdown().await?;
            let mut rest = [0; 1024];
            while flow.read(&mut rest).await? > 0 {}
            Ok::<_, FlowError>(())
        };
        let _ = within(&self.runtime, LINGER, linger).await;
        Err(error)
    }

    async fn connect(&self, target: &Target) -> Result<Flow, ConnectError> {
        let (host, port) = match target {
            Target::Name { host, port } => (host.clone(), *port),
            Target::Addr(address) => (address.ip().to_string().into(), address.port()),
            other => return Err(crate::beyond::cant("a proxy", other)),
        };
        let ctx = self.ctx.clone().with(&HOST, host).with(&PORT, port);
        match ctx.resolve().await {
            Ok(resolved) => Ok(resolved.into_flow()),
            Err(error) => {
                let what = format!("{target} could not be connected for a client");
                Err(ConnectError::new(error.kind(), what).with_source(error))
            }
        }
    }
}
