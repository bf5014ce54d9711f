//! Queries and answers of DNS (RFC 1035): bytes only, nothing is sent here.

use std::net::IpAddr;

use smoltcp::wire::{
    DnsFlags, DnsOpcode, DnsPacket, DnsQueryType, DnsQuestion, DnsRcode, DnsRecord, DnsRecordData, DnsRepr,
};

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The addresses of the name; none, if it has others, or only other records.
    Addresses(Vec<IpAddr>),
    NoSuchName,
    /// The server could not, or would not.
    Failed(u8),
    /// There is more than fits in a datagram.
    Truncated,
}

/// `host` as labels (RFC 1035 section 3.1), if it is a name.
pub(crate) fn labels(host: &str) -> Option<Vec<u8>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let mut name = Vec::with_capacity(host.len() + 2);
    for label in host.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        if !label.is_ascii() || label.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return None;
        }
        name.push(length);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= 255).then_some(name)
}

pub(crate) fn query(id: u16, name: &[u8], kind: DnsQueryType) -> Vec<u8> {
    let question = DnsQuestion { name, type_: kind };
    let query = DnsRepr {
        transaction_id: id,
        opcode: DnsOpcode::Query,
        flags: DnsFlags::RECURSION_DESIRED,
        question,
    };
    let mut bytes = vec![0; query.buffer_len()];
    query.emit(&mut DnsPacket::new_unchecked(&mut bytes[..]));
    bytes
}

/// What `packet` answers to the query of that id, name and type; nothing, if it is no answer to it.
pub(crate) fn answer(packet: &[u8], id: u16, name: &[u8], kind: DnsQueryType) -> Option<Answer> {
    let packet = DnsPacket::new_checked(packet).ok()?;
    let flags = packet.flags();
    if packet.transaction_id() != id || !flags.contains(DnsFlags::RESPONSE) || packet.question_count() != 1 {
        return None;
    }
    let (mut rest, question) = DnsQuestion::parse(packet.payload()).ok()?;
    if question.type_ != kind || plain(&packet, question.name)? != name {
        return None;
    }
    match packet.rcode() {
        DnsRcode::NoError => {}
        DnsRcode::NXDomain => return Some(Answer::NoSuchName),
        other => return Some(Answer::Failed(other.into())),
    }
    if flags.contains(DnsFlags::TRUNCATED) {
        return Some(Answer::Truncated);
    }
    let mut records = Vec::new();
    for _ in 0..packet.answer_record_count() {
        let (after, record) = DnsRecord::parse(rest).ok()?;
        rest = after;
        records.push((plain(&packet, record.name)?, record.data));
    }
    // The name may be another's alias, and that again, in whatever order: each step uses one record up.
    let mut owner = name.to_vec();
    for _ in 0..records.len() {
        let alias = records.iter().find_map(|(of, data)| match data {
            DnsRecordData::Cname(target) if *of == owner => plain(&packet, target),
            _ => None,
        });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    let of_owner = records.iter().filter(|(of, _)| *of == owner);
    let addresses = of_owner.filter_map(|(_, data)| match data {
        DnsRecordData::A(ip) => Some(IpAddr::V4(*ip)),
        DnsRecordData::Aaaa(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    Some(Answer::Addresses(addresses.collect()))
}

/// A name in a packet as labels, without pointers, in lower case.
fn plain<T: AsRef<[u8]>>(packet: &DnsPacket<T>, name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    for label in packet.parse_name(name) {
        let label = label.ok()?;
        plain.push(u8::try_from(label.len()).ok()?);
        plain.extend(label.iter().map(u8::to_ascii_lowercase));
        if plain.len() > 255 {
            return None;
        }
    }
    plain.push(0);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer to a query of this name and type, with these records: owner, type, data.
    fn reply(query: &[u8], flags: u16, records: &[(&str, u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = query.to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).expect("few").to_be_bytes());
        for (owner, kind, data) in records {
            bytes.extend(labels(owner).expect("a name"));
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 9]);
            bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
            bytes.extend(data);
        }
        bytes
    }

    const FINE: u16 = 0x8180;

    #[test]
    fn aliases_are_followed_in_any_order_and_in_circles_without_end() {
        let name = labels("WWW.a.example.").expect("a name");
        let query = query(7, &name, DnsQueryType::A);
        let target = |name| labels(name).expect("a name");
        let records = [
            ("b.example", 1, vec![192, 0, 2, 1]),
            ("x.example", 1, vec![192, 0, 2, 66]),
            ("c.example", 5, target("b.example")),
            ("www.a.example", 5, target("C.example")),
        ];
        let found = answer(&reply(&query, FINE, &records), 7, &name, DnsQueryType::A);
        assert_eq!(found, Some(Answer::Addresses(vec![[192, 0, 2, 1].into()])), "and nobody else's");
        let circle = [("www.a.example", 5, target("b.example")), ("b.example", 5, target("www.a.example"))];
        let found = answer(&reply(&query, FINE, &circle), 7, &name, DnsQueryType::A);
        assert_eq!(found, Some(Answer::Addresses(vec![])));
    }

    #[test]
    fn what_answers_another_question_is_no_answer() {
        let name = labels("a.example").expect("a name");
        let asked = query(7, &name, DnsQueryType::A);
        let fine = reply(&asked, FINE, &[("a.example", 1, vec![192, 0, 2, 1])]);
        assert!(answer(&fine, 7, &name, DnsQueryType::A).is_some());
        assert_eq!(answer(&fine, 8, &name, DnsQueryType::A), None, "the id");
        assert_eq!(answer(&fine, 7, &name, DnsQueryType::Aaaa), None, "the type");
        let other = labels("b.example").expect("a name");
        assert_eq!(answer(&fine, 7, &other, DnsQueryType::A), None, "the name");
        assert_eq!(answer(&asked, 7, &name, DnsQueryType::A), None, "a query");
        assert_eq!(answer(&reply(&asked, 0x8183, &[]), 7, &name, DnsQueryType::A), Some(Answer::NoSuchName));
        assert_eq!(answer(&reply(&asked, 0x8182, &[]), 7, &name, DnsQueryType::A), Some(Answer::Failed(2)));
        assert_eq!(answer(&reply(&asked, 0x8380, &[]), 7, &name, DnsQueryType::A), Some(Answer::Truncated));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".", "a..b", "é.example", "a b", &"a".repeat(64), &"a.".repeat(128)] {
            assert_eq!(labels(bad), None, "{bad}");
        }
        assert_eq!(labels("a.B"), Some(b"\x01a\x01b\x00".to_vec()));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let name = labels("a.example").expect("a name");
            let _ = answer(&bytes, 7, &name, DnsQueryType::A);
            let records = [("a.example", 5, labels("b.example").expect("a name")), ("b.example", 1, vec![1, 2, 3, 4])];
            let mut mutated = reply(&query(7, &name, DnsQueryType::A), FINE, &records);
            for (at, byte) in changes {
                let at = at.index(mutated.len());
                mutated[at] = byte;
            }
            let _ = answer(&mutated, 7, &name, DnsQueryType::A);
        }
    }
}
