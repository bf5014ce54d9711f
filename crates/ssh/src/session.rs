//! One connection to a server, which carries many flows.

use std::borrow::Cow;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::client::{Config, Handle, Msg, connect_stream};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{ChannelWriteHalf, Preferred, cipher};
use tokio::sync::{mpsc, oneshot};
use tuyau_core::names::{HOST, PORT};
use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Protection, SharedRuntime, Target,
};

use crate::auth::Authentication;
use crate::carrier::{Carrier, FirstWords};
use crate::channel::Channel;
use crate::config::SshHop;
use crate::error;
use crate::handler::{Client, Fault, Shared};
use crate::inbox::Inboxes;
use crate::keys::{LoadedKey, load_all};
use crate::known_hosts::KnownHost;
use crate::listen::{Forwards, SshListener};

/// As OpenSSH has it: what one channel may send us before we look at it.
const WINDOW: u32 = 2 * 1024 * 1024;
/// The largest packet that every implementation takes (RFC 4253 section 6.1).
const PACKET: u32 = 32 * 1024;
/// How long the server may take to pass on what was written last, once nobody needs the connection.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long it has for channels that were closed before their end.
const LINGER: Duration = Duration::from_millis(500);
/// After so many channels that were closed before the server did, new ones go over a new connection:
/// russh keeps a little of each.
const WORN: usize = 4096;

const HOST_KEYS: [Algorithm; 6] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// AES first: where processors have it, as nearly all do, it is several times as fast.
const CIPHERS: [cipher::Name; 6] = [
    cipher::AES_256_GCM,
    cipher::AES_128_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// What is opened on a connection.
pub(crate) enum Open {
    Tcp { host: String, port: u16 },
    Socket(String),
    Command,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "connect to [{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "connect to {host}:{port}"),
            Self::Socket(path) => write!(f, "connect to {path}"),
            Self::Command => f.write_str("run a command"),
        }
    }
}

pub(crate) struct Session {
    /// There until it is dropped.
    handle: Option<Handle<Client>>,
    shared: Arc<Shared>,
    /// `user@host:port`.
    server: Arc<str>,
    protection: Protection,
    runtime: SharedRuntime,
    /// To the task that does what is to be done after a drop.
    errands: mpsc::UnboundedSender<Errand>,
    /// Dropped, it ends the connection whatever it is doing.
    guard: Option<oneshot::Sender<()>>,
    /// How many channels we closed before the server did.
    cut_short: AtomicUsize,
}

/// Who is connected to, in words.
pub(crate) fn server_name(user: &str, outer: &Context) -> Result<(Arc<str>, u16, Arc<str>), ConnectError> {
    let cx = ConnectCx::new(outer)?;
    let Some(host) = cx.get(&HOST)? else {
        return Err(ConnectError::new(
            ConnectErrorKind::Misuse,
            "the context of an SSH server has no `host`",
        )
        .with_hint("say which server: its host keys are known by that name"));
    };
    let port = cx.get(&PORT)?.unwrap_or(22);
    let server = match host.contains(':') {
        true => format!("{user}@[{host}]:{port}"),
        false => format!("{user}@{host}:{port}"),
    };
    Ok((host, port, server.into()))
}

/// Connects to the server that `outer` reaches. Dropping the future leaves nothing behind.
pub(crate) async fn connect(
    hop: &SshHop,
    outer: &Context,
    cx: &ConnectCx<'_>,
) -> Result<Arc<Session>, ConnectError> {
    let Some(runtime) = cx.runtime().cloned() else {
        return Err(ConnectError::new(ConnectErrorKind::Misuse, "the context has no `runtime`")
            .with_hint("an SSH connection needs one to live in"));
    };
    let (host, port, server) = server_name(&hop.user, outer)?;
    let (known, keys) = read_files(hop, &host, port).await?;
    let connecting = async {
        let unreachable = |error: ConnectError| error.with_what(format!("ssh://{server} can't be reached"));
        let flow = cx.resolve_protected(outer, hop.protection()).await.map_err(unreachable)?.into_flow();
        cx.hop("ssh", &server, handshake(flow, known, hop, &server, &runtime)).await
    };
    let (handle, shared, guard) = match hop.connect_timeout {
        None => connecting.await?,
        Some(timeout) => {
            let mut late = runtime.sleep_until(runtime.now() + timeout);
            let mut connecting = pin!(connecting);
            tokio::select! {
                connected = &mut connecting => connected?,
                () = &mut late => return Err(ConnectError::new(
                    ConnectErrorKind::TimedOut,
                    format!("connect to {server} within {timeout:?}, its connect timeout"),
                )),
            }
        }
    };
    let mut handle = handle;
    let authenticating = Authentication::new(hop, &keys, &mut handle, &shared, &server).run();
    cx.hop("ssh authentication", &hop.user, authenticating).await?;
    let (errands, waiting) = mpsc::unbounded_channel();
    runtime.spawn(Box::pin(run_errands(waiting, runtime.clone())));
    let session = Arc::new(Session {
        handle: Some(handle),
        shared: shared.clone(),
        server,
        protection: hop.protection(),
        runtime,
        errands,
        guard: Some(guard),
        cut_short: AtomicUsize::new(0),
    });
    let _ = shared.session.set(Arc::downgrade(&session));
    Ok(session)
}

