//! SOCKS5 (RFC 1928).

mod server;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use tuyau_core::{ConnectError, ConnectErrorKind, Context, Flow, Hop, SharedNet, Target};

use crate::Credentials;
use crate::beyond::{Asked, Beyond, Dialect};
use crate::error::{Answer, advice, said};
use crate::handshake::{Broken, Handshake};

pub use server::Socks5Server;

/// A SOCKS5 proxy (RFC 1928) that one goes through, with no authentication or with user name and
/// password (RFC 1929).
///
/// Names are looked up here, as in curl's `socks5://`: by the net that the proxy itself is dialled
/// through. With [`lookup_by_proxy`](Self::lookup_by_proxy) they are left to the proxy: `socks5h://`.
///
/// The net beyond connects to names and addresses. It can't listen: `BIND` is good for one connection
/// of an address known beforehand, and hardly any proxy has it.
#[derive(Clone, Debug, Default)]
pub struct Socks5 {
    by_proxy: bool,
    credentials: Option<Credentials>,
    set_by: Option<Arc<str>>,
}

impl Socks5 {
    /// Looks names up here, and has no password.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves names to the proxy (`socks5h://`).
    pub fn lookup_by_proxy(mut self) -> Self {
        self.by_proxy = true;
        self
    }

    /// Offers the proxy this user name and password; it may still ask for none. Up to 255 bytes each.
    /// They go over the wire as they are.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Shows in reports who asked for this proxy: the name of a setting.
    pub fn set_by(mut self, setting: &str) -> Self {
        self.set_by = Some(setting.into());
        self
    }
}

impl Hop for Socks5 {
    fn over(self: Box<Self>, outer: Context) -> SharedNet {
        let set_by = self.set_by.clone();
        Beyond::over(*self, set_by, outer)
    }
}

impl Dialect for Socks5 {
    fn scheme(&self) -> &'static str {
        if self.by_proxy { "socks5h" } else { "socks5" }
    }

    fn looks_up_here(&self) -> bool {
        !self.by_proxy
    }

    fn request(&self, target: &Target) -> Result<Vec<u8>, ConnectError> {
        if let Some(credentials) = &self.credentials {
            wire::encode_credentials(self.scheme(), credentials)?;
        }
        wire::encode_request(self.scheme(), target)
    }

    async fn ask(
        &self,
        flow: Flow,
        request: &[u8],
        asked: &Asked<'_>,
    ) -> Result<(Flow, Option<SocketAddr>), ConnectError> {
        let mut handshake = Handshake::new(flow);
        match self.greet(&mut handshake, asked.proxy).await {
            Ok(()) => {}
            Err(Trouble::Told(error)) => return Err(error),
            Err(Trouble::Broken(broken, when)) => {
                return Err(broken.explain(asked.proxy, when, &handshake, IS_IT_A_PROXY));
            }
        }
        match connect(&mut handshake, request, asked).await {
            Ok(bound) => Ok((handshake.into_flow(), bound)),
            Err(Trouble::Told(error)) => Err(error),
            Err(Trouble::Broken(broken, when)) => {
                let hint = "the proxy gives no reason (`ssh -D` never does): its log may tell why";
                Err(broken.explain(asked.proxy, when, &handshake, hint))
            }
        }
    }
}

const IS_IT_A_PROXY: &str =
    "is that a SOCKS5 proxy, and the right port? Is it reached over TLS? Or does it speak HTTP (http://)?";

