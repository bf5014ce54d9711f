//! Headers, without I/O.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use tuyau_core::Target;

use super::{v1, v2};

/// What stands in front of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) version: Version,
    pub(super) addresses: Option<Addresses>,
    pub(super) tlvs: Vec<Tlv>,
    pub(super) checksummed: bool,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text: addresses only.
    V1,
    /// Binary: addresses of all kinds, and further facts.
    #[default]
    V2,
}

/// Whose connection it is, and where it was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: Target,
    /// What the client connected to.
    pub destination: Target,
}

/// One further fact of a version 2 header: type, length, value (section 2.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Tlv {
    /// The type: see the constants of [`Tlv`].
    pub kind: u8,
    /// The value, up to 65,535 bytes, all of the header's together.
    pub value: Arc<[u8]>,
}

impl Tlv {
    /// The protocol that ALPN agreed on (RFC 7301).
    pub const ALPN: u8 = 0x01;
    /// The host name that the client asked for (SNI).
    pub const AUTHORITY: u8 = 0x02;
    /// The CRC32c of the header. Checked when read, and made when written.
    pub const CRC32C: u8 = 0x03;
    /// Nothing, to fill up.
    pub const NOOP: u8 = 0x04;
    /// What names the connection, up to 128 bytes.
    pub const UNIQUE_ID: u8 = 0x05;
    /// That the client used TLS, and how.
    pub const SSL: u8 = 0x20;
    /// The name of the network namespace.
    pub const NETNS: u8 = 0x30;

    /// A fact of this type.
    pub fn new(kind: u8, value: impl Into<Arc<[u8]>>) -> Self {
        Self { kind, value: value.into() }
    }
}

impl fmt::Debug for Tlv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tlv({:#04x}, {})", self.kind, self.value.escape_ascii())
    }
}

/// How the client used TLS, as the proxy in front saw it (section 2.2.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// Whether the client connected over TLS.
    pub tls: bool,
    /// Whether the client showed a certificate, on this connection or earlier in its session.
    pub certificate: bool,
    /// Whether it showed one and it was found valid.
    pub verified: bool,
    /// `TLSv1.3`.
    pub version: Option<String>,
    /// The common name of the client's certificate.
    pub common_name: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
}

/// What [`Header::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A header may begin so; this many bytes are needed, at least, to tell more.
    Partial(usize),
    /// A header.
    Complete {
        /// The header.
        header: Header,
        /// How many bytes it has; what follows is the connection's.
        length: usize,
    },
}

/// What is no header, or can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderError {
    /// It does not begin like one.
    NoHeader,
    /// It has more than [`Header::MAX`] bytes (version 1: 107).
    TooLong,
    /// A version 1 line that is not as section 2.1 says.
    BadLine,
    /// A version 2 command, family or protocol that section 2.2 does not have.
    BadCommand,
    /// Addresses or facts that don't fit into the length that the header says it has.
    Truncated,
    /// The checksum is another.
    BadChecksum,
    /// What this version can't carry: addresses of two families, facts in version 1.
    Unencodable,
}

impl Header {
    /// The most bytes that are taken for a header.
    pub const MAX: usize = 16 * 1024;

    /// Tells whose connection it is.
    pub fn new(version: Version, source: impl Into<Target>, destination: impl Into<Target>) -> Self {
        let addresses = Addresses { source: source.into(), destination: destination.into() };
        Self { version, addresses: Some(addresses), tlvs: Vec::new(), checksummed: false }
    }

    /// Tells nothing: the connection is the sender's own (a health check). `UNKNOWN` in version 1, `LOCAL` in 2.
    pub fn local(version: Version) -> Self {
        Self { version, addresses: None, tlvs: Vec::new(), checksummed: false }
    }

    /// With a further fact. Version 2 only.
    pub fn with_tlv(mut self, tlv: Tlv) -> Self {
        self.tlvs.push(tlv);
        self
    }

    /// With a checksum (CRC32c). Version 2 only.
    pub fn checksummed(mut self) -> Self {
        self.checksummed = true;
        self
    }

    /// Whether it has a checksum; one that was read is right.
    pub fn has_checksum(&self) -> bool {
        self.checksummed
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whose connection it is; `None` if the header does not tell, or it is the sender's own.
    pub fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    /// The further facts, but the checksum and what fills up.
    pub fn tlvs(&self) -> &[Tlv] {
        &self.tlvs
    }

    /// The value of the first fact of this type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs.iter().find(|tlv| tlv.kind == kind).map(|tlv| &*tlv.value)
    }

    /// The protocol that ALPN agreed on with the client.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(Tlv::ALPN)
    }

    /// The host name that the client asked for.
    pub fn authority(&self) -> Option<&str> {
        std::str::from_utf8(self.tlv(Tlv::AUTHORITY)?).ok()
    }

    /// How the client used TLS, if the header tells.
    pub fn ssl(&self) -> Option<Ssl> {
        v2::ssl(self.tlv(Tlv::SSL)?)
    }

    /// Reads the header that `bytes` begin with.
    ///
    /// # Errors
    /// As soon as it is clear that it can't be one.
    pub fn decode(bytes: &[u8]) -> Result<Decoded, HeaderError> {
        let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
        if begins(v2::SIGNATURE) {
            return v2::decode(bytes);
        }
        if begins(v1::SIGNATURE) {
            return v1::decode(bytes);
        }
        Err(HeaderError::NoHeader)
    }

    /// The bytes to send.
    ///
    /// # Errors
    /// If this version can't carry it: [`HeaderError::Unencodable`]; or it is [too long](HeaderError::TooLong).
    pub fn encode(&self) -> Result<Vec<u8>, HeaderError> {
        match self.version {
            Version::V1 => v1::encode(self),
            Version::V2 => v2::encode(self),
        }
    }
}

/// The two addresses, if both are an IP address and port of one family.
pub(super) fn same_family(addresses: &Addresses) -> Option<(SocketAddr, SocketAddr)> {
    match (&addresses.source, &addresses.destination) {
        (Target::Addr(source), Target::Addr(destination)) if source.is_ipv4() == destination.is_ipv4() => {
            Some((*source, *destination))
        }
        _ => None,
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHeader => "that is no PROXY protocol header",
            Self::TooLong => "the PROXY protocol header is too long",
            Self::BadLine => "the line of the PROXY protocol header (version 1) is malformed",
            Self::BadCommand => "the PROXY protocol header has an unknown command, family or protocol",
            Self::Truncated => "the PROXY protocol header is shorter than what it says is in it",
            Self::BadChecksum => "the PROXY protocol header has a wrong checksum",
            Self::Unencodable => "this version of the PROXY protocol can't carry these addresses or facts",
        })
    }
}

impl std::error::Error for HeaderError {}
