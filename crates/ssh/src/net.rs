//! An SSH server as a net.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Listener, Many, Net, Policy, Target,
};

use crate::config::SshHop;
use crate::session::{self, Open, Session, server_name};

/// An SSH server as a [`Net`]: what it connects to and listens on is on its side. Clones are the same.
///
/// * `connect` opens a channel to a name, which the server looks up, to an address (`direct-tcpip`,
///   RFC 4254 section 7.2), or to a Unix socket of the server's (`direct-streamlocal@openssh.com`).
/// * `listen` asks the server to listen (`tcpip-forward`, RFC 4254 section 7.1, and
///   `streamlocal-forward@openssh.com`). Port 0 is for the server to choose. A dropped listener is cancelled there;
///   OpenSSH leaves the file of a Unix socket behind all the same, and listens there again only if that is removed,
///   or its configuration says `StreamLocalBindUnlink yes`.
/// * `lookup` is unsupported: the server looks names up when it connects.
///
/// All flows go over one connection. It is made when it is first needed, whoever else needs it meanwhile
/// waits for it; made anew when it has died, or when it is clogged by a flow that nobody reads; and closed
/// when the last flow over it and the last clone of this are gone. Contexts with different policies
/// share none.
///
/// 8 MiB of a flow that nobody reads wait here; then all flows of that connection wait for its reader, since
/// the library below can't tell the server to stop sending on one channel. New flows don't. If the reader takes
/// nothing for 10 seconds while others wait behind it, its flow is given up ([`Unread`](crate::Unread)); a flow
/// behind which nobody waits is left alone.
///
/// What is behind the server is reached in clear: a flow is protected as far as the server only.
#[derive(Clone)]
pub struct Ssh(Arc<Inner>);

struct Inner {
    hop: SshHop,
    outer: Context,
    /// What is connected; whoever holds the lock may be connecting.
    sessions: Mutex<Sessions>,
    /// How many attempts to connect have failed.
    failures: AtomicU64,
}

#[derive(Default)]
struct Sessions {
    made: Vec<(Policy, Arc<Session>)>,
    /// How the last attempt failed that did, for those who waited for it.
    failed: Option<(Policy, ConnectError)>,
}

impl Ssh {
    /// The server that `outer` reaches.
    pub fn new(hop: SshHop, outer: Context) -> Self {
        let (sessions, failures) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Inner { hop, outer, sessions, failures }))
    }

    /// The connection: the one there is, or a new one. Whoever waits makes it, if whoever was making it
    /// gave up.
    pub(crate) async fn session(&self, cx: &ConnectCx<'_>) -> Result<Arc<Session>, ConnectError> {
        let Inner { hop, outer, sessions, failures } = &*self.0;
        let before = failures.load(Ordering::SeqCst);
        let mut sessions = sessions.lock().await;
        sessions.made.retain(|(_, session)| session.is_well());
        if let Some((_, session)) = sessions.made.iter().find(|(policy, _)| policy == cx.policy()) {
            let session = session.clone();
            let address = format!("{}, connected before", session.server());
            return cx.hop("ssh", address, async { Ok(session) }).await;
        }
        if failures.load(Ordering::SeqCst) > before
            && let Some((policy, error)) = &sessions.failed
            && policy == cx.policy()
        {
            return Err(error.clone());
        }
        match session::connect(hop, outer, cx).await {
            Ok(session) => {
                sessions.failed = None;
                sessions.made.push((cx.policy().clone(), session.clone()));
                Ok(session)
            }
            Err(error) => {
                let clock = cx.runtime().zip(cx.deadline());
                // Who had no more time says nothing of the server to whoever has.
                if clock.is_none_or(|(runtime, deadline)| runtime.now() < deadline) {
                    sessions.failed = Some((cx.policy().clone(), error.clone()));
                    failures.fetch_add(1, Ordering::SeqCst);
                }
                Err(error)
            }
        }
    }

    async fn open(&self, target: &Target, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let open = match target {
            Target::Name { host, port } => Open::Tcp { host: host.to_string(), port: *port },
            Target::Addr(address) => Open::Tcp { host: address.ip().to_string(), port: address.port() },
            Target::Path(path) => Open::Socket(socket(path, target)?),
            _ => return Err(unsupported(target)),
        };
        cx.policy().check_target(target, &self.describe())?;
        let session = self.session(cx).await?;
        let channel = cx.hop("ssh channel", target, session.open(open)).await?;
        Ok(channel.into_flow(target.clone()))
    }

    async fn listener(&self, target: &Target, cx: &ConnectCx<'_>) -> Result<Listener, ConnectError> {
        let at = match target {
            Target::Name { .. } => target.clone(),
            Target::Addr(address) => Target::name(&address.ip().to_string(), address.port()),
            Target::Path(path) => Target::path(socket(path, target)?),
            _ => return Err(unsupported(target)),
        };
        let session = self.session(cx).await?;
        session.listen(at, target).await.map(Listener::new)
    }
}

fn unsupported(target: &Target) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unsupported, format!("{target} through an SSH server"))
        .with_hint("SSH carries names, IP addresses and paths of Unix sockets")
}

fn socket(path: &[u8], target: &Target) -> Result<String, ConnectError> {
    match std::str::from_utf8(path) {
        Ok(text) if !path.contains(&0) => Ok(text.to_owned()),
        _ => Err(ConnectError::new(
            ConnectErrorKind::Unsupported,
            format!("the socket {target} through an SSH server"),
        )
        .with_hint("SSH carries paths that are text, and no abstract names")),
    }
}

impl Net for Ssh {
    fn describe(&self) -> String {
        let server = server_name(&self.0.hop.user, &self.0.outer);
        format!("ssh://{}", server.map_or("?".into(), |(_, _, server)| server))
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(self.open(target, cx))
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        Box::pin(self.listener(target, cx))
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        _policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(async move {
            Err(ConnectError::new(
                ConnectErrorKind::Unsupported,
                format!("look `{name}` up through an SSH server"),
            )
            .with_hint("the server looks names up when it connects"))
        })
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl fmt::Debug for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ssh({self})")
    }
}