/// Why a step did not succeed.
enum Trouble {
    Told(ConnectError),
    /// The flow broke, and when that was.
    Broken(Broken, &'static str),
}

impl From<ConnectError> for Trouble {
    fn from(error: ConnectError) -> Self {
        Self::Told(error)
    }
}

/// Says when a flow broke.
fn at(when: &'static str) -> impl Fn(Broken) -> Trouble {
    move |broken| Trouble::Broken(broken, when)
}

impl Socks5 {
    /// Agrees on a method (RFC 1928 section 3), and says who we are.
    async fn greet(&self, handshake: &mut Handshake, proxy: &str) -> Result<(), Trouble> {
        let when = at("when it was greeted");
        let hello: &[u8] = match self.credentials {
            Some(_) => &[wire::VERSION, 2, wire::NO_AUTHENTICATION, wire::PASSWORD],
            None => &[wire::VERSION, 1, wire::NO_AUTHENTICATION],
        };
        handshake.send(hello).await.map_err(&when)?;
        handshake.until(1).await.map_err(&when)?;
        if handshake.unread()[0] != wire::VERSION {
            let what = format!("{proxy} is no SOCKS5 proxy: it said {}", said(handshake.unread()));
            let hint = advice(handshake.unread(), IS_IT_A_PROXY);
            return Err(ConnectError::new(ConnectErrorKind::Protocol, what).with_hint(hint).into());
        }
        let [_, method] = handshake.take().await.map_err(&when)?;
        match (method, &self.credentials) {
            (wire::NO_AUTHENTICATION, _) => Ok(()),
            (wire::PASSWORD, Some(credentials)) => self.log_in(handshake, proxy, credentials).await,
            (wire::NO_METHOD, None) => {
                let what = format!("{proxy} wants authentication, and there is no user name and password");
                Err(ConnectError::new(ConnectErrorKind::Authentication, what)
                    .with_hint("give user name and password, if the proxy takes them")
                    .into())
            }
            (wire::NO_METHOD, Some(_)) => {
                let what = format!("{proxy} takes neither a password nor clients without one");
                Err(ConnectError::new(ConnectErrorKind::Authentication, what)
                    .with_hint(
                        "it may want GSSAPI (RFC 1961), which is not spoken here, or refuse this machine",
                    )
                    .into())
            }
            (other, _) => {
                let what = format!("{proxy} chose method {other}, which was not offered");
                Err(ConnectError::new(ConnectErrorKind::Protocol, what).with_hint(IS_IT_A_PROXY).into())
            }
        }
    }

    /// RFC 1929.
    async fn log_in(
        &self,
        handshake: &mut Handshake,
        proxy: &str,
        credentials: &Credentials,
    ) -> Result<(), Trouble> {
        let when = at("when it was told the password: it may not accept it");
        handshake.send(&wire::encode_credentials(self.scheme(), credentials)?).await.map_err(&when)?;
        // Some say version 5 here; only the status tells.
        let [_, status] = handshake.take().await.map_err(&when)?;
        match status {
            0 => Ok(()),
            _ => {
                let what = format!("{proxy} does not accept the user name or password (status {status})");
                Err(ConnectError::new(ConnectErrorKind::Authentication, what)
                    .with_hint("check user name and password of the proxy")
                    .into())
            }
        }
    }
}

/// Asks for the connection (RFC 1928 section 4): the address that the proxy connects from.
async fn connect(
    handshake: &mut Handshake,
    request: &[u8],
    asked: &Asked<'_>,
) -> Result<Option<SocketAddr>, Trouble> {
    let Asked { proxy, target, .. } = asked;
    let when = at("when it was asked to connect");
    handshake.send(request).await.map_err(&when)?;
    let head: [u8; 3] = handshake.take().await.map_err(&when)?;
    let confused = |what: String| {
        ConnectError::new(ConnectErrorKind::Protocol, format!("{proxy} does not speak SOCKS5 well: {what}"))
            .with_hint(IS_IT_A_PROXY)
    };
    let [wire::VERSION, code, _] = head else {
        return Err(confused(format!("its reply is of version {}", head[0])).into());
    };
    if code != 0 {
        // The address means nothing then, and some leave it out.
        return Err(refused(code, proxy, target).into());
    }
    handshake.until(2).await.map_err(&when)?;
    let kind = [handshake.unread()[0], handshake.unread()[1]];
    let length =
        wire::address_length(kind).ok_or_else(|| confused(format!("an address of type {}", kind[0])))?;
    let bound = handshake.take_vec(length).await.map_err(&when)?;
    Ok(match wire::decode_address(&bound) {
        Some(Target::Addr(bound)) => Some(bound),
        _ => None,
    })
}

/// What a reply code means for the caller (RFC 1928 section 6).
fn refused(code: u8, proxy: &str, target: &Target) -> ConnectError {
    use ConnectErrorKind::{Other, Protocol, Refused, TimedOut, Unreachable, Unsupported};
    let (kind, hint) = match code {
        1 => (Other, "the proxy does not say why: its log may"),
        2 => (Refused, "the proxy's rules forbid it: ask who runs it, or take another"),
        3 => (Unreachable, "the proxy has no route there: is its network up?"),
        4 => (Unreachable, "for the proxy, the host is down or its name unknown"),
        5 => (Refused, "seen from the proxy, nobody listens on that port: is the server running?"),
        6 => (TimedOut, "nothing answered the proxy: the host is down, or a firewall drops it"),
        7 => (Unsupported, "the proxy does not do CONNECT"),
        8 => (Unsupported, "the proxy does not take this type of address: try a name, or the other family"),
        _ => (Protocol, IS_IT_A_PROXY),
    };
    ConnectError::new(kind, format!("{proxy} could not connect to {target}"))
        .with_source(Answer::Socks5(code))
        .with_hint(hint)
}
