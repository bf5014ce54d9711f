//! Why TLS failed: the same words, whichever backend found out.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tuyau_core::{ConnectError, ConnectErrorKind, FlowError, FlowErrorKind, Role};

/// Why a handshake, or a flow, failed. It is the source of the [`ConnectError`] or [`FlowError`], and
/// stays downcastable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsError {
    /// A certificate of the peer's chain is no longer valid.
    Expired {
        /// Whose certificate.
        subject: String,
        /// Since when: `2020-02-01 00:00:00 UTC`.
        since: String,
    },
    /// A certificate of the peer's chain is not valid yet.
    NotYetValid {
        /// Whose certificate.
        subject: String,
        /// From when: `2120-01-01 00:00:00 UTC`.
        from: String,
    },
    /// The certificate is for others.
    WrongName {
        /// Who it should be for.
        asked: String,
        /// The names and addresses that it is for.
        names: Vec<String>,
    },
    /// Whoever vouches for the certificate is not trusted here.
    UnknownAuthority {
        /// Who vouches for it.
        issuer: String,
    },
    /// Nobody but itself vouches for the certificate, and it is not trusted here.
    SelfSigned {
        /// Whose certificate.
        subject: String,
    },
    /// The certificate can't be accepted for another reason.
    BadCertificate {
        /// Which.
        why: String,
    },
    /// The client showed no certificate, and must.
    NoClientCertificate,
    /// The server wants a certificate of ours, and there was none.
    ClientCertificateRequired,
    /// The peer does not accept our certificate.
    CertificateRefused {
        /// What it says about it.
        why: String,
    },
    /// The two sides have no version of TLS in common.
    NoCommonVersion,
    /// The two sides have no protocol in common (ALPN, RFC 7301).
    NoCommonAlpn {
        /// What we offered or accept.
        ours: Vec<String>,
    },
    /// The two sides have no cipher, group or signature in common.
    NoCommonCipher,
    /// We have no certificate for the name that the client asked for.
    NoCertificateFor {
        /// What it asked for.
        asked: String,
        /// What we have certificates for.
        names: Vec<String>,
    },
    /// The server has no certificate for the name that we asked for.
    NameUnknown {
        /// What we asked for.
        asked: String,
    },
    /// The peer does not speak TLS.
    PlainText {
        /// What it said, made harmless.
        banner: String,
    },
    /// The peer says hello as clients do.
    NotAServer,
    /// The peer ended the connection during the handshake.
    HungUp {
        /// Whether it had said anything.
        silent: bool,
    },
    /// The peer did not answer in time.
    Silent {
        /// Whether it had said nothing at all.
        silent: bool,
    },
    /// The connection ended without a `close_notify`: what was received may be cut off.
    Truncated,
    /// The peer refused, for the reason that its alert names (RFC 8446 section 6.2).
    Alert {
        /// The alert.
        name: String,
    },
    /// The peer broke the protocol, or somebody on the way changed its bytes.
    Protocol {
        /// How.
        why: String,
    },
}

