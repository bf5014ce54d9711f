//! What goes wrong, in words, by the stage in which it does.

use std::fmt;

use russh::{AlgorithmKind, ChannelOpenFailure};
use tuyau_core::{ConnectError, ConnectErrorKind, Target};

use crate::session::Open;

/// What the server said, as the cause.
#[derive(Debug)]
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Said {}

/// Why the handshake with `server` failed, which said `words` first.
pub(crate) fn handshake(server: &str, fault: russh::Error, words: &[u8]) -> ConnectError {
    use russh::Error::{
        Disconnect, HUP, IO, Inconsistent, Kex, KexInit, NoCommonAlgo, Version, WrongServerSig,
    };
    let new = |kind, what: String| ConnectError::new(kind, what);
    let speaks_ssh = words.starts_with(b"SSH-") || words.windows(5).any(|part| part == b"\nSSH-");
    if !speaks_ssh && !words.is_empty() && matches!(fault, Version | Disconnect | HUP | IO(_)) {
        return new(
            ConnectErrorKind::Protocol,
            format!("{server} is no SSH server: it says {}", first_line(words)),
        )
        .with_hint(match words.starts_with(b"HTTP/") {
            true => "that speaks HTTP: if it is a proxy, go through it by http://",
            false => "is the port right?",
        });
    }
    match fault {
        NoCommonAlgo { kind, ours, theirs } => {
            let kind = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "host key",
                AlgorithmKind::Cipher => "cipher",
                AlgorithmKind::Compression => "compression",
                AlgorithmKind::Mac => "MAC",
            };
            let lists = format!("ours are {}; the server's are {}", ours.join(", "), theirs.join(", "));
            new(ConnectErrorKind::Protocol, format!("key exchange with {server}: no common {kind} algorithm"))
                .with_source(Said(lists))
                .with_hint(
                    "the server is very old, or configured so: its administrator can allow one of ours",
                )
        }
        WrongServerSig => new(
            ConnectErrorKind::Verification,
            format!("key exchange with {server}: it does not have the private part of its host key"),
        )
        .with_hint("somebody else is answering in its place"),
        Disconnect | HUP => new(ConnectErrorKind::Closed, format!("{server} hung up during the handshake"))
            .with_hint("it may be overloaded, or refuse connections from this address: its log says why"),
        IO(error) => new(ConnectErrorKind::Closed, format!("handshake with {server}")).with_source(error),
        KexInit | Kex | Inconsistent => new(
            ConnectErrorKind::Protocol,
            format!("key exchange with {server}: it sent what no server sends there"),
        )
        .with_hint("is the port right? what only sends back what it is sent answers so"),
        other => new(ConnectErrorKind::Protocol, format!("key exchange with {server}")).with_source(other),
    }
}

/// The first line of what somebody said, safe to be shown.
fn first_line(words: &[u8]) -> String {
    let line = words.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = &line[..line.len().min(100)];
    format!("`{}`", line.strip_suffix(b"\r").unwrap_or(line).escape_ascii())
}

