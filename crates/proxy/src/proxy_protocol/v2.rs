//! Version 2: binary (section 2.2).

use std::net::{IpAddr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};
use tuyau_core::Target;

use super::header::{Addresses, Decoded, Header, HeaderError, Ssl, Tlv, Version, same_family};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With the signature: what comes before the addresses.
const FIXED: usize = 16;
/// How long the path of a Unix socket may be; two make an address.
const PATH: usize = 108;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPEC: u8 = 0x00;
const TCP4: u8 = 0x11;
const UDP4: u8 = 0x12;
const TCP6: u8 = 0x21;
const UDP6: u8 = 0x22;
const UNIX: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;

/// CRC32c, as section 2.2.3 wants it.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, HeaderError> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Ok(Decoded::Partial(FIXED)) };
    let [.., command, family, high, low] = *fixed;
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, LOCAL | PROXY) {
        return Err(HeaderError::BadCommand);
    }
    if length > Header::MAX {
        return Err(HeaderError::TooLong);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(Decoded::Partial(length)) };
    let mut rest = &whole[FIXED..];
    let addresses = match (command, family) {
        // Whatever it says else is to be ignored: facts can't be told from addresses of an unknown family.
        (LOCAL, _) => {
            rest = &[];
            None
        }
        (_, UNSPEC) => None,
        (_, TCP4) => Some(Addresses { ..ip_pair::<4>(&mut rest).ok_or(HeaderError::Truncated)? }),
        (_, TCP6) => Some(Addresses { ..ip_pair::<16>(&mut rest).ok_or(HeaderError::Truncated)? }),
        (_, UNIX) => {
            let mut path = || Some(unix_path(split::<PATH>(&mut rest)?));
            let (source, destination) = (path(), path());
            let (Some(source), Some(destination)) = (source, destination) else {
                return Err(HeaderError::Truncated);
            };
            Some(Addresses { source, destination })
        }
        // Datagrams over a stream make no sense.
        (_, UDP4 | UDP6 | UNIX_DATAGRAM) => return Err(HeaderError::BadCommand),
        _ => return Err(HeaderError::BadCommand),
    };
    let (mut tlvs, mut checksummed) = (Vec::new(), false);
    while !rest.is_empty() {
        let (kind, value) = tlv(&mut rest).ok_or(HeaderError::Truncated)?;
        match kind {
            Tlv::NOOP => {}
            Tlv::CRC32C => {
                let sum = u32::from_be_bytes(value.try_into().map_err(|_| HeaderError::Truncated)?);
                let end = length - rest.len();
                if checksum(whole, end - 4) != Some(sum) {
                    return Err(HeaderError::BadChecksum);
                }
                checksummed = true;
            }
            _ => tlvs.push(Tlv::new(kind, value)),
        }
    }
    let header = Header { version: Version::V2, addresses, tlvs, checksummed };
    Ok(Decoded::Complete { header, length })
}

/// The checksum of the header `whole`, with zeros where it stands itself.
fn checksum(whole: &[u8], at: usize) -> Option<u32> {
    let (before, after) = (whole.get(..at)?, whole.get(at + 4..)?);
    let mut digest = CRC32C.digest();
    digest.update(before);
    digest.update(&[0; 4]);
    digest.update(after);
    Some(digest.finalize())
}

fn split<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, left) = rest.split_first_chunk()?;
    *rest = left;
    Some(taken)
}

fn ip_pair<const N: usize>(rest: &mut &[u8]) -> Option<Addresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, destination) = (IpAddr::from(*split::<N>(rest)?), IpAddr::from(*split::<N>(rest)?));
    let mut port = || split::<2>(rest).map(|port| u16::from_be_bytes(*port));
    let (source_port, destination_port) = (port()?, port()?);
    Some(Addresses {
        source: SocketAddr::new(source, source_port).into(),
        destination: SocketAddr::new(destination, destination_port).into(),
    })
}

/// Ended by NUL unless it fills its place; an abstract name begins with one. All NUL is no name.
fn unix_path(bytes: &[u8; PATH]) -> Target {
    let start = usize::from(bytes[0] == 0);
    let end = bytes[start..].iter().position(|c| *c == 0).map_or(PATH, |length| start + length);
    match end - start {
        0 => Target::Described("unnamed".into()),
        _ => Target::path(&bytes[..end]),
    }
}

fn tlv<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [kind, high, low] = *split::<3>(rest)?;
    let (value, left) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    *rest = left;
    Some((kind, value))
}

/// The value of [`Tlv::SSL`]: bits, the verdict, and facts in it.
pub(super) fn ssl(mut value: &[u8]) -> Option<Ssl> {
    let [bits, verdict @ ..] = *split::<5>(&mut value)?;
    let certificate = bits & 0b110 != 0;
    let mut ssl = Ssl {
        tls: bits & 1 != 0,
        certificate,
        verified: certificate && u32::from_be_bytes(verdict) == 0,
        version: None,
        common_name: None,
        cipher: None,
    };
    while !value.is_empty() {
        let (kind, text) = tlv(&mut value)?;
        let text = std::str::from_utf8(text).ok().map(str::to_owned);
        match kind {
            0x21 => ssl.version = text,
            0x22 => ssl.common_name = text,
            0x23 => ssl.cipher = text,
            _ => {}
        }
    }
    Some(ssl)
}

pub(super) fn encode(header: &Header) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = SIGNATURE.to_vec();
    match &header.addresses {
        None => bytes.extend([LOCAL, UNSPEC, 0, 0]),
        Some(addresses) => encode_addresses(addresses, &mut bytes)?,
    }
    for Tlv { kind, value } in &header.tlvs {
        let length = u16::try_from(value.len()).map_err(|_| HeaderError::TooLong)?;
        if *kind == Tlv::CRC32C {
            return Err(HeaderError::Unencodable); // it is made here
        }
        bytes.push(*kind);
        bytes.extend(length.to_be_bytes());
        bytes.extend(&**value);
    }
    if header.checksummed {
        bytes.extend([Tlv::CRC32C, 0, 4, 0, 0, 0, 0]);
    }
    let length = u16::try_from(bytes.len() - FIXED).ok().filter(|_| bytes.len() <= Header::MAX);
    bytes[14..FIXED].copy_from_slice(&length.ok_or(HeaderError::TooLong)?.to_be_bytes());
    if header.checksummed {
        let sum = CRC32C.checksum(&bytes);
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(bytes)
}

fn encode_addresses(addresses: &Addresses, bytes: &mut Vec<u8>) -> Result<(), HeaderError> {
    if let (Target::Path(source), Target::Path(destination)) = (&addresses.source, &addresses.destination) {
        bytes.extend([PROXY, UNIX, 0, 0]);
        for path in [source, destination] {
            if path.len() > PATH {
                return Err(HeaderError::Unencodable);
            }
            bytes.extend(&**path);
            bytes.resize(bytes.len() + PATH - path.len(), 0);
        }
        return Ok(());
    }
    let (source, destination) = same_family(addresses).ok_or(HeaderError::Unencodable)?;
    bytes.extend([PROXY, if source.is_ipv4() { TCP4 } else { TCP6 }, 0, 0]);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    Ok(())
}