impl TlsError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Expired { .. } => "it must be renewed where it comes from; or the clock here is wrong",
            Self::NotYetValid { .. } => "check the clocks, here and where it comes from",
            Self::WrongName { .. } => "connect by one of its names, or give the server name to expect",
            Self::UnknownAuthority { .. } => {
                "if that authority is to be trusted, give its certificate as root"
            }
            Self::SelfSigned { .. } => "if it is the right one, give that very certificate as root",
            Self::BadCertificate { .. } => "it must be made anew where it comes from",
            Self::NoClientCertificate => "the client must be given a certificate and its key",
            Self::ClientCertificateRequired => "give a certificate and its key",
            Self::CertificateRefused { .. } => "ask whoever runs the peer which authorities it trusts",
            Self::NoCommonVersion => "have the peer brought up to date, or lower the minimum version",
            Self::NoCommonAlpn { .. } => "offer another protocol (ALPN), or none",
            Self::NoCommonCipher => "one of the two is too old, or set up too strictly",
            Self::NoCertificateFor { .. } => "give a certificate for it, or have the client ask for another",
            Self::NameUnknown { .. } => "ask for another server name: this one is not served there",
            Self::PlainText { banner } if banner.starts_with("HTTP/") => {
                "it speaks HTTP without TLS: use http:// in place of https://, or check the port"
            }
            Self::PlainText { banner } if banner.starts_with("SSH-") => {
                "it is an SSH server: check the port, or go through it by ssh://"
            }
            Self::PlainText { .. } => "check the port; or the protocol starts in clear text and is upgraded",
            Self::NotAServer => {
                "check the port: what sends back what it is sent answers so, or another client"
            }
            Self::HungUp { .. } => "it may not speak TLS on that port; its log may say why",
            Self::Silent { .. } => "it may not speak TLS on that port, or wait for clear text first",
            Self::Truncated => "trust the content only if the protocol above says where it ends",
            Self::Alert { name } if name == "handshake failure" => {
                "it may have no cipher in common with us, or refuse our certificate; its log may say which"
            }
            Self::Alert { .. } => "the peer's log may say why",
            Self::Protocol { .. } => return None,
        })
    }

    fn connect_kind(&self) -> ConnectErrorKind {
        match self {
            Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::WrongName { .. }
            | Self::UnknownAuthority { .. }
            | Self::SelfSigned { .. }
            | Self::BadCertificate { .. } => ConnectErrorKind::Verification,
            Self::NoClientCertificate | Self::ClientCertificateRequired | Self::CertificateRefused { .. } => {
                ConnectErrorKind::Authentication
            }
            Self::HungUp { .. } | Self::Truncated => ConnectErrorKind::Closed,
            Self::Silent { .. } => ConnectErrorKind::TimedOut,
            Self::NoCommonVersion
            | Self::NoCommonAlpn { .. }
            | Self::NoCommonCipher
            | Self::NoCertificateFor { .. }
            | Self::NameUnknown { .. }
            | Self::PlainText { .. }
            | Self::NotAServer
            | Self::Alert { .. }
            | Self::Protocol { .. } => ConnectErrorKind::Protocol,
        }
    }

    /// As the failure of `what`.
    pub(crate) fn into_connect(self, what: String) -> ConnectError {
        let error = ConnectError::new(self.connect_kind(), what);
        let error = match self.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
        error.with_source(self)
    }

    /// As the failure of a flow whose handshake was done.
    pub(crate) fn into_flow(self) -> FlowError {
        let kind = match self.connect_kind() {
            ConnectErrorKind::Verification | ConnectErrorKind::Authentication => {
                FlowErrorKind::PermissionDenied
            }
            ConnectErrorKind::Closed => FlowErrorKind::UnexpectedEof,
            _ => FlowErrorKind::InvalidData,
        };
        FlowError::with_source(kind, self)
    }

    /// What an alert (RFC 8446 section 6.2) from the other side means to us.
    pub(crate) fn alert(code: u8, role: Role, about: &About) -> Self {
        let why = || alert_name(code).replace('_', " ");
        match (code, role) {
            (42..=46 | 48 | 49, _) if role == Role::Server || about.has_identity => {
                Self::CertificateRefused { why: why() }
            }
            (116, _) => Self::ClientCertificateRequired,
            // Before TLS 1.3 there is no alert for that, and not all use it then. Who agreed on all else, and asked,
            // has no other reason.
            (40 | 42, _) if about.certificate_requested && !about.has_identity => {
                Self::ClientCertificateRequired
            }
            (70, _) => Self::NoCommonVersion,
            (120, _) => Self::NoCommonAlpn { ours: about.alpn() },
            (112, _) => Self::NameUnknown { asked: about.name.clone() },
            _ => Self::Alert { name: why() },
        }
    }
}

