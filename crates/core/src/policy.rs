//! What a context forbids, whatever else it holds.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::{AnyEndpoint, ConnectError, ConnectErrorKind, KeyRef, Target};

/// How far a transport protects what it carries. Declared by its endpoint key, before anything
/// connects; ordered, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Protection {
    /// Anybody on the way can read and change it.
    #[default]
    Clear,
    /// Nobody on the way can read it, but who the peer is was not verified.
    Encrypted,
    /// Nobody on the way can read or change it, and the peer is who it says.
    Authenticated,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clear => "clear",
            Self::Encrypted => "encrypted",
            Self::Authenticated => "encrypted and authenticated",
        })
    }
}

/// What binds every candidate and every hop. Bound to [`names::POLICY`](crate::names::POLICY);
/// the default forbids nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    end_to_end: bool,
    every_hop: bool,
    no_local_lookup: bool,
    /// An address must be in one network of each of these lists.
    networks: Vec<Vec<Network>>,
    protocols: Option<Vec<KeyRef>>,
}

impl Policy {
    /// Forbids nothing.
    pub fn new() -> Self {
        Self::none()
    }

    pub(crate) const fn none() -> Self {
        Self {
            end_to_end: false,
            every_hop: false,
            no_local_lookup: false,
            networks: Vec::new(),
            protocols: None,
        }
    }

    /// What either forbids. Of networks and protocols, what both allow.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let protocols = match (&self.protocols, &other.protocols) {
            (Some(a), Some(b)) => Some(a.iter().filter(|key| b.contains(key)).copied().collect()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Self {
            end_to_end: self.end_to_end || other.end_to_end,
            every_hop: self.every_hop || other.every_hop,
            no_local_lookup: self.no_local_lookup || other.no_local_lookup,
            networks: self.networks.iter().chain(&other.networks).cloned().collect(),
            protocols,
        }
    }

    /// From this process to the named peer; the hops below may be clear.
    pub fn encrypted_end_to_end(mut self) -> Self {
        self.end_to_end = true;
        self
    }

    /// End to end, and to each hop on the way as well.
    pub fn encrypted_on_every_hop(mut self) -> Self {
        (self.end_to_end, self.every_hop) = (true, true);
        self
    }

    /// Names are never looked up on this machine (a hop that looks them up itself may).
    pub fn no_local_lookup(mut self) -> Self {
        self.no_local_lookup = true;
        self
    }

    /// Only addresses in these networks; checked on the address dialled, not on the name.
    pub fn only_networks(mut self, networks: impl IntoIterator<Item = Network>) -> Self {
        self.networks = alloc::vec![networks.into_iter().collect()];
        self
    }

    /// Only these endpoint keys, on every hop.
    pub fn only_protocols(mut self, protocols: impl IntoIterator<Item = KeyRef>) -> Self {
        self.protocols = Some(protocols.into_iter().collect());
        self
    }

    /// The policy for a hop on the way: end-to-end protection is the business of what the hop
    /// carries, unless every hop must be encrypted and the hop does not do so by its `own` means.
    pub fn for_hop(&self, own: Protection) -> Self {
        Self { end_to_end: self.every_hop && own == Protection::Clear, ..self.clone() }
    }

    /// Whether names may be looked up on this machine.
    pub fn allows_local_lookup(&self) -> bool {
        !self.no_local_lookup
    }

    /// Fails if names may not be looked up on this machine, where `name` would be.
    pub fn check_lookup(&self, name: &str) -> Result<(), ConnectError> {
        if !self.no_local_lookup {
            return Ok(());
        }
        let what = format!("lookup of `{name}`: the policy forbids lookups on this machine");
        Err(ConnectError::new(ConnectErrorKind::Policy, what)
            .with_hint("go through a proxy that looks names up, or give an address"))
    }

    /// Fails if names may not be looked up on this machine, where `who`, a program say, may do so with `name`.
    pub fn check_lookup_by(&self, name: &str, who: &str) -> Result<(), ConnectError> {
        if !self.no_local_lookup {
            return Ok(());
        }
        let what = format!(
            "the policy forbids lookups on this machine, and who looks `{name}` up can't be known of {who}"
        );
        Err(ConnectError::new(ConnectErrorKind::Policy, what)
            .with_hint("give an address, or go through another hop"))
    }

    /// Fails unless `address`, which is about to be dialled, is in the allowed networks. A
    /// transport that is not told the address (`None`) is refused if the networks are restricted.
    pub fn check_address(&self, address: Option<IpAddr>) -> Result<(), ConnectError> {
        let within =
            |networks: &Vec<Network>, address| networks.iter().any(|network| network.contains(address));
        let (what, hint) = match address {
            _ if self.networks.is_empty() => return Ok(()),
            Some(address) if self.networks.iter().all(|networks| within(networks, address)) => return Ok(()),
            Some(address) => (
                format!("{address} is in none of the networks that the policy allows"),
                "if it is to be dialled, add its network to the policy",
            ),
            None => (
                format!("{CERTAIN}the address dialled can't be known here"),
                "go where an address is dialled, or do without that policy",
            ),
        };
        Err(ConnectError::new(ConnectErrorKind::Policy, what).with_hint(hint))
    }

