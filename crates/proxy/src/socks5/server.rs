//! A SOCKS5 server, to embed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tuyau_core::{ConnectError, ConnectErrorKind, Target};

use super::wire;
use crate::error::said;
use crate::handshake::{Broken, Handshake};
use crate::serving::{Refused, Serving, Speaks, server};

/// The server side of SOCKS5 (RFC 1928): a handler of accepted flows that connects them to what they ask
/// for, through any context.
///
/// The context is resolved with [`HOST`](tuyau_core::names::HOST) and [`PORT`](tuyau_core::names::PORT) of the
/// request over it, so it decides how, and how
/// far, clients get: by which net, under which policy and deadline. It needs a
/// [`RUNTIME`](tuyau_core::names::RUNTIME).
///
/// Only `CONNECT` is done; `BIND` and `UDP ASSOCIATE` are refused as such. Without
/// [`with_user`](Self::with_user), clients need no password.
#[derive(Clone)]
pub struct Socks5Server(Serving);

server!(Socks5Server, Speaker, "RFC 1929");

struct Speaker;

impl Speaks for Speaker {
    async fn hear(
        &self,
        serving: &Serving,
        handshake: &mut Handshake,
        who: &str,
    ) -> Result<Result<Target, Refused>, Broken> {
        let refuse = |answer: Vec<u8>, kind, what: String| Ok(Err((answer, ConnectError::new(kind, what))));
        let reply = |code| wire::encode_reply(code, UNKNOWN);
        handshake.until(1).await?;
        if handshake.unread()[0] != wire::VERSION {
            let what = format!("{who} does not speak SOCKS5: it said {}", said(handshake.unread()));
            return refuse(Vec::new(), ConnectErrorKind::Protocol, what);
        }
        let [_, count] = handshake.take().await?;
        let methods = handshake.take_vec(count.into()).await?;
        let method = if serving.users.is_empty() { wire::NO_AUTHENTICATION } else { wire::PASSWORD };
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
            if version != wire::AUTH_VERSION || !serving.knows(&user, &password) {
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
        Ok(Ok(target))
    }

    fn connected(&self, bound: Option<SocketAddr>) -> Vec<u8> {
        wire::encode_reply(0, bound.unwrap_or(UNKNOWN))
    }

    /// RFC 1928 section 6.
    fn failed(&self, kind: ConnectErrorKind) -> Vec<u8> {
        let code = match kind {
            ConnectErrorKind::Policy => 2,
            ConnectErrorKind::Unreachable | ConnectErrorKind::NotFound => 4,
            ConnectErrorKind::Refused | ConnectErrorKind::Closed => 5,
            ConnectErrorKind::TimedOut => 6,
            _ => 1,
        };
        wire::encode_reply(code, UNKNOWN)
    }
}

const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
