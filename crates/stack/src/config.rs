//! What a stack is told about itself.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use smoltcp::wire::{IpAddress, IpCidr};
use tuyau_core::{ConnectError, ConnectErrorKind};

/// How many addresses, and routes, an interface of smoltcp has room for: its features in Cargo.toml. The one that the stack
/// talks to itself through also has the two loopback addresses.
const MAX_ADDRESSES: usize = 6;
const MAX_ROUTES: usize = 32;

/// The addresses, routes and limits of a [`Stack`](crate::Stack).
///
/// It is checked when the stack is made. A stack without an address reaches nobody but itself.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    pub(crate) routes: Vec<((IpAddr, u8), IpAddr)>,
    pub(crate) name_servers: Vec<IpAddr>,
    pub(crate) seed: Option<u64>,
    pub(crate) receive_buffer: usize,
    pub(crate) send_buffer: usize,
    pub(crate) backlog: usize,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) timeout: Duration,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) nagle: bool,
}

impl Config {
    /// No address, no route, no name server, and the defaults that each method tells.
    pub fn new() -> Self {
        Self {
            addresses: Vec::new(),
            routes: Vec::new(),
            name_servers: Vec::new(),
            seed: None,
            receive_buffer: 128 << 10,
            send_buffer: 128 << 10,
            backlog: 128,
            ports: 49152..=65535,
            timeout: Duration::from_secs(60),
            keepalive: None,
            nagle: false,
        }
    }

    /// Gives the stack an address; the others that share its first `prefix` bits are reached directly. Up to 6.
    pub fn address(mut self, address: impl Into<IpAddr>, prefix: u8) -> Self {
        self.addresses.push((address.into(), prefix));
        self
    }

    /// The router for all that no other route fits, of its family.
    pub fn gateway(self, gateway: impl Into<IpAddr>) -> Self {
        let gateway = gateway.into();
        let all: IpAddr = match gateway {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0u8; 16].into(),
        };
        self.route(all, 0, gateway)
    }

    /// Reaches the addresses that share their first `prefix` bits with `network` through `router`, which must be
    /// reached directly. The longest prefix wins. Up to 32.
    pub fn route(mut self, network: impl Into<IpAddr>, prefix: u8, router: impl Into<IpAddr>) -> Self {
        self.routes.push(((network.into(), prefix), router.into()));
        self
    }

    /// A DNS server (RFC 1035), asked through the stack itself, on port 53. Several are asked in the order given,
    /// the next one when one does not answer. Without any, names can't be looked up.
    pub fn name_server(mut self, server: impl Into<IpAddr>) -> Self {
        self.name_servers.push(server.into());
        self
    }

    /// What the random choices are made from: initial sequence numbers, ports, and ids of DNS queries. Default: from
    /// the system's source of randomness. A seed that others can guess lets them forge packets: for tests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many bytes each flow buffers in each direction; the receive buffer is also the largest window (RFC 7323).
    /// 128 KiB each by default, from 4 KiB to 1 GiB. A flow holds both as long as it lives.
    ///
    /// More pays on links that are both long and good only: smoltcp does not act on selective acknowledgements, so where
    /// a window overruns a queue on the way, several packets are lost at once, and it takes a timeout to go on.
    pub fn buffers(mut self, receive: usize, send: usize) -> Self {
        (self.receive_buffer, self.send_buffer) = (receive, send);
        self
    }

    /// How many connections per listener may wait to be accepted, those in their handshake included; beyond that SYNs
    /// are dropped, and come again. 128 by default.
    pub fn backlog(mut self, backlog: usize) -> Self {
        self.backlog = backlog;
        self
    }

    /// The local ports to connect from, and to listen on where any will do (RFC 6335 section 6): 49152 to 65535 by
    /// default.
    pub fn ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.ports = ports;
        self
    }

    /// How long a peer that should answer may be silent before its flow is given up (RFC 5482): to a SYN, to data, to
    /// a FIN, to a keepalive probe. 60 s by default. What nobody owns any more waits for its peer's FIN as long.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Probes idle peers after this time (RFC 9293 section 3.8.4), so that one that died is noticed within the
    /// [timeout](Self::timeout), which must be longer. Off by default.
    pub fn keepalive(mut self, idle: Duration) -> Self {
        self.keepalive = Some(idle);
        self
    }

    /// Whether small writes wait for the acknowledgement of what was sent before (RFC 9293 section 3.7.4). No by
    /// default.
    pub fn nagle(mut self, on: bool) -> Self {
        self.nagle = on;
        self
    }

    /// Fails if it makes no sense.
    pub(crate) fn check(&self) -> Result<(), ConnectError> {
        let prefixes = self.addresses.iter().chain(self.routes.iter().map(|(network, _)| network));
        for (address, prefix) in prefixes {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if *prefix > bits {
                return Err(misuse(format!("{address}/{prefix}: the address has {bits} bits")));
            }
        }
        for (address, _) in &self.addresses {
            let broadcast = *address == IpAddr::V4(Ipv4Addr::BROADCAST);
            if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast {
                return Err(misuse(format!("{address} can't be the address of a stack")));
            }
        }
        for ((network, prefix), router) in &self.routes {
            let own = self.addresses.iter().any(|cidr| cidr.0 == *router);
            if network.is_ipv4() != router.is_ipv4() || own || !self.is_near(*router) {
                return Err(misuse(format!("no route to {network}/{prefix} through {router}"))
                    .with_hint("a router is a neighbour: of the same family, in a network of one of the stack's addresses"));
            }
        }
        let limits = [
            (self.addresses.len() <= MAX_ADDRESSES, "more than 6 addresses"),
            (self.routes.len() <= MAX_ROUTES, "more than 32 routes"),
            (self.backlog > 0, "a backlog of 0"),
            (*self.ports.start() > 0 && !self.ports.is_empty(), "no ports to connect from"),
            (self.timeout >= Duration::from_millis(1), "a timeout of less than 1 ms"),
            (
                self.keepalive.is_none_or(|idle| !idle.is_zero() && idle < self.timeout),
                "a keepalive that is zero, or not shorter than the timeout",
            ),
        ];
        let sizes = 4 << 10..=1 << 30;
        let buffers = [
            (sizes.contains(&self.receive_buffer), "a receive buffer not between 4 KiB and 1 GiB"),
            (sizes.contains(&self.send_buffer), "a send buffer not between 4 KiB and 1 GiB"),
        ];
        match limits.iter().chain(&buffers).find(|(fine, _)| !fine) {
            Some((_, what)) => Err(misuse(format!("a stack with {what}"))),
            None => Ok(()),
        }
    }

    pub(crate) fn is_own(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|(own, _)| *own == ip)
    }

    /// Whether it is reached without a router.
    pub(crate) fn is_near(&self, ip: IpAddr) -> bool {
        self.addresses.iter().any(|cidr| contains(*cidr, ip))
    }

    /// Whether there is any way to it.
    pub(crate) fn has_route(&self, ip: IpAddr) -> bool {
        let from_family = self.addresses.iter().any(|(own, _)| own.is_ipv4() == ip.is_ipv4());
        from_family && (self.is_near(ip) || self.routes.iter().any(|(network, _)| contains(*network, ip)))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

pub(crate) fn cidr((address, prefix): (IpAddr, u8)) -> IpCidr {
    IpCidr::new(address.into(), prefix)
}

fn contains(network: (IpAddr, u8), ip: IpAddr) -> bool {
    cidr(network).contains_addr(&IpAddress::from(ip))
}

fn misuse(what: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, what)
}
