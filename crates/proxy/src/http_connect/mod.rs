//! HTTP CONNECT (RFC 9110 section 9.3.6).

mod answer;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tuyau_core::{ConnectError, ConnectErrorKind, Context, Flow, Hop, Protection, SharedNet, Target};

use crate::Credentials;
use crate::beyond::{Asked, Beyond, Dialect, cant, without_zone};
use crate::error::{Answer, advice, line, said};
use crate::handshake::{Broken, Handshake};
use crate::within::within;
pub use server::HttpConnectServer;

use answer::{Head, MAX_HEAD, Parsed, is_worth_parsing, parse, text_of};

/// How long the explanation of a refusal is waited for.
const BODY: Duration = Duration::from_secs(1);
/// How many bytes of it are read.
const MAX_BODY: usize = 4096;

/// An HTTP proxy that one goes through by CONNECT, with no authentication or with user name and password
/// (Basic, RFC 7617). Names are looked up by the proxy.
///
/// Where the context reaches the proxy by TLS, this is an `https://` proxy: [`over_tls`](Self::over_tls)
/// insists on it. With clear text in between, the password goes over the wire as it is.
#[derive(Clone, Debug, Default)]
pub struct HttpConnect {
    tls: bool,
    credentials: Option<Credentials>,
    set_by: Option<Arc<str>>,
}

impl HttpConnect {
    /// Without a password.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends the proxy this user name and password, with the first request. The user name can't have a
    /// colon in it (RFC 7617 section 2).
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Sends nothing to a proxy that the context does not reach by something encrypted.
    pub fn over_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Shows in reports who asked for this proxy: the name of a setting.
    pub fn set_by(mut self, setting: &str) -> Self {
        self.set_by = Some(setting.into());
        self
    }
}

impl Hop for HttpConnect {
    fn over(self: Box<Self>, outer: Context) -> SharedNet {
        let set_by = self.set_by.clone();
        Beyond::over(*self, set_by, outer)
    }
}

impl Dialect for HttpConnect {
    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    fn wants(&self) -> Protection {
        if self.tls { Protection::Encrypted } else { Protection::Clear }
    }

