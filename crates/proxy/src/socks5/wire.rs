//! The messages of SOCKS5 (RFC 1928) and of its password authentication (RFC 1929), without I/O.

use std::net::{IpAddr, SocketAddr};

use tuyau_core::{ConnectError, ConnectErrorKind, Target};

use crate::Credentials;
use crate::beyond::{cant, without_zone};

pub(super) const VERSION: u8 = 5;
/// The version of the authentication, not of SOCKS (RFC 1929 section 2).
pub(super) const AUTH_VERSION: u8 = 1;
pub(super) const CONNECT: u8 = 1;

pub(super) const NO_AUTHENTICATION: u8 = 0;
pub(super) const PASSWORD: u8 = 2;
pub(super) const NO_METHOD: u8 = 0xff;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// How many bytes an address takes whose first two are these: type, and length of a name; the port
/// included. `None` if there is no such type.
pub(super) fn address_length([kind, length]: [u8; 2]) -> Option<usize> {
    match kind {
        IPV4 => Some(1 + 4 + 2),
        IPV6 => Some(1 + 16 + 2),
        NAME => Some(2 + usize::from(length) + 2),
        _ => None,
    }
}

/// The address that `bytes` are, all of them. `None` if they are none: a name must be text.
pub(super) fn decode_address(bytes: &[u8]) -> Option<Target> {
    let (address, port) = bytes.split_last_chunk()?;
    let port = u16::from_be_bytes(*port);
    let (kind, address) = address.split_first()?;
    let ip: IpAddr = match *kind {
        IPV4 => <[u8; 4]>::try_from(address).ok()?.into(),
        IPV6 => <[u8; 16]>::try_from(address).ok()?.into(),
        NAME => {
            let (length, name) = address.split_first()?;
            let name = std::str::from_utf8(name).ok().filter(|_| name.len() == usize::from(*length))?;
            // Nor what a terminal would obey, if somebody shows it.
            return (!name.is_empty() && !name.contains(char::is_control)).then(|| Target::name(name, port));
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port).into())
}

pub(super) fn encode_address(address: SocketAddr, to: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            to.push(IPV4);
            to.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            to.push(IPV6);
            to.extend(ip.octets());
        }
    }
    to.extend(address.port().to_be_bytes());
}

/// The request to connect to `target`.
pub(super) fn encode_request(scheme: &str, target: &Target) -> Result<Vec<u8>, ConnectError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match target {
        Target::Addr(address) => encode_address(without_zone(scheme, *address)?, &mut request),
        Target::Name { host, port } => {
            let length = u8::try_from(host.len()).ok().filter(|length| *length > 0).ok_or_else(|| {
                let what = format!("{scheme} can't pass on a name of {} bytes", host.len());
                ConnectError::new(ConnectErrorKind::Misuse, what)
                    .with_hint("a name has 1 to 255 bytes (RFC 1928 section 5)")
            })?;
            request.extend([NAME, length]);
            request.extend(host.as_bytes());
            request.extend(port.to_be_bytes());
        }
        other => return Err(cant(scheme, other)),
    }
    Ok(request)
}

/// The user name and password, as they are sent.
pub(super) fn encode_credentials(scheme: &str, credentials: &Credentials) -> Result<Vec<u8>, ConnectError> {
    let mut request = vec![AUTH_VERSION];
    for (what, text, least) in [("user name", credentials.user(), 1), ("password", credentials.password(), 0)]
    {
        let length = u8::try_from(text.len()).ok().filter(|length| *length >= least).ok_or_else(|| {
            let what = format!("{scheme} can't send a {what} of {} bytes", text.len());
            ConnectError::new(ConnectErrorKind::Misuse, what)
                .with_hint("user name and password have up to 255 bytes each (RFC 1929 section 2)")
        })?;
        request.push(length);
        request.extend(text.as_bytes());
    }
    Ok(request)
}

/// The answer to a request: `code`, and the address that the proxy connects from.
pub(super) fn encode_reply(code: u8, bound: SocketAddr) -> Vec<u8> {
    let mut reply = vec![VERSION, code, 0];
    encode_address(bound, &mut reply);
    reply
}
