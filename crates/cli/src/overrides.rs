//! `-4`, `-6` and `--resolve`: what derives addresses in place of the default context.

use std::net::IpAddr;
use std::str::FromStr;

use tuyau::names::{HOST, NET, POLICY, PORT};
use tuyau::{ConnectError, ConnectErrorKind, Context, Many, Stop, decline, opt, req};
use tuyau_tokio::IP;

/// One `--resolve`: the addresses of a host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// `*` is any.
    host: String,
    port: u16,
    addresses: Vec<IpAddr>,
}

impl Pinned {
    pub(crate) fn fits(&self, host: &str, port: u16) -> bool {
        let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        (self.host == "*" || bare(&self.host) == bare(host)) && self.port == port
    }
}

/// The addresses that the last fitting one of `all` has; none if no one fits.
pub(crate) fn pinned(all: &[Pinned], host: &str, port: Option<u16>) -> Vec<IpAddr> {
    let last = all.iter().rfind(|pinned| port.is_some_and(|port| pinned.fits(host, port)));
    last.map_or_else(Vec::new, |pinned| pinned.addresses.clone())
}

impl FromStr for Pinned {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = "it is HOST:PORT:ADDR, like example.com:443:192.0.2.1 or *:80:[2001:db8::1],192.0.2.1";
        let (host, rest) = match text.strip_prefix('[') {
            Some(literal) => literal.split_once("]:").ok_or(wrong)?,
            None => text.split_once(':').ok_or(wrong)?,
        };
        let (port, addresses) = rest.split_once(':').ok_or(wrong)?;
        if host.is_empty() {
            return Err(wrong.into());
        }
        let port = match port.parse() {
            Ok(port @ 1..) => port,
            _ => return Err(format!("`{port}` is no port")),
        };
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
            bare.parse().map_err(|_| format!("`{text}` is no IP address"))
        };
        let addresses = addresses.split(',').map(address).collect::<Result<_, _>>()?;
        Ok(Self { host: host.into(), port, addresses })
    }
}

/// The address family that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    fn has(self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == (self == Self::V4)
    }

    /// Those of `found` that are of this family; an error if that leaves none.
    fn of(self, found: Vec<IpAddr>, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let had = found.len();
        let kept: Vec<IpAddr> = found.into_iter().filter(|ip| self.has(ip)).collect();
        if !kept.is_empty() {
            return Ok(kept);
        }
        let (version, other) = if self == Self::V4 { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
        let what = match had {
            0 => format!("`{host}` has no address"),
            _ => format!("`{host}` has no {version} address"),
        };
        Err(ConnectError::new(ConnectErrorKind::NotFound, what)
            .with_hint(format!("{} leaves its {other} addresses out: do without it", self.option())))
    }
}

/// `ctx` with what `-4` or `-6` says about where addresses come from.
///
/// It looks the name up itself, and declines only if the net does that: an older derivation would give the
/// addresses of the other family.
pub(crate) fn with_family(ctx: Context, family: Family) -> Context {
    ctx.derive_many(&IP, (req(&HOST), req(&NET), opt(&POLICY)), move |(host, net, policy)| async move {
        let found = match host.split('%').next().unwrap_or_default().parse() {
            Ok(literal) => vec![literal],
            Err(_) => match net.lookup(&host, &policy.unwrap_or_default()).await {
                Err(error) if error.kind() == ConnectErrorKind::Unsupported => {
                    return Err(decline(format!("{} looks names up itself", net.describe())));
                }
                found => all(found?).await?,
            },
        };
        Ok::<_, Stop>(family.of(found, &host)?)
    })
}

/// `ctx` with what `--resolve` says about where addresses come from. It declines for any other host
/// or port, so that an older derivation looks it up.
pub(crate) fn with_pinned(ctx: Context, pinned: Vec<Pinned>, family: Option<Family>) -> Context {
    ctx.derive_many(&IP, (req(&HOST), req(&PORT)), move |(host, port)| {
        let found = pinned.iter().rfind(|pinned| pinned.fits(&host, port)).cloned();
        async move {
            let Some(found) = found else {
                return Err(decline(format!("no --resolve is about {host}:{port}")));
            };
            match family {
                Some(family) => Ok(family.of(found.addresses, &host)?),
                None => Ok(found.addresses),
            }
        }
    })
}

async fn all(found: Many<IpAddr>) -> Result<Vec<IpAddr>, Stop> {
    match found {
        Many::All(addresses) => Ok(addresses),
        Many::Stream(mut stream) => {
            let mut addresses = Vec::new();
            while let Some(next) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
                addresses.push(next?);
            }
            Ok(addresses)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_is_parsed_as_curl_has_it() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let pinned: Pinned = "Example.com:443:192.0.2.1,[2001:db8::1],2001:db8::2".parse().unwrap();
        assert_eq!(pinned.addresses, ips(&["192.0.2.1", "2001:db8::1", "2001:db8::2"]));
        assert!(pinned.fits("example.COM", 443) && !pinned.fits("example.com", 80));
        assert!(pinned.fits("example.com.", 443), "the dot only says that it is all of the name");
        assert!(!pinned.fits("example.org", 443));
        assert!("*:80:::1".parse::<Pinned>().unwrap().fits("anything", 80));
        assert!("[::1]:80:127.0.0.1".parse::<Pinned>().unwrap().fits("::1", 80));
        for bad in
            ["", "a", "a:80", "a:80:", "a:0:::1", "a:x:::1", ":80:::1", "a:80:b", "a:80:::1,", "a:80:[::1"]
        {
            assert!(bad.parse::<Pinned>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_family_that_has_no_address_is_an_error_not_the_other_family() {
        let both = vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        assert_eq!(Family::V4.of(both.clone(), "x").unwrap(), both[1..]);
        assert_eq!(Family::V6.of(both.clone(), "x").unwrap(), both[..1]);
        let error = Family::V6.of(both[1..].to_vec(), "x").unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("-6"));
    }
}
