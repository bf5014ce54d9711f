//! The server side of HTTP CONNECT, to embed.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tuyau_core::{ConnectError, ConnectErrorKind, Target};

use super::answer::{MAX_FIELDS, is_worth_parsing};
use crate::error::{line, said};
use crate::handshake::{Broken, Handshake};
use crate::serving::{Refused, Serving, Speaks, server};

/// How many bytes of header a request may have.
const MAX_HEAD: usize = 16 * 1024;

/// The server side of HTTP CONNECT (RFC 9110 section 9.3.6): a handler of accepted flows that connects them
/// to what they ask for, through any context.
///
/// The context is resolved with [`HOST`](tuyau_core::names::HOST) and [`PORT`](tuyau_core::names::PORT) of the
/// request over it, so it decides how, and how far, clients get: by which net, under which policy and
/// deadline. It needs a [`RUNTIME`](tuyau_core::names::RUNTIME).
///
/// Only `CONNECT` is done, and one request per connection: it forwards no requests of other methods. Without
/// [`with_user`](Self::with_user), clients need no password.
#[derive(Clone)]
pub struct HttpConnectServer(Serving);

server!(HttpConnectServer, Speaker, "Basic, RFC 7617");

struct Speaker;

impl Speaks for Speaker {
    async fn hear(
        &self,
        serving: &Serving,
        handshake: &mut Handshake,
        who: &str,
    ) -> Result<Result<Target, Refused>, Broken> {
        let mut looked_at = 0;
        loop {
            handshake.until(looked_at + 1).await?;
            let unread = handshake.unread();
            if is_worth_parsing(unread, looked_at) {
                match parse(unread, serving, who) {
                    Ok(None) => {}
                    Ok(Some((target, length))) => {
                        handshake.skip(length);
                        return Ok(Ok(target));
                    }
                    Err(refused) => return Ok(Err(refused)),
                }
            }
            looked_at = handshake.unread().len();
            if looked_at > MAX_HEAD {
                let what = format!("{who} sent a request's header of more than {MAX_HEAD} bytes");
                return Ok(Err(refuse(
                    "431 Request Header Fields Too Large",
                    ConnectErrorKind::Protocol,
                    what,
                )));
            }
        }
    }

    fn connected(&self, _: Option<SocketAddr>) -> Vec<u8> {
        b"HTTP/1.1 200 Connection established\r\n\r\n".into()
    }

    fn failed(&self, kind: ConnectErrorKind) -> Vec<u8> {
        answer(match kind {
            ConnectErrorKind::Policy => "403 Forbidden",
            ConnectErrorKind::TimedOut => "504 Gateway Timeout",
            ConnectErrorKind::Misuse => "400 Bad Request",
            _ => "502 Bad Gateway",
        })
    }
}

/// Parses the request that `bytes` begin with: what it asks for, and its length; `None` if it goes on.
fn parse(bytes: &[u8], serving: &Serving, who: &str) -> Result<Option<(Target, usize)>, Refused> {
    use ConnectErrorKind::{Authentication, Protocol, Unsupported};
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(length)) => length,
        Err(error) => {
            let what = format!("{who} does not speak HTTP: it said {} ({error})", said(bytes));
            return Err(refuse("400 Bad Request", Protocol, what));
        }
    };
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if method != "CONNECT" {
        let what = format!("{who} wants {}; only CONNECT is done", line(method.as_bytes()));
        return Err(refuse("405 Method Not Allowed\r\nAllow: CONNECT", Unsupported, what));
    }
    let mut authorizations =
        request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("proxy-authorization"));
    if !serving.users.is_empty() && !authorizations.any(|field| lets_in(field.value, serving)) {
        let what = format!("{who} has a wrong user name or password, or none");
        let status = "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"";
        return Err(refuse(status, Authentication, what));
    }
    match target(path) {
        Some(target) => Ok(Some((target, length))),
        None => {
            let what = format!("{who} asked for `{}`, which is no host and port", line(path.as_bytes()));
            Err(refuse("400 Bad Request", Protocol, what))
        }
    }
}

fn lets_in(authorization: &[u8], serving: &Serving) -> bool {
    let Some((scheme, token)) = authorization.split_at_checked(6) else { return false };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return false;
    }
    let Ok(decoded) = STANDARD.decode(token.trim_ascii()) else { return false };
    match decoded.iter().position(|byte| *byte == b':') {
        Some(colon) => serving.knows(&decoded[..colon], &decoded[colon + 1..]),
        None => false,
    }
}

/// A host and a port (RFC 9112 section 3.2.3).
fn target(authority: &str) -> Option<Target> {
    if let Ok(address) = authority.parse() {
        return Some(Target::Addr(address));
    }
    let (host, port) = authority.rsplit_once(':')?;
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(is_plain) {
        return None;
    }
    // A sign is no digit.
    let port = port.bytes().all(|c| c.is_ascii_digit()).then(|| port.parse().ok())??;
    Some(Target::name(host, port))
}

fn refuse(status: &str, kind: ConnectErrorKind, what: String) -> Refused {
    (answer(status), ConnectError::new(kind, what))
}

fn answer(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}