/// What must be readable before anything is dialled.
async fn read_files(
    hop: &SshHop,
    host: &str,
    port: u16,
) -> Result<(KnownHost, Vec<LoadedKey>), ConnectError> {
    let name = hop.host_key_alias.clone();
    let (keys, identities) = (hop.host_keys.clone(), hop.identities.clone());
    let agent = hop.agent.is_some();
    let host: Arc<str> = host.into();
    // OpenSSH looks an alias up without the port.
    let reading = tokio::task::spawn_blocking(move || {
        let known = match name {
            Some(alias) => KnownHost::read(&alias, 22, &keys)?,
            None => KnownHost::read(&host, port, &keys)?,
        };
        Ok((known, load_all(&identities, agent)?))
    });
    reading.await.unwrap_or_else(|error| {
        Err(ConnectError::new(ConnectErrorKind::Environment, "read keys").with_source(error))
    })
}

type Connected = (Handle<Client>, Arc<Shared>, oneshot::Sender<()>);

async fn handshake(
    flow: Flow,
    known: KnownHost,
    hop: &SshHop,
    server: &str,
    runtime: &SharedRuntime,
) -> Result<Connected, ConnectError> {
    let shared = Arc::new(Shared::default());
    let words = FirstWords::default();
    let (carrier, guard) = Carrier::new(flow, words.clone(), shared.settled.clone());
    let host_keys = known.prefer(&HOST_KEYS);
    let certificates = if known.has_authorities() { HOST_KEYS.to_vec() } else { Vec::new() };
    let config = Config {
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        // What waits is counted in bytes, in the inboxes.
        channel_buffer_size: 1024,
        keepalive_interval: hop.keepalive.map(|keepalive| keepalive.interval),
        keepalive_max: hop.keepalive.map_or(0, |keepalive| keepalive.count.max(1)),
        preferred: Preferred {
            key: Cow::Owned(host_keys),
            host_key_certificates: Cow::Owned(certificates),
            cipher: Cow::Borrowed(&CIPHERS),
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..Config::default()
    };
    let client = Client { known, shared: shared.clone(), runtime: runtime.clone() };
    match connect_stream(Arc::new(config), carrier, client).await {
        Ok(handle) => Ok((handle, shared, guard)),
        Err(Fault::HostKey(error)) => Err(error),
        Err(Fault::Ssh(fault)) => Err(error::handshake(server, fault, &words.get())),
    }
}

/// What is to be done after a drop: that may happen anywhere, also where there is no runtime.
enum Errand {
    /// Closes a channel.
    Close(Arc<ChannelWriteHalf<Msg>>),
    /// No longer listens.
    StopListening(Arc<Session>, Target),
    /// Nobody needs the connection any more. Always the last.
    Farewell(Farewell),
}

struct Farewell {
    handle: Option<Handle<Client>>,
    guard: Option<oneshot::Sender<()>>,
    shared: Arc<Shared>,
    cut_short: bool,
}

async fn run_errands(mut waiting: mpsc::UnboundedReceiver<Errand>, runtime: SharedRuntime) {
    while let Some(errand) = waiting.recv().await {
        match errand {
            Errand::Close(half) => {
                // If the connection has ended, so has the channel.
                let _ = half.close().await;
            }
            // The server may take its time.
            Errand::StopListening(session, at) => {
                runtime.spawn(Box::pin(async move { session.stop_listening_now(&at).await }));
            }
            Errand::Farewell(farewell) => return farewell.run(&runtime).await,
        }
    }
}

impl Farewell {
    /// What was written last is still on its way, here and in the server, which forgets it when the
    /// connection ends.
    async fn run(self, runtime: &SharedRuntime) {
        let Self { handle, guard, shared, cut_short } = self;
        let mut over = shared.over.subscribe();
        let farewell = async {
            shared.inboxes.all_closed().await;
            // Of those that we closed the server does not tell when it is done.
            if cut_short {
                runtime.sleep_until(runtime.now() + LINGER).await;
            }
            drop(handle);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = over.wait_for(|over| *over) => {}
            () = farewell => {}
            () = runtime.sleep_until(runtime.now() + FAREWELL) => {}
        }
        drop(guard);
    }
}

impl Session {
    pub(crate) fn inboxes(&self) -> &Inboxes {
        &self.shared.inboxes
    }

    pub(crate) fn forwards(&self) -> &Forwards {
        &self.shared.forwards
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn runtime(&self) -> &SharedRuntime {
        &self.runtime
    }

    pub(crate) fn protection(&self) -> Protection {
        self.protection
    }

    pub(crate) fn host_key(&self) -> Arc<str> {
        self.shared.host_key.get().cloned().unwrap_or_else(|| "unknown".into())
    }

    /// Whether more flows may go over it.
    pub(crate) fn is_well(&self) -> bool {
        !self.handle().is_closed()
            && self.inboxes().died().is_none()
            && !self.shared.stalled.load(Ordering::SeqCst)
            && self.cut_short.load(Ordering::Relaxed) < WORN
    }

    fn handle(&self) -> &Handle<Client> {
        match &self.handle {
            Some(handle) => handle,
            None => unreachable!("it is taken on drop"),
        }
    }

    pub(crate) fn close(&self, half: Arc<ChannelWriteHalf<Msg>>) {
        self.inboxes().close(half.id());
        self.cut_short.fetch_add(1, Ordering::Relaxed);
        // Without the task there is no runtime, and no connection.
        let _ = self.errands.send(Errand::Close(half));
    }

    /// Opens a channel. Dropping the future closes it, also if it is opened later.
    pub(crate) async fn open(self: &Arc<Self>, what: Open) -> Result<Channel, ConnectError> {
        let (answer, answered) = oneshot::channel();
        let session = self.clone();
        self.runtime.spawn(Box::pin(async move {
            // If nobody waits any more the channel is dropped, and so closed.
            let _ = answer.send(session.open_now(what).await);
        }));
        answered.await.unwrap_or_else(|_| Err(self.ended("the runtime dropped the task")))
    }

    async fn open_now(self: &Arc<Self>, what: Open) -> Result<Channel, ConnectError> {
        let opening = self.shared.refusals.opening();
        let opened = match &what {
            Open::Tcp { host, port } => {
                // Who asks is nobody's business but ours (RFC 4254 section 7.2 wants something there).
                self.handle().channel_open_direct_tcpip(host.as_str(), u32::from(*port), "127.0.0.1", 0).await
            }
            Open::Socket(path) => self.handle().channel_open_direct_streamlocal(path.as_str()).await,
            Open::Command => self.handle().channel_open_session().await,
        };
        match opened {
            Ok(channel) => Ok(Channel::new(channel.split().1, self.clone())),
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                Err(error::channel(self.server(), &what, &reason, opening.words().await))
            }
            Err(_) => Err(self.ended("it was closed")),
        }
    }

    /// Asks the server to listen on `at`, a name or a path, which `target` is in words. Dropping the
    /// future stops that again.
    pub(crate) async fn listen(
        self: &Arc<Self>,
        at: Target,
        target: &Target,
    ) -> Result<SshListener, ConnectError> {
        let (answer, answered) = oneshot::channel();
        let (session, target) = (self.clone(), target.clone());
        self.runtime.spawn(Box::pin(async move {
            // If nobody waits any more the listener is dropped, and so closed.
            let _ = answer.send(session.listen_now(at, target).await);
        }));
        answered.await.unwrap_or_else(|_| Err(self.ended("the runtime dropped the task")))
    }

    async fn listen_now(self: &Arc<Self>, at: Target, target: Target) -> Result<SshListener, ConnectError> {
        let asking = self.forwards().ask();
        let result = match &at {
            Target::Name { host, port } => self.handle().tcpip_forward(&**host, u32::from(*port)).await,
            Target::Path(path) => {
                let path = String::from_utf8_lossy(path);
                self.handle().streamlocal_forward(path).await.map(|()| 0)
            }
            _ => unreachable!("the net asks for names and paths only"),
        };
        let chosen = match result {
            Ok(port) => u16::try_from(port).unwrap_or(0),
            Err(russh::Error::RequestDenied) => return Err(error::listen(self.server(), &target)),
            Err(_) => return Err(self.ended("it was closed")),
        };
        let (mut at, mut local) = (at, target);
        for target in [&mut at, &mut local] {
            match target {
                Target::Name { port, .. } if *port == 0 => *port = chosen,
                Target::Addr(address) if address.port() == 0 => address.set_port(chosen),
                _ => {}
            }
        }
        let incoming = asking.listens(at.clone());
        Ok(SshListener::new(incoming, at, local, self.clone()))
    }

    /// Asks the server to no longer listen, in the background.
    pub(crate) fn stop_listening(self: &Arc<Self>, at: Target) {
        // As above.
        let _ = self.errands.send(Errand::StopListening(self.clone(), at));
    }

    async fn stop_listening_now(&self, at: &Target) {
        // Whether it does is its business: what still comes in is refused.
        let _ = match at {
            Target::Name { host, port } => {
                self.handle().cancel_tcpip_forward(&**host, u32::from(*port)).await
            }
            Target::Path(path) => {
                self.handle().cancel_streamlocal_forward(String::from_utf8_lossy(path)).await
            }
            _ => Ok(()),
        };
    }

    fn ended(&self, why: &str) -> ConnectError {
        let died = self.inboxes().died();
        let why = died.as_deref().unwrap_or(why);
        ConnectError::new(
            ConnectErrorKind::Closed,
            format!("the SSH connection to {} ended: {why}", self.server),
        )
        .with_hint("the next attempt connects anew")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let farewell = Farewell {
            handle: self.handle.take(),
            guard: self.guard.take(),
            shared: self.shared.clone(),
            cut_short: self.cut_short.load(Ordering::Relaxed) > 0,
        };
        // As above.
        let _ = self.errands.send(Errand::Farewell(farewell));
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.server)
    }
}
