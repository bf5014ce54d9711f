//! The opening handshake (RFC 6455 section 4).

use std::fmt::Write;
use std::sync::Arc;

use tungstenite::handshake::derive_accept_key;
use tuyau_core::{ConnectError, ConnectErrorKind, Flow};

use crate::config::Settings;
use crate::http::{Headers, is_tls, read_head, shown};

/// A flow behind the handshake, with what came behind it unread, and the subprotocol that was agreed on.
type Opened = (Flow, Option<Arc<str>>);

pub(crate) async fn client(mut flow: Flow, settings: &Settings) -> Result<Opened, ConnectError> {
    settings.check()?;
    let Some(host) = &settings.host else {
        return Err(ConnectError::new(ConnectErrorKind::Misuse, "WebSocket handshake: the host has no name")
            .with_hint("bind HOST, or HOST_HEADER"));
    };
    let key = base64(&settings.random.bytes());
    let path = settings.path.as_deref().unwrap_or("/");
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    );
    let mut header = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = write!(request, "{name}: {value}\r\n");
    };
    if let Some(origin) = &settings.origin {
        header("Origin", origin);
    }
    if let Some(subprotocol) = &settings.subprotocol {
        header("Sec-WebSocket-Protocol", subprotocol);
    }
    settings.headers.iter().for_each(|(name, value)| header(name, value));
    request += "\r\n";
    flow.write_all(request.as_bytes()).await?;

    let head = read_head(&mut flow, is_response).await?;
    let (status, reason, headers) = head.response()?;
    if status != 101 {
        return Err(refused(status, &reason, &headers));
    }
    accepted(&headers, &key)?;
    let subprotocol = match (headers.one("sec-websocket-protocol"), &settings.subprotocol) {
        (None, None) => None,
        (Some(theirs), Some(ours)) if *theirs == **ours => Some(ours.clone()),
        (theirs, ours) => {
            let said =
                |what: Option<&str>| what.map_or("none".into(), |what| format!("`{}`", what.escape_debug()));
            let what = format!(
                "the server chose the subprotocol {}, we asked for {}",
                said(theirs),
                said(ours.as_deref())
            );
            return Err(wrong(what).with_hint("set SUBPROTOCOL to what the server speaks"));
        }
    };
    Ok((flow.with_unread(head.rest), subprotocol))
}

fn is_response(bytes: &[u8]) -> Result<(), ConnectError> {
    if is_tls(bytes) {
        return Err(wrong("the peer speaks TLS".into()).with_hint("dial it over TLS (`wss`)"));
    }
    let same = bytes.iter().zip(b"HTTP/1.").all(|(byte, expected)| byte == expected);
    if same {
        return Ok(());
    }
    Err(wrong(format!("the peer does not speak HTTP: it says \"{}\"", shown(bytes)))
        .with_hint("is this the port of a WebSocket server?"))
}

/// RFC 6455 section 4.1.
fn accepted(headers: &Headers, key: &str) -> Result<(), ConnectError> {
    if !headers.has("upgrade", "websocket") || !headers.has("connection", "upgrade") {
        return Err(wrong("the server switches protocols, but not to WebSocket".into())
            .with_hint("is there a WebSocket server at this path?"));
    }
    if headers.one("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(wrong("the server's Sec-WebSocket-Accept is wrong".into())
            .with_hint("it has not understood the request; a cache on the way may have answered"));
    }
    if let Some(extension) = headers.list("sec-websocket-extensions").next() {
        let what =
            format!("the server uses the extension `{}`, which was not offered", extension.escape_debug());
        return Err(wrong(what).with_hint("the server is broken"));
    }
    Ok(())
}

fn wrong(what: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Protocol, format!("WebSocket handshake: {what}"))
}

/// What a status other than 101 means.
fn refused(status: u16, reason: &str, headers: &Headers) -> ConnectError {
    use ConnectErrorKind::{Authentication, NotFound, Protocol, Refused, Unreachable};
    let told = |name| headers.one(name).map(|value| value.escape_debug().to_string());
    let (kind, hint) = match status {
        200..=299 => (
            Protocol,
            "that is a web page, not a WebSocket endpoint: is the path right? does a proxy on the way drop the upgrade?".into(),
        ),
        300..=399 => (
            Refused,
            match told("location") {
                Some(location) => format!("it redirects to {location}, which is not followed: dial that"),
                None => "it redirects, which is not followed: dial where it points".into(),
            },
        ),
        401 | 407 => (
            Authentication,
            match told("www-authenticate").or_else(|| told("proxy-authenticate")) {
                Some(how) => format!("it wants authentication ({how}): set the header `Authorization`"),
                None => "it wants authentication: set the header `Authorization` or `Cookie`".into(),
            },
        ),
        403 => (Refused, "it forbids this: set ORIGIN to what the server expects, or send credentials".into()),
        404 | 410 => (NotFound, "there is nothing at this path: set PATH".into()),
        426 => (Protocol, "it wants another version of the protocol; this is 13 (RFC 6455)".into()),
        400..=499 => (Refused, "it does not accept the request: are path, origin and subprotocol right?".into()),
        502..=504 => (Unreachable, "the proxy there does not reach the server behind it".into()),
        500..=599 => (Refused, "it failed: see its log".into()),
        _ => (Protocol, "is there a WebSocket server at this path?".into()),
    };
    let reason = reason.escape_debug();
    ConnectError::new(kind, format!("WebSocket handshake: the server answers {status} {reason}"))
        .with_hint(hint)
}

