//! What proxies answer, in words.

use std::error::Error;
use std::fmt;

use http::StatusCode;

/// How many characters of what a peer said are shown.
const SHOWN: usize = 100;

/// What a proxy answered that is not yes: the source of the
/// [`ConnectError`](tuyau_core::ConnectError), for whoever wants the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// The reply code of a SOCKS5 proxy (RFC 1928 section 6).
    Socks5(u8),
    /// The status code of an HTTP proxy (RFC 9110 section 15).
    Http(u16),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Socks5(code) => {
                let meaning = match code {
                    1 => "general failure",
                    2 => "not allowed by its rules",
                    3 => "network unreachable",
                    4 => "host unreachable",
                    5 => "connection refused",
                    6 => "TTL expired",
                    7 => "command not supported",
                    8 => "address type not supported",
                    _ => "not a code of RFC 1928",
                };
                write!(f, "SOCKS5 reply {code}, {meaning}")
            }
            Self::Http(status) => {
                let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
                match reason {
                    Some(reason) => write!(f, "HTTP status {status} {reason}"),
                    None => write!(f, "HTTP status {status}"),
                }
            }
        }
    }
}

impl Error for Answer {}

/// What a peer said, in quotes, and what that looks like.
pub(crate) fn said(bytes: &[u8]) -> String {
    let looks = match bytes {
        [] => return "nothing".into(),
        [b'S', b'S', b'H', b'-', ..] => " (an SSH server)",
        [b'H', b'T', b'T', b'P', b'/', ..] => " (an HTTP server)",
        [b'2', b'2', b'0', b' ' | b'-', ..] => " (an SMTP or FTP server)",
        // Alert and handshake records of TLS (RFC 8446 section 5.1).
        [0x15 | 0x16, 3, ..] => " (TLS: reach the proxy over TLS)",
        [0, 0x5a..=0x5d, ..] => " (a SOCKS4 proxy)",
        [5, ..] => " (a SOCKS5 proxy)",
        _ => "",
    };
    format!("`{}`{looks}", line(bytes))
}

/// What to do about a proxy that said this, which is not what was asked for; if it doesn't show, `otherwise`.
pub(crate) fn advice(bytes: &[u8], otherwise: &'static str) -> &'static str {
    match bytes {
        [b'S', b'S', b'H', b'-', ..] => "that is an SSH server: go through it by ssh://",
        [b'H', b'T', b'T', b'P', b'/', ..] => "that speaks HTTP: if it is a proxy, go through it by http://",
        [5, ..] => "that is a SOCKS5 proxy: go through it by socks5h://",
        _ => otherwise,
    }
}

/// The first line that is not empty, cut, and nothing in it that a terminal would obey.
pub(crate) fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut shown = String::new();
    for c in line.chars().take(SHOWN) {
        if c.is_control() || is_invisible(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    if line.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// What changes the direction of text, or takes no place in it.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_shown_harmlessly() {
        assert_eq!(said(b"SSH-2.0-x\r\n"), "`SSH-2.0-x` (an SSH server)");
        assert_eq!(said(b"\n\x1b[2Jgone"), "`\\u{1b}[2Jgone`");
        assert_eq!(line("a\u{202e}b".as_bytes()), "a\\u{202e}b");
        assert_eq!(said(b""), "nothing");
        assert_eq!(line(&[b'x'; 1000]).chars().count(), SHOWN + 1);
        assert!(said(&[0x15, 3, 1, 0, 2, 2, 10]).contains("TLS"));
    }
}