    /// As [`check_address`](Self::check_address), of what is `asked` to connect to `target`: if it looks names up
    /// itself, the address of one can't be known here.
    pub fn check_target(&self, target: &Target, asked: &str) -> Result<(), ConnectError> {
        match target {
            Target::Name { host, .. } if !self.networks.is_empty() => {
                let what =
                    format!("{CERTAIN}{asked} looks `{host}` up itself: its address can't be known here");
                Err(ConnectError::new(ConnectErrorKind::Policy, what).with_hint(
                    "give an address, or go through a proxy whose names are looked up here (socks5://)",
                ))
            }
            target => self.check_address(target.ip()),
        }
    }

    /// Fails if `endpoint` may not be connected: as what a context offers, so as the outermost transport of the way or
    /// of a hop.
    pub fn check_offer(&self, endpoint: &'static dyn AnyEndpoint) -> Result<(), ConnectError> {
        self.refuses(endpoint.key_ref(), endpoint.declared_protection()).map_or(Ok(()), refused)
    }

    /// Fails if `key` may not be dialled, at any depth.
    pub fn check_protocol(&self, key: KeyRef) -> Result<(), ConnectError> {
        self.refuses_protocol(key).map_or(Ok(()), |why| refused(why.into()))
    }

    /// Why `key`, with this protection, may not be connected as the outermost transport.
    pub(crate) fn refuses(&self, key: KeyRef, protection: Protection) -> Option<Cow<'static, str>> {
        if self.end_to_end && protection == Protection::Clear {
            return Some(CLEAR.into());
        }
        self.refuses_protocol(key).map(Cow::Owned)
    }

    /// Why `key` may not be connected at any depth.
    fn refuses_protocol(&self, key: KeyRef) -> Option<String> {
        let protocols = self.protocols.as_ref()?;
        (!protocols.contains(&key)).then(|| format!("{OTHER}`{key}`"))
    }
}

fn refused(why: Cow<'static, str>) -> Result<(), ConnectError> {
    let hint = refusal_hint(&why);
    Err(ConnectError::new(ConnectErrorKind::Policy, why).with_hint(hint))
}

/// Of what is refused because it can't be judged.
const CERTAIN: &str = "the policy allows certain networks only, and ";
const CLEAR: &str = "the policy wants encryption, and this transport is clear";
const OTHER: &str = "the policy does not allow ";

/// What to do about a candidate that was refused for this reason.
pub(crate) fn refusal_hint(why: &str) -> &'static str {
    match why {
        CLEAR => "use a transport that encrypts, or loosen the policy",
        _ if why.starts_with(OTHER) => "use an allowed protocol, or add this one to the policy",
        _ => "what comes before it must succeed, unless the context allows a downgrade",
    }
}

/// A range of addresses in CIDR notation (RFC 4632, RFC 4291): `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The addresses that share the first `prefix` bits with `address`; `None` if it has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Self { address, prefix })
    }

    /// Whether `address` is in the range. An IPv4-mapped IPv6 address is the IPv4 address it maps.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_prefix(v4_bits(network), v4_bits(address), self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(v6_bits(network), v6_bits(address), self.prefix)
            }
            _ => false,
        }
    }
}

fn v4_bits(address: Ipv4Addr) -> u128 {
    u128::from(address.to_bits()) << 96
}

fn v6_bits(address: Ipv6Addr) -> u128 {
    address.to_bits()
}

fn same_prefix(a: u128, b: u128, prefix: u8) -> bool {
    prefix == 0 || (a ^ b) >> (128 - u32::from(prefix)) == 0
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// What is not a network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkParseError;

impl fmt::Display for NetworkParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network: write ADDRESS/BITS, like 10.0.0.0/8 or 2001:db8::/32")
    }
}

impl core::error::Error for NetworkParseError {}

impl FromStr for Network {
    type Err = NetworkParseError;

    fn from_str(text: &str) -> Result<Self, NetworkParseError> {
        let (address, prefix) = text.split_once('/').ok_or(NetworkParseError)?;
        let address = address.parse().map_err(|_| NetworkParseError)?;
        let prefix = prefix.parse().map_err(|_| NetworkParseError)?;
        Self::new(address, prefix).ok_or(NetworkParseError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Network {
        text.parse().expect("a network")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn networks_contain_what_shares_their_prefix() {
        assert!(net("10.0.0.0/8").contains(ip("10.255.0.1")));
        assert!(!net("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(net("10.0.0.0/8").contains(ip("::ffff:10.1.2.3")), "mapped addresses are not a way round");
        assert!(net("::/0").contains(ip("2001:db8::1")) && !net("::/0").contains(ip("1.2.3.4")));
        assert!(net("2001:db8::/33").contains(ip("2001:db8:7fff::")));
        assert!(!net("2001:db8::/33").contains(ip("2001:db8:8000::")));
        assert!(
            net("192.0.2.1/32").contains(ip("192.0.2.1")) && !net("192.0.2.1/32").contains(ip("192.0.2.0"))
        );
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkParseError), "{bad}");
        }
    }

    #[test]
    fn an_address_that_cant_be_known_is_refused_where_networks_are_restricted() {
        let policy = Policy::new().only_networks([net("10.0.0.0/8")]);
        assert!(policy.check_address(Some(ip("10.0.0.1"))).is_ok());
        assert_eq!(policy.check_address(None).unwrap_err().kind(), ConnectErrorKind::Policy);
        assert!(Policy::new().check_address(None).is_ok());
    }
}
