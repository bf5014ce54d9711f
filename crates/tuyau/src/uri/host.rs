//! The authority of a URI: user info, host and port (RFC 3986 section 3.2).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use percent_encoding::percent_encode;

use super::encode::{PLAIN, decode_text};
use super::{UriError, UriErrorKind};

/// Who to be, as a URI says it: `user:password@`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// The password. Not shown by `Debug`.
    pub password: Option<String>,
}

impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = self.password.as_ref().map(|_| "***");
        f.debug_struct("UserInfo").field("name", &self.name).field("password", &password).finish()
    }
}

/// A host, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// In ASCII, as DNS has it.
    Name(String),
    V4(Ipv4Addr),
    /// With its zone, for a link-local address.
    V6(Ipv6Addr, Option<String>),
}

/// As a URI has it, brackets included.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address, None) => write!(f, "[{address}]"),
            Self::V6(address, Some(zone)) => {
                write!(f, "[{address}%25{}]", percent_encode(zone.as_bytes(), PLAIN))
            }
        }
    }
}

/// What `//` introduces.
pub(crate) struct Authority {
    pub(crate) user: Option<(UserInfo, Range<usize>)>,
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
}

/// Parses `text[range]`.
pub(crate) fn authority(text: &str, range: Range<usize>) -> Result<Authority, UriError> {
    let (user, host_at) = match text[range.clone()].rfind('@') {
        Some(at) => {
            let span = range.start..range.start + at;
            (Some((user_info(text, span.clone())?, span)), range.start + at + 1)
        }
        None => (None, range.start),
    };
    let (host_span, port_span) = split_port(text, host_at..range.end)?;
    let host = match text[host_span.clone()].strip_prefix('[') {
        Some(_) => Host::from_brackets(text, host_span.start + 1..host_span.end - 1)?,
        None => Host::from_name(text, host_span)?,
    };
    let port = port_span.map(|span| port(text, span)).transpose()?;
    Ok(Authority { user, host, port })
}

fn user_info(text: &str, span: Range<usize>) -> Result<UserInfo, UriError> {
    let (name, password) = match text[span.clone()].find(':') {
        Some(colon) => (span.start..span.start + colon, Some(span.start + colon + 1..span.end)),
        None => (span, None),
    };
    Ok(UserInfo {
        name: decode_text(text, name)?,
        password: password.map(|password| decode_text(text, password)).transpose()?,
    })
}

/// Where the host, brackets included, and the port are.
fn split_port(text: &str, range: Range<usize>) -> Result<(Range<usize>, Option<Range<usize>>), UriError> {
    let part = &text[range.clone()];
    let error = |span, message: &str, hint: &str| {
        Err(UriError::new(UriErrorKind::Host, text, span, message).with_hint(hint))
    };
    let host_end = if part.starts_with('[') {
        match part.find(']') {
            Some(close) => range.start + close + 1,
            None => {
                return error(range, "the bracket is not closed", "an IPv6 address is written [::1]");
            }
        }
    } else {
        if part.matches(':').count() > 1 {
            return error(
                range,
                "more than one colon in host and port",
                "an IPv6 address goes in brackets: [::1]:8080",
            );
        }
        range.start + part.find(':').unwrap_or(part.len())
    };
    let host = range.start..host_end;
    let after = &text[host_end..range.end];
    if after.is_empty() {
        return Ok((host, None));
    }
    if !after.starts_with(':') {
        return error(host_end..range.end, "only a port can follow the address", "write [::1]:8080");
    }
    Ok((host, Some(host_end + 1..range.end)))
}

fn port(text: &str, span: Range<usize>) -> Result<u16, UriError> {
    let digits = &text[span.clone()];
    // What stands here may be the beginning of a password: it is pointed at, never quoted.
    let message = if digits.is_empty() {
        "the port is missing after the colon"
    } else if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        "the port is not a number"
    } else if let Ok(port) = digits.parse() {
        return Ok(port);
    } else {
        "the port is too large"
    };
    Err(UriError::new(UriErrorKind::Port, text, span, message)
        .with_hint("a port is a number from 1 to 65535; to listen, also 0: one that the system chooses"))
}

