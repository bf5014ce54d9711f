//! What `no_proxy` excepts.

use std::net::IpAddr;

use tuyau_core::{Network, NetworkParseError};

/// A list of targets.
pub(super) struct NoProxy(Vec<Entry>);

struct Entry {
    what: What,
    port: Option<u16>,
}

enum What {
    All,
    /// Without dots around it, in lower case.
    Name(String),
    Network(Network),
}

/// Why a list can't be used.
pub(super) struct Bad {
    pub(super) what: String,
    pub(super) source: Option<NetworkParseError>,
}

/// A host, as the list has them: no brackets, no zone, no final dot, lower case.
pub(super) fn normalised(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = match host.split_once('%') {
        Some((ip, _zone)) if ip.parse::<IpAddr>().is_ok() => ip,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

impl NoProxy {
    pub(super) fn parse(list: &str) -> Result<Self, Bad> {
        let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        words.map(Entry::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `host`, which is [`normalised`], is in it.
    pub(super) fn covers(&self, host: &str, port: u16) -> bool {
        let ip = host.parse().ok();
        self.0.iter().any(|entry| entry.port.is_none_or(|only| only == port) && entry.what.covers(host, ip))
    }
}

impl Entry {
    fn parse(word: &str) -> Result<Self, Bad> {
        let (host, port) = split_port(word)?;
        let bad = |what: &str| Bad { what: format!("lists `{}`, {what}", shown(word)), source: None };
        if host == "*" {
            return Ok(Self { what: What::All, port });
        }
        if host.contains('/') {
            let host = host.strip_prefix('[').map_or(host.to_owned(), |host| host.replacen(']', "", 1));
            let network =
                host.parse().map_err(|source| Bad { source: Some(source), ..bad("which is no network") })?;
            return Ok(Self { what: What::Network(network), port });
        }
        let name = normalised(host);
        if let Some(what) = name.parse().ok().and_then(alone) {
            return Ok(Self { what, port });
        }
        let name = name.trim_start_matches('.');
        // What looks like a pattern would match nothing.
        if name.is_empty() || name.contains(['*', '[', ']', ':', '?', '@']) {
            return Err(bad(
                "which is no name, address or network; names under a name are meant by it anyway",
            ));
        }
        Ok(Self { what: What::Name(name.to_owned()), port })
    }
}

/// The network of one address.
fn alone(ip: IpAddr) -> Option<What> {
    let ip = ip.to_canonical();
    Network::new(ip, if ip.is_ipv4() { 32 } else { 128 }).map(What::Network)
}

/// Takes a port off the end; the colons of a bare IPv6 address are not before one.
fn split_port(word: &str) -> Result<(&str, Option<u16>), Bad> {
    let Some((host, port)) = word.rsplit_once(':') else { return Ok((word, None)) };
    if port.contains(']') || (host.contains(':') && !host.starts_with('[')) {
        return Ok((word, None));
    }
    match port.parse() {
        Ok(port) if port != 0 && !host.is_empty() => Ok((host, Some(port))),
        _ => Err(Bad { what: format!("lists `{}`, whose port is none", shown(word)), source: None }),
    }
}

fn shown(word: &str) -> String {
    crate::error::line(word.as_bytes())
}

impl What {
    fn covers(&self, host: &str, ip: Option<IpAddr>) -> bool {
        match (self, ip) {
            (Self::All, _) => true,
            (Self::Network(network), Some(ip)) => network.contains(ip),
            // Never by its last numbers.
            (Self::Name(name), None) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(list: &str, host: &str, port: u16) -> bool {
        match NoProxy::parse(list) {
            Ok(list) => list.covers(&normalised(host), port),
            Err(bad) => panic!("{list}: {}", bad.what),
        }
    }

    #[test]
    fn names_cover_what_is_under_them() {
        for list in ["example.com", ".example.com", "a, example.com", "EXAMPLE.com.", "b\texample.com"] {
            assert!(covers(list, "example.com", 80), "{list}");
            assert!(covers(list, "www.Example.com.", 80), "{list}");
            assert!(!covers(list, "badexample.com", 80), "{list}");
            assert!(!covers(list, "example.com.evil", 80), "{list}");
        }
        assert!(covers("*", "anything", 1) && covers("a,*", "anything", 1));
        assert!(!covers("", "a", 1) && !covers(" , ", "a", 1));
    }

    #[test]
    fn addresses_and_networks() {
        assert!(covers("192.0.2.1", "192.0.2.1", 80));
        assert!(!covers("2.1", "192.0.2.1", 80), "an address is no name");
        assert!(covers("10.0.0.0/8", "10.1.2.3", 80) && !covers("10.0.0.0/8", "11.1.2.3", 80));
        assert!(covers("2001:db8::1", "[2001:db8::1]", 80) && covers("[2001:DB8::1]", "2001:db8:0::1", 80));
        assert!(
            covers("2001:db8::/32", "2001:db8:1::1", 80) && covers("[2001:db8::]/32", "[2001:db8::2]", 1)
        );
        assert!(covers("10.0.0.0/8", "::ffff:10.0.0.1", 80));
        assert!(covers("fe80::1", "fe80::1%eth0", 80));
        assert!(!covers("10.0.0.0/8", "ten.example", 80), "nothing is looked up");
    }

    #[test]
    fn ports() {
        assert!(covers("example.com:8080", "www.example.com", 8080));
        assert!(!covers("example.com:8080", "www.example.com", 80));
        assert!(covers("[::1]:8080", "::1", 8080) && !covers("[::1]:8080", "::1", 1));
        assert!(covers("*:8080", "x", 8080) && covers("127.0.0.1:1", "127.0.0.1", 1));
        assert!(covers("::1", "::1", 7));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for list in
            ["10.0.0.0/33", "a:b", "a:0", "a:65536", "*.example.com", "[::1", ".", "10.0.0/8", ":80", "a@b"]
        {
            assert!(NoProxy::parse(list).is_err(), "{list}");
        }
    }
}