/// Why `server` did not open a channel (RFC 4254 section 5.1).
pub(crate) fn channel(
    server: &str,
    what: &Open,
    reason: &ChannelOpenFailure,
    words: Option<String>,
) -> ConnectError {
    let said = words.as_deref().unwrap_or_default().to_ascii_lowercase();
    let no_commands =
        "the server allows no commands, or no more of them: see MaxSessions in its configuration";
    let (kind, why, hint) = match reason {
        ChannelOpenFailure::AdministrativelyProhibited => (
            ConnectErrorKind::Refused,
            "it is prohibited there",
            match what {
                Open::Tcp { .. } => {
                    "see AllowTcpForwarding, PermitOpen and DisableForwarding in the server's configuration, and the options of the key in authorized_keys"
                }
                Open::Socket(_) => {
                    "see AllowStreamLocalForwarding and DisableForwarding in the server's configuration, and the options of the key in authorized_keys"
                }
                Open::Command => {
                    "the server allows no commands, or no more of them: see MaxSessions in its configuration"
                }
            },
        ),
        ChannelOpenFailure::ConnectFailed if said.contains("unknown host") || said.contains("not known") => (
            ConnectErrorKind::NotFound,
            "the server can't look the name up",
            "the name is looked up on the SSH server: is it known there?",
        ),
        ChannelOpenFailure::ConnectFailed if said.contains("timed out") => (
            ConnectErrorKind::TimedOut,
            "nothing answered the server",
            "the host is down, or a firewall drops it",
        ),
        ChannelOpenFailure::ConnectFailed if said.contains("unreachable") || said.contains("no route") => (
            ConnectErrorKind::Unreachable,
            "the server has no way there",
            "is that reachable from the SSH server?",
        ),
        ChannelOpenFailure::ConnectFailed if matches!(what, Open::Command) => {
            (ConnectErrorKind::Refused, "the server refused", no_commands)
        }
        // OpenSSH says no more than that, also where it does not forward to sockets at all.
        ChannelOpenFailure::ConnectFailed if matches!(what, Open::Socket(_)) => (
            ConnectErrorKind::Refused,
            "the server could not connect",
            "is somebody listening on that socket there, may this user connect to it, and does the server's configuration allow it (AllowStreamLocalForwarding)?",
        ),
        ChannelOpenFailure::ConnectFailed => (
            ConnectErrorKind::Refused,
            "the server could not connect",
            "seen from the SSH server: is somebody listening there, and may this user connect to it?",
        ),
        ChannelOpenFailure::UnknownChannelType => (
            ConnectErrorKind::Unsupported,
            "the server can't do that",
            "its SSH implementation has no such channels",
        ),
        ChannelOpenFailure::ResourceShortage => (
            ConnectErrorKind::Environment,
            "the server has no resources left",
            "close other flows, or try again later",
        ),
        ChannelOpenFailure::Other { .. } => {
            (ConnectErrorKind::Other, "the server refused", "the server's log says why")
        }
    };
    let error = ConnectError::new(kind, format!("{what} through {server}: {why}")).with_hint(hint);
    match words {
        Some(words) => error.with_source(Said(words)),
        None => error,
    }
}

/// Why `server` does not listen.
pub(crate) fn listen(server: &str, at: &Target) -> ConnectError {
    let hint = match at {
        Target::Path(_) => {
            "does the file exist there, and may this user make it? see also AllowStreamLocalForwarding and StreamLocalBindUnlink in the server's configuration"
        }
        _ => {
            "is the port in use there, or below 1024? see also AllowTcpForwarding, PermitListen and GatewayPorts in the server's configuration"
        }
    };
    ConnectError::new(ConnectErrorKind::Refused, format!("listen on {at} of {server}: the server refused"))
        .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_for_no_channel_is_its_own_error() {
        use ChannelOpenFailure::*;
        let tcp = Open::Tcp { host: "::1".into(), port: 80 };
        let words = |words: &str| Some(words.to_owned());
        for (reason, words, kind, text) in [
            (AdministrativelyProhibited, None, ConnectErrorKind::Refused, "it is prohibited there"),
            (
                ConnectFailed,
                words("Connection refused"),
                ConnectErrorKind::Refused,
                "the server could not connect",
            ),
            (
                ConnectFailed,
                words("Name or service not known"),
                ConnectErrorKind::NotFound,
                "can't look the name up",
            ),
            (ConnectFailed, words("Connection timed out"), ConnectErrorKind::TimedOut, "nothing answered"),
            (ConnectFailed, words("No route to host"), ConnectErrorKind::Unreachable, "has no way there"),
            (UnknownChannelType, None, ConnectErrorKind::Unsupported, "the server can't do that"),
            (ResourceShortage, None, ConnectErrorKind::Environment, "has no resources left"),
            (Other { code: 9, reason: "?".into() }, None, ConnectErrorKind::Other, "the server refused"),
        ] {
            let error = channel("me@host:22", &tcp, &reason, words);
            assert_eq!(error.kind(), kind, "{error}");
            let start = "connect to [::1]:80 through me@host:22: ";
            assert!(error.to_string().starts_with(start) && error.to_string().contains(text), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn what_a_stranger_says_is_shown_safely() {
        assert_eq!(first_line(b"220 mail\x1b[31m\r\nmore"), r"`220 mail\x1b[31m`");
        assert_eq!(first_line(&[b'x'; 300]).len(), 102);
    }
}