    fn request(&self, target: &Target) -> Result<Vec<u8>, ConnectError> {
        let authority = match target {
            Target::Addr(address) => without_zone(self.scheme(), *address)?.to_string(),
            Target::Name { host, port } => {
                // The characters of a name (RFC 3986 section 3.2.2), without escapes.
                let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~".contains(&c);
                if host.is_empty() || host.len() > 255 || !host.bytes().all(is_plain) {
                    let what = format!(
                        "{} can't pass on `{}` as the name of a host",
                        self.scheme(),
                        line(host.as_bytes())
                    );
                    return Err(ConnectError::new(ConnectErrorKind::Misuse, what)
                        .with_hint("write international names in their ASCII form (xn--…)"));
                }
                format!("{host}:{port}")
            }
            other => return Err(cant(self.scheme(), other)),
        };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(credentials) = &self.credentials {
            let (user, password) = (credentials.user(), credentials.password());
            let bad = |c: char| c.is_control();
            if user.contains(':') || user.contains(bad) || password.contains(bad) {
                let what = "the user name or password can't be sent by HTTP's basic authentication";
                return Err(ConnectError::new(ConnectErrorKind::Misuse, what).with_hint(
                    "there may be no colon in the user name, and no control character (RFC 7617 section 2)",
                ));
            }
            let encoded = STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        Ok(request.into_bytes())
    }

    async fn ask(
        &self,
        flow: Flow,
        request: &[u8],
        asked: &Asked<'_>,
    ) -> Result<(Flow, Option<SocketAddr>), ConnectError> {
        let mut handshake = Handshake::new(flow);
        let head = match answered(&mut handshake, request, asked.proxy).await {
            Ok(head) => head?,
            Err(broken) => {
                let hint = advice(handshake.unread(), IS_IT_A_PROXY);
                return Err(broken.explain(asked.proxy, "before it answered", &handshake, hint));
            }
        };
        match head.status {
            // Its length and encoding mean nothing (RFC 9110 section 9.3.6): all that follows is the tunnel.
            200..=299 => Ok((handshake.into_flow(), None)),
            _ => {
                let body = body(&mut handshake, &head, asked).await;
                Err(self.refused(&head, &body, asked))
            }
        }
    }
}

const IS_IT_A_PROXY: &str =
    "is that an HTTP proxy, and the right port? Is it reached over TLS? Or does it speak SOCKS (socks5h://)?";

/// Asks, and reads the final answer's head; what is unread then comes after it.
async fn answered(
    handshake: &mut Handshake,
    request: &[u8],
    proxy: &str,
) -> Result<Result<Head, ConnectError>, Broken> {
    let wrong = |what: String, hint| {
        let what = format!("{proxy} is no HTTP proxy: {what}");
        Ok(Err(ConnectError::new(ConnectErrorKind::Protocol, what).with_hint(hint)))
    };
    handshake.send(request).await?;
    let (mut interim, mut looked_at) = (0, 0);
    loop {
        let unread = handshake.unread();
        let parsed = match is_worth_parsing(unread, looked_at) {
            true => parse(unread),
            false => Ok(Parsed::Partial),
        };
        looked_at = unread.len();
        match parsed {
            Ok(Parsed::Head { head, length }) => {
                handshake.skip(length);
                if head.status != 101 && (100..=199).contains(&head.status) {
                    (interim, looked_at) = (interim + length, 0);
                    continue;
                }
                return Ok(Ok(head));
            }
            Ok(Parsed::Partial) if looked_at + interim > MAX_HEAD => {
                return wrong(format!("its answer's header has more than {MAX_HEAD} bytes"), IS_IT_A_PROXY);
            }
            Ok(Parsed::Partial) => handshake.more().await?,
            Err(error) => {
                let (said, hint) = (said(unread), advice(unread, IS_IT_A_PROXY));
                return wrong(format!("it said {said} ({error})"), hint);
            }
        }
    }
}

/// As much of the body as says why, in one line. Never waits for long.
async fn body(handshake: &mut Handshake, head: &Head, asked: &Asked<'_>) -> String {
    let most = head.length.unwrap_or(MAX_BODY).min(MAX_BODY);
    let reading = async {
        while text_of(handshake.unread()).is_none() && handshake.unread().len() < most {
            if handshake.more().await.is_err() {
                break;
            }
        }
    };
    match asked.cx.runtime() {
        Some(runtime) => drop(within(runtime, BODY, reading).await),
        None => drop(reading),
    }
    text_of(&handshake.unread()[..handshake.unread().len().min(most)]).unwrap_or_default()
}

impl HttpConnect {
    fn refused(&self, head: &Head, body: &str, asked: &Asked<'_>) -> ConnectError {
        use ConnectErrorKind::{
            Authentication, NotFound, Other, Protocol, Refused, TimedOut, Unreachable, Unsupported,
        };
        let Asked { proxy, target, .. } = asked;
        let mut what = format!("{proxy} did not connect to {target}");
        // As most are set up, CONNECT is for TLS (RFC 9110 section 9.3.6).
        let to_other = match target {
            Target::Name { port, .. } => *port != 443,
            Target::Addr(address) => address.port() != 443,
            _ => false,
        };
        let (kind, hint) = match head.status {
            407 => {
                what = match self.credentials {
                    Some(_) => format!("{proxy} does not accept the user name or password"),
                    None => format!("{proxy} wants a user name and password"),
                };
                let offers_basic = head.challenges.iter().any(|challenge| challenge.is_basic());
                let offered: Vec<_> = head.challenges.iter().map(ToString::to_string).collect();
                if !offered.is_empty() {
                    what = format!("{what} (it offers {})", offered.join(", "));
                }
                let hint = match (offers_basic || offered.is_empty(), &self.credentials) {
                    (false, _) => "only basic authentication (RFC 7617) is spoken here",
                    (true, Some(_)) => "check user name and password of the proxy",
                    (true, None) => "give the proxy's user name and password",
                };
                (Authentication, hint)
            }
            400 => (Protocol, "the proxy could not make sense of the request: is it an HTTP proxy?"),
            // What tinyproxy says to a wrong password.
            401 if self.credentials.is_some() => {
                what = format!("{proxy} does not accept the user name or password");
                (Authentication, "check user name and password of the proxy, and that it is one")
            }
            401 => (Authentication, "that is what a web server says, not a proxy: is it the right port?"),
            403 if to_other => {
                let hint = "the proxy's rules forbid this name or port, and may allow CONNECT to port 443 only: ask who \
                    runs it, or take another";
                (Refused, hint)
            }
            403 => (Refused, "the proxy's rules forbid this name or port: ask who runs it, or take another"),
            404 => (NotFound, "the proxy does not know the name; or it's a web server, not a proxy"),
            405 if to_other => {
                (Unsupported, "the server there does not do CONNECT, or to port 443 only: is it a proxy?")
            }
            405 | 501 => (Unsupported, "the server there does not do CONNECT: is it a proxy?"),
            408 => (TimedOut, "the proxy did not get the request in time"),
            421 => (Unsupported, "the proxy does not serve this name: ask who runs it, or take another"),
            429 => (Refused, "too many requests for the proxy: try again later"),
            500 => (Unreachable, "the proxy failed, or could not reach it: its log may say why"),
            502 => (Unreachable, "the proxy could not reach it: is it up, and known there by that name?"),
            503 => (Unreachable, "the proxy is overloaded, or could not reach it: try again later"),
            504 => (TimedOut, "nothing answered the proxy: the host is down, or a firewall drops it"),
            101 => (Protocol, IS_IT_A_PROXY),
            300..=399 => {
                (Protocol, "a proxy redirects nobody: that looks like a web server, or a login page")
            }
            _ if head.status / 100 == 4 => (Refused, "the proxy refuses the request"),
            _ if head.status / 100 == 5 => (Unreachable, "the proxy could not do it: its log may say why"),
            _ => (Other, "the answer is not one of RFC 9110"),
        };
        let answer = Answer::Http(head.status);
        // Many say there what the status says.
        if !answer.to_string().ends_with(body) {
            what = format!("{what}: `{body}`");
        }
        ConnectError::new(kind, what).with_source(answer).with_hint(hint)
    }
}