pub(crate) async fn server(mut flow: Flow, settings: &Settings) -> Result<Opened, ConnectError> {
    settings.check()?;
    let head = read_head(&mut flow, is_request).await?;
    let (method, path, headers) = head.request()?;
    match judge(&method, &path, &headers, settings) {
        Ok((key, subprotocol)) => {
            let mut response = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {}\r\n",
                derive_accept_key(key.as_bytes())
            );
            if let Some(subprotocol) = &subprotocol {
                let _ = write!(response, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
            }
            response += "\r\n";
            flow.write_all(response.as_bytes()).await?;
            Ok((flow.with_unread(head.rest), subprotocol))
        }
        Err(Refusal { status, why }) => {
            let body = format!("{why}\n");
            let response = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\
                 Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            flow.write_all(response.as_bytes()).await?;
            flow.shutdown().await?;
            Err(wrong(format!("the client was refused ({status}): {why}")).with_hint("it must ask otherwise"))
        }
    }
}

fn is_request(bytes: &[u8]) -> Result<(), ConnectError> {
    if is_tls(bytes) {
        return Err(
            wrong("the client speaks TLS".into()).with_hint("serve this over TLS, or dial it without (`ws`)")
        );
    }
    let same = bytes.iter().zip(b"GET ").all(|(byte, expected)| byte == expected);
    // Another method is answered; what is no method is not.
    if same || bytes.iter().take(8).take_while(|byte| **byte != b' ').all(u8::is_ascii_uppercase) {
        return Ok(());
    }
    Err(wrong(format!("the client does not speak HTTP: it says \"{}\"", shown(bytes)))
        .with_hint("it must dial a WebSocket"))
}

struct Refusal {
    status: &'static str,
    why: &'static str,
}

/// The client's key and the subprotocol, if the request is one that we take (RFC 6455 section 4.2.1).
fn judge(
    method: &str,
    path: &str,
    headers: &Headers,
    settings: &Settings,
) -> Result<(String, Option<Arc<str>>), Refusal> {
    let refuse = |status, why| Err(Refusal { status, why });
    if method != "GET" {
        return refuse("405 Method Not Allowed", "a WebSocket is asked for by GET");
    }
    if settings.path.as_ref().is_some_and(|ours| **ours != *path) {
        return refuse("404 Not Found", "there is no WebSocket at this path");
    }
    if !headers.has("upgrade", "websocket") || !headers.has("connection", "upgrade") {
        return refuse("426 Upgrade Required", "here is a WebSocket, and nothing else");
    }
    if headers.one("sec-websocket-version") != Some("13") {
        return refuse("426 Upgrade Required", "the version of WebSocket is 13");
    }
    let Some(key) = headers.one("sec-websocket-key").filter(|key| key.len() == 24) else {
        return refuse("400 Bad Request", "there is no Sec-WebSocket-Key of 16 bytes");
    };
    if let (Some(ours), Some(theirs)) = (&settings.origin, headers.one("origin"))
        && **ours != *theirs
    {
        return refuse("403 Forbidden", "not from this origin");
    }
    let mut offered = headers.list("sec-websocket-protocol").peekable();
    let subprotocol = match &settings.subprotocol {
        Some(ours) if offered.peek().is_some() => {
            if !offered.any(|theirs| theirs == &**ours) {
                return refuse("400 Bad Request", "none of these subprotocols is spoken here");
            }
            Some(ours.clone())
        }
        _ => None,
    };
    Ok((key.to_owned(), subprotocol))
}

/// RFC 4648 section 4, of the 16 bytes of a key.
fn base64(bytes: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |group: u32, place: u32| char::from(DIGITS[(group >> (18 - 6 * place)) as usize & 63]);
    let mut text = String::with_capacity(24);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.extend((0..=three.len() as u32).map(|place| digit(group, place)));
    }
    text + "=="
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc() {
        // RFC 6455 section 4.1 and 1.3.
        let bytes: [u8; 16] = std::array::from_fn(|n| n as u8 + 1);
        assert_eq!(base64(&bytes), "AQIDBAUGBwgJCgsMDQ4PEA==");
        assert_eq!(derive_accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
