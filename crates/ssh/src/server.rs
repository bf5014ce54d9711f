//! An SSH server in the program.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Config, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
    run_stream,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, SharedNet, Target};

use crate::carrier::{Carrier, FirstWords};
use crate::config::{BadKey, Secret};

/// An SSH server that forwards, and does nothing else: no shell, no commands, no listening. For demonstrations
/// and tests, where there is no sshd.
///
/// Nobody is let in who was not [allowed](Self::allow_key).
#[derive(Clone)]
pub struct SshServer {
    host_key: PrivateKey,
    keys: Arc<Vec<(String, PublicKey)>>,
    passwords: Arc<Vec<(String, Secret)>>,
}

impl SshServer {
    /// With the ed25519 host key that belongs to `seed`, which must be as secret as a key, and random.
    pub fn new(seed: &[u8; 32]) -> Self {
        let host_key = PrivateKey::from(Ed25519Keypair::from_seed(seed));
        Self { host_key, keys: Arc::default(), passwords: Arc::default() }
    }

    /// Its public host key, for [`HostKeys::only`](crate::HostKeys::only) or a known_hosts file.
    pub fn host_key(&self) -> String {
        self.host_key.public_key().to_openssh().unwrap_or_default()
    }

    /// Lets `user` in by `key`, a public key in OpenSSH's format.
    ///
    /// # Errors
    /// If it is no such key.
    pub fn allow_key(mut self, user: &str, key: &str) -> Result<Self, BadKey> {
        let key = PublicKey::from_openssh(key).map_err(|_| BadKey)?;
        Arc::make_mut(&mut self.keys).push((user.into(), key));
        Ok(self)
    }

    /// Lets `user` in by `password`.
    pub fn allow_password(mut self, user: &str, password: Secret) -> Self {
        Arc::make_mut(&mut self.passwords).push((user.into(), password));
        self
    }

    /// Serves one client, who is at the other end of `flow`, until it hangs up. What it wants to connect to
    /// is connected to through `net`, with the settings and the policy of `ctx`. Dropping the future closes
    /// all its connections.
    ///
    /// # Errors
    /// If the client speaks no SSH, or the connection breaks.
    pub async fn serve(&self, flow: Flow, net: SharedNet, ctx: &Context) -> Result<(), ConnectError> {
        let cx = ConnectCx::new(ctx)?;
        let mut methods = MethodSet::empty();
        methods.push(MethodKind::PublicKey);
        if !self.passwords.is_empty() {
            methods.push(MethodKind::KeyboardInteractive);
            methods.push(MethodKind::Password);
        }
        let config = Config {
            methods,
            keys: vec![self.host_key.clone()],
            auth_rejection_time_initial: Some(Duration::ZERO),
            inactivity_timeout: None,
            ..Config::default()
        };
        let client = Client { server: self.clone(), net, cx, forwards: JoinSet::new(), open: HashMap::new() };
        let (carrier, _guard) = Carrier::new(flow, FirstWords::default(), Arc::new(true.into()));
        let failed = |error: russh::Error| {
            ConnectError::new(ConnectErrorKind::Protocol, "serve an SSH client").with_source(error)
        };
        let running = run_stream(Arc::new(config), carrier, client).await.map_err(failed)?;
        match running.await {
            Ok(()) | Err(russh::Error::Disconnect | russh::Error::HUP) => Ok(()),
            Err(russh::Error::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn knows_password(&self, user: &str, password: &str) -> bool {
        let right = |given: &Secret| {
            aws_lc_rs::constant_time::verify_slices_are_equal(given.0.as_bytes(), password.as_bytes()).is_ok()
        };
        self.passwords.iter().any(|(name, secret)| name == user && right(secret))
    }

    fn knows_key(&self, user: &str, key: &PublicKey) -> bool {
        self.keys.iter().any(|(name, known)| name == user && known.key_data() == key.key_data())
    }
}

impl std::fmt::Debug for SshServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshServer").field("host_key", &self.host_key()).finish_non_exhaustive()
    }
}

struct Client {
    server: SshServer,
    net: SharedNet,
    cx: ConnectCx<'static>,
    /// They end with the client.
    forwards: JoinSet<()>,
    /// Channels that the client has not closed; who forwards is told when it does.
    open: HashMap<ChannelId, oneshot::Sender<()>>,
}

fn judge(right: bool) -> Auth {
    if right { Auth::Accept } else { Auth::reject() }
}

impl Client {
    fn forward(&mut self, channel: Channel<Msg>, target: Target, reply: ChannelOpenHandle) {
        // Those that have ended are forgotten.
        while self.forwards.try_join_next().is_some() {}
        self.open.retain(|_, close| !close.is_closed());
        let (close, closed) = oneshot::channel();
        self.open.insert(channel.id(), close);
        let (net, cx) = (self.net.clone(), self.cx.clone());
        self.forwards.spawn(async move {
            let far = match net.connect(&target, &cx).await {
                Ok(flow) => flow,
                Err(error) => return reply.reject(refusal(&error)).await,
            };
            reply.accept().await;
            relay(channel, far, closed).await;
        });
    }
}

/// Until both sides have ended. A client that has closed the channel reads no more: then only what it has sent is passed
/// on, and a far side that goes on writing finds nobody.
async fn relay(channel: Channel<Msg>, far: Flow, closed: oneshot::Receiver<()>) {
    let (mut from_near, mut to_near) = split(channel.into_stream());
    let (mut from_far, mut to_far) = split(far);
    let there = async {
        copy(&mut from_near, &mut to_far).await?;
        to_far.shutdown().await
    };
    let back = async {
        let back = async {
            copy(&mut from_far, &mut to_near).await?;
            to_near.shutdown().await
        };
        tokio::select! {
            ended = back => ended,
            _ = closed => Ok(()),
        }
    };
    // Each side has seen how the other ended.
    let _ = tokio::try_join!(there, back);
}

fn refusal(error: &ConnectError) -> ChannelOpenFailure {
    match error.kind() {
        ConnectErrorKind::Policy => ChannelOpenFailure::AdministrativelyProhibited,
        ConnectErrorKind::Unsupported => ChannelOpenFailure::UnknownChannelType,
        ConnectErrorKind::Environment => ChannelOpenFailure::ResourceShortage,
        _ => ChannelOpenFailure::ConnectFailed,
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(judge(self.server.knows_password(user, password)))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Borrowed(""),
                prompts: Cow::Borrowed(&[(Cow::Borrowed("Password: "), false)]),
            });
        };
        let answer = response.next().map(|answer| String::from_utf8_lossy(&answer).into_owned());
        Ok(judge(answer.is_some_and(|answer| self.server.knows_password(user, &answer))))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(judge(self.server.knows_key(user, offer.public_key)))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(judge(self.server.knows_key(user, key.public_key)))
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        let Ok(port) = u16::try_from(port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        let target = match host.parse() {
            Ok(ip) => Target::Addr(std::net::SocketAddr::new(ip, port)),
            Err(_) => Target::name(host, port),
        };
        self.forward(channel, target, reply);
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.forward(channel, Target::path(path), reply);
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        // That tells who waits for it.
        self.open.remove(&channel);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}
