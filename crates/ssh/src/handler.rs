//! What the server sends, sorted.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel as RusshChannel, ChannelId, ChannelOpenFailure, Sig};
use tokio::sync::{Semaphore, watch};
use tuyau_core::{ConnectError, SharedRuntime, Target};

use crate::channel::Channel;
use crate::exec::Exit;
use crate::inbox::{Inbox, Inboxes};
use crate::known_hosts::{KnownHost, describe};
use crate::listen::Forwards;
use crate::session::Session;

/// How much of a banner is shown, in characters.
const BANNER: usize = 500;
/// How long a reader may take nothing, with all that may wait for it waiting, before those who wait behind it
/// have the connection for themselves.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the task of a connection and its flows share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) inboxes: Inboxes,
    /// The connection waits for somebody to read.
    pub(crate) stalled: AtomicBool,
    pub(crate) host_key: OnceLock<Arc<str>>,
    /// What the server wants to be told to whoever authenticates (RFC 4252 section 5.4), safe to be shown.
    pub(crate) banner: OnceLock<String>,
    pub(crate) session: OnceLock<Weak<Session>>,
    pub(crate) forwards: Forwards,
    pub(crate) refusals: Refusals,
    /// A channel was opened.
    pub(crate) settled: Arc<AtomicBool>,
    /// Set once the task has ended.
    pub(crate) over: watch::Sender<bool>,
}

/// What the server said about channels that it did not open. russh tells who asked for the channel only
/// the number of the reason; its words come here, right after that.
pub(crate) struct Refusals {
    opening: AtomicUsize,
    words: Mutex<VecDeque<Option<String>>>,
    said: Semaphore,
}

impl Default for Refusals {
    fn default() -> Self {
        let words = Mutex::default();
        Self { opening: AtomicUsize::new(0), words, said: Semaphore::new(0) }
    }
}

impl Refusals {
    /// A channel is being opened, until what is returned is dropped.
    pub(crate) fn opening(self: &Refusals) -> Opening<'_> {
        self.opening.fetch_add(1, Ordering::SeqCst);
        Opening(self)
    }

    fn refused(&self, words: &str) {
        // If several are being opened it can't be known whom this is about.
        let alone = self.opening.load(Ordering::SeqCst) == 1;
        let words = (alone && !words.is_empty()).then(|| words.to_owned());
        self.words.lock().unwrap_or_else(PoisonError::into_inner).push_back(words);
        self.said.add_permits(1);
    }
}

pub(crate) struct Opening<'a>(&'a Refusals);

impl Opening<'_> {
    /// What the server said, once it refused.
    pub(crate) async fn words(&self) -> Option<String> {
        self.0.said.acquire().await.ok()?.forget();
        self.0.words.lock().unwrap_or_else(PoisonError::into_inner).pop_front().flatten()
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a connection did not come about, or ended.
#[derive(Debug)]
pub(crate) enum Fault {
    Ssh(russh::Error),
    HostKey(ConnectError),
}

impl From<russh::Error> for Fault {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh(russh::Error::KeepaliveTimeout) => f.write_str("the server no longer answers"),
            Self::Ssh(russh::Error::HUP | russh::Error::Disconnect) => f.write_str("the server hung up"),
            Self::Ssh(russh::Error::IO(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                f.write_str("the server hung up")
            }
            Self::Ssh(error) => error.fmt(f),
            Self::HostKey(error) => error.fmt(f),
        }
    }
}

pub(crate) struct Client {
    pub(crate) known: KnownHost,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: SharedRuntime,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.inboxes.die("it was closed");
        self.shared.forwards.close();
        self.shared.over.send_replace(true);
    }
}

impl Client {
    fn inbox(&self, id: ChannelId, put: impl FnOnce(&Inbox)) {
        if let Some(inbox) = self.shared.inboxes.of(id) {
            put(&inbox);
        }
    }

    /// Waits for the reader of a channel. Whether it is to be waited for at all: a reader that takes nothing is,
    /// as long as nobody waits behind it.
    async fn wait_for(&self, id: ChannelId, inbox: &Inbox) -> bool {
        let Shared { inboxes, refusals, .. } = &*self.shared;
        let began = self.runtime.now();
        loop {
            let (now, taken) = (self.runtime.now(), inbox.taken());
            tokio::select! {
                () = inbox.room() => return true,
                () = self.runtime.sleep_until(now + PATIENCE) => {}
            }
            if inbox.taken() > taken {
                continue;
            }
            if inboxes.others_wait(id, began, PATIENCE) || refusals.opening.load(Ordering::SeqCst) > 0 {
                return false;
            }
        }
    }