impl Host {
    /// As sockets and lookups want it: without brackets, the zone after a plain `%`.
    pub(crate) fn to_plain(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::V4(address) => address.to_string(),
            Self::V6(address, None) => address.to_string(),
            Self::V6(address, Some(zone)) => format!("{address}%{zone}"),
        }
    }

    /// What is between brackets: an IPv6 address, and perhaps a zone (RFC 6874, or a bare `%`).
    fn from_brackets(text: &str, span: Range<usize>) -> Result<Self, UriError> {
        let part = &text[span.clone()];
        let error = |span, message: &str, hint: &str| {
            Err(UriError::new(UriErrorKind::Host, text, span, message).with_hint(hint))
        };
        let percent = part.find('%');
        let address_span = span.start..span.start + percent.unwrap_or(part.len());
        let Ok(address) = text[address_span.clone()].parse::<Ipv6Addr>() else {
            return error(
                address_span,
                "not an IPv6 address",
                "only an IPv6 address goes in brackets: [::1]",
            );
        };
        let Some(percent) = percent else { return Ok(Self::V6(address, None)) };
        let mut zone_span = span.start + percent + 1..span.end;
        // `%25` is an encoded `%`, but for the zone that is itself called 25.
        if text[zone_span.clone()].strip_prefix("25").is_some_and(|rest| !rest.is_empty()) {
            zone_span.start += 2;
        }
        let zone = decode_text(text, zone_span.clone())?;
        if zone.is_empty() || !zone.chars().all(|c| c.is_ascii_graphic() && !"%/[]".contains(c)) {
            return error(zone_span, "not a zone", "a zone names an interface: [fe80::1%25eth0]");
        }
        if !address.is_unicast_link_local() {
            return error(
                zone_span.start..span.end,
                "this address has no zone",
                "only link-local addresses (fe80::/10) have one",
            );
        }
        Ok(Self::V6(address, Some(zone)))
    }

    /// A name, in any script, or an IPv4 address.
    fn from_name(text: &str, span: Range<usize>) -> Result<Self, UriError> {
        if span.is_empty() {
            return Err(UriError::new(UriErrorKind::Host, text, span, "the host is missing")
                .with_hint("this machine is localhost; to listen on all addresses, write [::]"));
        }
        let decoded = decode_text(text, span.clone())?;
        let error = |message: &str, hint: &str| {
            Err(UriError::new(UriErrorKind::Host, text, span.clone(), message).with_hint(hint))
        };
        let mapped =
            Uts46::new().to_ascii(decoded.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore);
        let Ok(ascii) = mapped else {
            return error(
                "not a host name",
                "a name has letters of any script, digits, hyphens and dots (UTS 46)",
            );
        };
        if let Ok(address) = ascii.parse::<Ipv4Addr>() {
            return Ok(Self::V4(address));
        }
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.split('.').any(str::is_empty) {
            return error(
                "a part of the name is empty",
                "one dot goes between two parts, and may end the name",
            );
        }
        if name.split('.').any(|label| label.len() > 63) {
            return error(
                "a part of the name is too long",
                "63 bytes at most between two dots (RFC 1035 section 2.3.4)",
            );
        }
        if name.len() > 253 {
            return error("the name is too long", "253 bytes at most (RFC 1035 section 2.3.4)");
        }
        // Systems read `127.1` and `0x7f000001` as addresses, in ways of their own.
        if name.rsplit('.').next().is_some_and(is_number) {
            return error(
                "neither a name nor an IPv4 address",
                "an IPv4 address has four decimal parts: 127.0.0.1",
            );
        }
        Ok(Self::Name(ascii.into_owned()))
    }
}

/// Whether a name that ends in `label` would be read as an IPv4 address.
fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
