//! Version 1: a line of text (section 2.1).

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::header::{Addresses, Decoded, Header, HeaderError, Version, same_family};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// With its end.
const MAX: usize = 107;

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, HeaderError> {
    let head = &bytes[..bytes.len().min(MAX)];
    let Some(end) = head.iter().position(|c| *c == b'\n') else {
        return if head.len() == MAX {
            Err(HeaderError::TooLong)
        } else {
            Ok(Decoded::Partial(bytes.len() + 1))
        };
    };
    let line = head[..end].strip_suffix(b"\r").ok_or(HeaderError::BadLine)?;
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::BadLine)?;
    let addresses = addresses(line).ok_or(HeaderError::BadLine)?;
    let header = Header { version: Version::V1, addresses, tlvs: Vec::new(), checksummed: false };
    Ok(Decoded::Complete { header, length: end + 1 })
}

/// `None` if the line is malformed.
fn addresses(line: &str) -> Option<Option<Addresses>> {
    let mut words = line.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // What follows is to be ignored.
        return Some(None);
    }
    let [source, destination, source_port, destination_port] = [(); 4].map(|()| words.next());
    if words.next().is_some() {
        return None;
    }
    let (source, destination) = match family {
        "TCP4" => (ip::<Ipv4Addr>(source?)?, ip::<Ipv4Addr>(destination?)?),
        "TCP6" => (ip::<Ipv6Addr>(source?)?, ip::<Ipv6Addr>(destination?)?),
        _ => return None,
    };
    Some(Some(Addresses {
        source: SocketAddr::new(source, port(source_port?)?).into(),
        destination: SocketAddr::new(destination, port(destination_port?)?).into(),
    }))
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// Digits, without zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

pub(super) fn encode(header: &Header) -> Result<Vec<u8>, HeaderError> {
    if !header.tlvs.is_empty() || header.checksummed {
        return Err(HeaderError::Unencodable);
    }
    let Some(addresses) = &header.addresses else { return Ok(b"PROXY UNKNOWN\r\n".to_vec()) };
    let (source, destination) = same_family(addresses).ok_or(HeaderError::Unencodable)?;
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to): (&dyn Display, &dyn Display) = (&source.ip(), &destination.ip());
    Ok(format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes())
}