/// What is known of the connection that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// The server name that a client asks for.
    pub(crate) name: String,
    /// The names that a server has certificates for.
    pub(crate) served: Arc<[String]>,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// Whether this side has a certificate to show.
    pub(crate) has_identity: bool,
    /// Whether it is a client, and was asked for one.
    pub(crate) certificate_requested: bool,
}

impl About {
    pub(crate) fn alpn(&self) -> Vec<String> {
        self.alpn.iter().map(|protocol| harmless(protocol)).collect()
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { subject, since } => {
                write!(f, "the certificate of `{subject}` expired on {since}")
            }
            Self::NotYetValid { subject, from } => {
                write!(f, "the certificate of `{subject}` is not valid before {from}")
            }
            Self::WrongName { asked, names } => {
                write!(f, "the certificate is not for `{asked}`, but for {}", list(names))
            }
            Self::UnknownAuthority { issuer } => {
                write!(f, "the certificate comes from `{issuer}`, an authority that is not trusted")
            }
            Self::SelfSigned { subject } => {
                write!(f, "the certificate of `{subject}` is self-signed, and not trusted")
            }
            Self::BadCertificate { why } => write!(f, "the certificate can't be accepted: {why}"),
            Self::NoClientCertificate => f.write_str("the client showed no certificate, and must"),
            Self::ClientCertificateRequired => f.write_str("the server requires a client certificate"),
            Self::CertificateRefused { why } => write!(f, "the peer refused our certificate: {why}"),
            Self::NoCommonVersion => f.write_str("the two sides have no version of TLS in common"),
            Self::NoCommonAlpn { ours } => {
                write!(f, "the peer speaks none of the protocols (ALPN) that we do: {}", list(ours))
            }
            Self::NoCommonCipher => f.write_str("the two sides have no cipher or signature in common"),
            Self::NoCertificateFor { asked, names } => {
                write!(f, "the client asked for `{asked}`, and we have certificates for {}", list(names))
            }
            Self::NameUnknown { asked } => write!(f, "the server does not know the name `{asked}`"),
            Self::PlainText { banner } => {
                write!(f, "the peer speaks plain text where TLS should be: \"{banner}\"")
            }
            Self::NotAServer => f.write_str("the peer is no server: it says hello as a client does"),
            Self::HungUp { silent: true } => f.write_str("the peer hung up without a word of TLS"),
            Self::HungUp { silent: false } => f.write_str("the peer hung up during the handshake"),
            Self::Silent { silent: true } => f.write_str("the peer said nothing"),
            Self::Silent { silent: false } => f.write_str("the peer fell silent during the handshake"),
            Self::Truncated => f.write_str("the connection ended without close_notify: bytes may be missing"),
            Self::Alert { name } => write!(f, "the peer refused: {name}"),
            Self::Protocol { why } => f.write_str(why),
        }
    }
}

impl Error for TlsError {}

/// Why a peer broke the protocol that said one thing where another is due.
pub(crate) const OUT_OF_TURN: &str = "the peer sent a message out of turn";

/// `a`, `b` and `c`; nothing at all is said so.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().take(20).map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "nobody".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What a peer said, cut to its first line and a bearable length, without what could write to a terminal.
pub(crate) fn harmless(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).find(|line| !line.is_empty());
    let text = String::from_utf8_lossy(line.unwrap_or_default());
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

/// The names of RFC 8446 section 6.2 (and RFC 5246 section 7.2).
fn alert_name(code: u8) -> String {
    let name = match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        22 => "record_overflow",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return format!("alert {code}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_made_harmless() {
        assert_eq!(harmless(b"SSH-2.0-x\r\nmore"), "SSH-2.0-x");
        assert_eq!(harmless(b"\x1b[2J\xff"), "\\u{1b}[2J\u{fffd}");
        assert_eq!(harmless(&[b'a'; 1000]).len(), 100);
    }

    #[test]
    fn lists_read_well() {
        let names = |names: &[&str]| list(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), "nobody");
        assert_eq!(names(&["a"]), "`a`");
        assert_eq!(names(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
