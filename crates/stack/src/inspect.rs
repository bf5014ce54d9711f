//! What a packet that came in is about, before smoltcp processes it.
//!
//! smoltcp has no backlog, and forgets why a connection ended; both are known from the packets.

use smoltcp::phy::Medium;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress,
    IpEndpoint, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    pub(crate) local: IpEndpoint,
    pub(crate) remote: IpEndpoint,
}

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Somebody wants to connect.
    Syn(Ends),
    /// The peer reset the connection.
    Rst(Ends),
    /// The peer ended its side.
    Fin(Ends),
    /// Somebody on the way says that what we sent on this connection can't be delivered.
    Unreachable(Ends),
    /// Nothing that must be known here.
    Other,
}

/// Checks nothing: smoltcp does, and what it then finds changed is what counts.
pub(crate) fn inspect(medium: Medium, packet: &[u8]) -> Seen {
    let seen = match medium {
        Medium::Ip => ip(packet),
        Medium::Ethernet => {
            EthernetFrame::new_checked(packet).ok().and_then(|frame| match frame.ethertype() {
                EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => {
                    ip(&packet[EthernetFrame::<&[u8]>::header_len()..])
                }
                _ => None,
            })
        }
    };
    seen.unwrap_or(Seen::Other)
}

fn ip(packet: &[u8]) -> Option<Seen> {
    match packet.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            match packet.next_header() {
                IpProtocol::Tcp => tcp(from, to, packet.payload()),
                IpProtocol::Icmp => {
                    let icmp = Icmpv4Packet::new_checked(packet.payload()).ok()?;
                    unreachable(icmp.msg_type() == Icmpv4Message::DstUnreachable, packet.payload())
                }
                _ => None,
            }
        }
        6 => {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            let (from, to) = (packet.src_addr().into(), packet.dst_addr().into());
            match packet.next_header() {
                IpProtocol::Tcp => tcp(from, to, packet.payload()),
                IpProtocol::Icmpv6 => {
                    let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
                    unreachable(icmp.msg_type() == Icmpv6Message::DstUnreachable, packet.payload())
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn tcp(from: IpAddress, to: IpAddress, segment: &[u8]) -> Option<Seen> {
    // Nearly all have none of SYN, FIN and RST.
    if segment.get(13)? & 7 == 0 {
        return None;
    }
    let segment = TcpPacket::new_checked(segment).ok()?;
    let ends = Ends {
        local: IpEndpoint::new(to, segment.dst_port()),
        remote: IpEndpoint::new(from, segment.src_port()),
    };
    Some(match (segment.rst(), segment.syn(), segment.ack(), segment.fin()) {
        (true, ..) => Seen::Rst(ends),
        (false, true, false, _) => Seen::Syn(ends),
        (false, false, _, true) => Seen::Fin(ends),
        _ => Seen::Other,
    })
}

/// Which connection the packet was of that an ICMP error quotes the first bytes of (RFC 792; RFC 4443 section 3.1).
fn unreachable(is_unreachable: bool, icmp: &[u8]) -> Option<Seen> {
    let quoted = icmp.get(8..).filter(|_| is_unreachable)?;
    let (local, remote, protocol, segment) = match quoted.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_unchecked(quoted);
            let header = usize::from(quoted[0] & 15) * 4;
            if quoted.len() < header.max(20) {
                return None;
            }
            (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), &quoted[header..])
        }
        6 if quoted.len() >= 40 => {
            let packet = Ipv6Packet::new_unchecked(quoted);
            (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), &quoted[40..])
        }
        _ => return None,
    };
    let (IpProtocol::Tcp, [a, b, c, d, ..]) = (protocol, segment) else { return None };
    let (local_port, remote_port) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    Some(Seen::Unreachable(Ends {
        local: IpEndpoint::new(local, local_port),
        remote: IpEndpoint::new(remote, remote_port),
    }))
}