    fn accept(&self, channel: RusshChannel<Msg>) -> Option<Channel> {
        let session = self.shared.session.get()?.upgrade()?;
        Some(Channel::new(channel.split().1, session))
    }

    async fn forwarded(
        &self,
        channel: RusshChannel<Msg>,
        at: Target,
        peer: Target,
        reply: ChannelOpenHandle,
    ) {
        let Some(place) = self.shared.forwards.place(&at) else {
            return reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        };
        let Some(channel) = self.accept(channel) else {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        reply.accept().await;
        place.put(channel, peer);
    }
}

impl Handler for Client {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        self.known.check(shown).map_err(Fault::HostKey)?;
        let _ = self.shared.host_key.set(describe(&shown.public_key()).into());
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut russh::client::Session) -> Result<(), Fault> {
        let shown: String =
            banner.trim().chars().take(BANNER).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = self.shared.banner.set(shown);
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        session: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        let Some(inbox) = self.shared.inboxes.of(id) else { return Ok(()) };
        if inbox.put(data, self.runtime.now()) {
            self.shared.stalled.store(true, Ordering::SeqCst);
            let goes_on = self.wait_for(id, &inbox).await;
            self.shared.stalled.store(false, Ordering::SeqCst);
            if !goes_on {
                self.shared.inboxes.give_up(id);
                session.close(id)?;
            }
        }
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        // SSH_EXTENDED_DATA_STDERR; there are no others.
        if let (1, Some(inbox)) = (kind, self.shared.inboxes.of(id)) {
            inbox.put_error(data);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut russh::client::Session) -> Result<(), Fault> {
        self.inbox(id, |inbox| inbox.end());
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut russh::client::Session) -> Result<(), Fault> {
        self.shared.inboxes.close(id);
        Ok(())
    }

    async fn channel_success(&mut self, id: ChannelId, _: &mut russh::client::Session) -> Result<(), Fault> {
        self.inbox(id, |inbox| inbox.reply(true));
        Ok(())
    }

    async fn channel_failure(&mut self, id: ChannelId, _: &mut russh::client::Session) -> Result<(), Fault> {
        self.inbox(id, |inbox| inbox.reply(false));
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        self.shared.inboxes.open(id);
        self.shared.settled.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_failure(
        &mut self,
        _: ChannelId,
        _: ChannelOpenFailure,
        words: &str,
        _: &str,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        self.shared.refusals.refused(words);
        Ok(())
    }

    async fn exit_status(
        &mut self,
        id: ChannelId,
        status: u32,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        self.inbox(id, |inbox| inbox.exit(Exit::Status(status)));
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        id: ChannelId,
        signal: Sig,
        _: bool,
        _: &str,
        _: &str,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        let name = match signal {
            Sig::Custom(name) => name,
            known => format!("{known:?}"),
        };
        self.inbox(id, |inbox| inbox.exit(Exit::Signal(name.into())));
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: RusshChannel<Msg>,
        address: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        let at = Target::name(address, u16::try_from(port).unwrap_or(0));
        let peer_port = u16::try_from(originator_port).unwrap_or(0);
        let peer = match originator.parse() {
            Ok(ip) => Target::Addr(std::net::SocketAddr::new(ip, peer_port)),
            Err(_) => Target::name(originator, peer_port),
        };
        self.forwarded(channel, at, peer, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: RusshChannel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        let peer = Target::Described(format!("a client of {path}").into());
        self.forwarded(channel, Target::path(path), peer, reply).await;
        Ok(())
    }

    // A client opens no channels of these kinds, so a server that asks for one is refused.

    async fn server_channel_open_agent_forward(
        &mut self,
        _: RusshChannel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: RusshChannel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: RusshChannel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: RusshChannel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: RusshChannel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut russh::client::Session,
    ) -> Result<(), Fault> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Fault>) -> Result<(), Fault> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.shared.inboxes.die(format!("the server ended it: {}", info.message));
                Ok(())
            }
            DisconnectReason::Error(fault) => {
                self.shared.inboxes.die(fault.to_string());
                Err(fault)
            }
        }
    }
}
