//! What a command connects to, and in which context, from the options that say how.

use tuyau::names::{ATTEMPT_TIMEOUT, DEADLINE, POLICY};
use tuyau::{Allow, Context, KeyRef, Policy, Scheme, Uri, Via};

use crate::base;
#[cfg(feature = "tls")]
use crate::cli::ClientTls;
use crate::cli::{Connecting, Policies, Require, ServerTls};
use crate::exit::Failure;
#[cfg(feature = "tls")]
use crate::flags::{Part, Way};
use crate::overrides::{Family, Pinned, with_family, with_pinned};

/// Where to, with its hops, and the context to connect in.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) uri: Uri,
    pub(crate) ctx: Context,
    /// What to say of the way besides what its report says.
    pub(crate) note: Option<String>,
}

/// What `uri` and the options say. `default_port` is that of `uri` if it has none. An option that the way has
/// no use for is an error.
pub(crate) fn route(uri: &str, options: &Connecting, default_port: Option<u16>) -> Result<Routed, Failure> {
    route_from(None, uri, options, default_port)
}

/// The same, where `uri` may be a URL of HTTP as well: the way is the one to its server.
pub(crate) fn route_to(uri: &str, options: &Connecting) -> Result<Routed, Failure> {
    #[cfg(feature = "web")]
    if let Some(routed) = crate::web::route_to_site(uri, options) {
        return routed;
    }
    #[cfg(feature = "web")]
    if let Err(error) = tuyau::uri(uri) {
        return Err(Failure::Usage(crate::web::no_uri_nor_url(&error)));
    }
    route(uri, options, None)
}

/// The same, from what is listened on, which may take some of the options.
pub(crate) fn route_from(
    listen: Option<&mut Uri>,
    uri: &str,
    options: &Connecting,
    default_port: Option<u16>,
) -> Result<Routed, Failure> {
    let Connecting {
        ipv4,
        ipv6,
        connect_timeout,
        resolve,
        hops,
        #[cfg(any(feature = "socks5", feature = "http"))]
        proxy_from_env,
        scheme,
        follow,
        #[cfg(feature = "tls")]
        tls,
        #[cfg(feature = "dns")]
        dns,
        policy,
    } = options;
    let (uri, hops) = (typed(uri)?, hops.parse()?);
    #[cfg(all(feature = "tls", any(feature = "socks5", feature = "http")))]
    let is_site = scheme.is_some();
    // No hop takes the same options.
    #[cfg(all(feature = "tls", not(any(feature = "socks5", feature = "http"))))]
    let is_site = false;
    #[cfg(feature = "tls")]
    let (uri, hops) = give(tls, listen, hops, uri, is_site)?;
    #[cfg(not(feature = "tls"))]
    let _ = listen;
    let uri = hops.into_iter().fold(uri, Uri::via);
    #[cfg(any(feature = "socks5", feature = "http"))]
    let (uri, note) = if *proxy_from_env { through_environment(uri, *scheme)? } else { (uri, None) };
    #[cfg(not(any(feature = "socks5", feature = "http")))]
    let note = None;
    let mut ctx = base::context(&uri)?;
    #[cfg(feature = "dns")]
    if !dns.is_empty() {
        ctx = with_dns(ctx, dns)?;
    }
    if let Some(timeout) = connect_timeout {
        ctx = ctx.with(&DEADLINE, *timeout).with(&ATTEMPT_TIMEOUT, *timeout);
    }
    if let Some(policy) = self::policy(policy)? {
        ctx = ctx.with(&POLICY, policy);
    }
    let family = match (ipv4, ipv6) {
        (true, _) => Some(Family::V4),
        (_, true) => Some(Family::V6),
        _ => None,
    };
    let asked_here = asked_here(&uri, default_port);
    let anywhere = *follow == Some(true) && is_looked_up_here(&uri);
    if let Some(family) = family {
        if asked_here.is_empty() {
            return Err(unused(family.option(), &uri));
        }
        ctx = with_family(ctx, family);
    }
    #[cfg(feature = "dns")]
    if !dns.is_empty() && uri.hops().iter().any(|hop| hop.scheme().name == "tap") {
        return Err(Failure::Usage(format!(
            "--dns has no use with {uri}: the stack of tap: asks its own name servers, tap:…?dns=ADDRESS"
        )));
    }
    #[cfg(feature = "dns")]
    if !dns.is_empty()
        && !anywhere
        && asked_here.iter().all(|(host, _)| host.parse::<std::net::IpAddr>().is_ok())
    {
        return Err(Failure::Usage(format!(
            "--dns has no use with {uri}: no name is looked up here on the way"
        )));
    }
    if !resolve.is_empty() {
        if !anywhere {
            check_pinned(resolve, &asked_here, &uri, scheme.filter(|_| follow.is_some()))?;
        }
        ctx = with_pinned(ctx, resolve.clone(), family);
    }
    Ok(Routed { uri, ctx, note })
}

#[cfg(feature = "tls")]
fn give(
    options: &ClientTls,
    listen: Option<&mut Uri>,
    mut hops: Vec<Via>,
    mut uri: Uri,
    is_site: bool,
) -> Result<(Uri, Vec<Via>), Failure> {
    let parts = listen.into_iter().map(Part::Listen).chain(hops.iter_mut().map(Part::Hop));
    let target = if is_site { Part::Site(&mut uri) } else { Part::Connect(&mut uri) };
    let mut way = Way(parts.chain([target]).collect());
    let ClientTls { tls, cacert, cert, key, sni, alpn } = options;
    way.give_each("--tls", "backend", tls.as_deref())?;
    way.give("--cacert", "cacert", cacert.as_deref())?;
    way.give("--cert", "cert", cert.as_deref())?;
    way.give("--key", "key", key.as_deref())?;
    way.give("--sni", "sni", sni.as_deref())?;
    way.give("--alpn", "alpn", alpn.as_deref())?;
    Ok((uri, hops))
}

/// `uri`, through the proxy that the environment asks for.
#[cfg(any(feature = "socks5", feature = "http"))]
fn through_environment(uri: Uri, scheme: Option<&str>) -> Result<(Uri, Option<String>), Failure> {
    if !uri.scheme().network {
        return Err(Failure::Usage(format!(
            "--proxy-from-env has no use with {uri}, which no proxy leads to"
        )));
    }
    // What is not Unicode is an error, not nothing.
    let get = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let hop = match scheme {
        Some(scheme) => tuyau::Via::from_env_as(scheme, &uri, get),
        None => tuyau::Via::from_env(&uri, get),
    };
    match hop {
        Ok(Some(hop)) => Ok((uri.via(hop), None)),
        Ok(None) => {
            let env = tuyau::proxy::ProxyEnv::read(get);
            let host = uri.host().unwrap_or_default();
            let note = match env.excepted(&host, uri.port().unwrap_or_default()) {
                Ok(Some(variable)) => format!("no proxy: {variable} excepts {host}"),
                _ => "no proxy: no variable of the environment asks for one".into(),
            };
            Ok((uri, Some(note)))
        }
        Err(error) => Err(Failure::Usage(format!("--proxy-from-env: {}", crate::exit::Chain(&error)))),
    }
}

/// `ctx`, whose net looks names up by these servers.
#[cfg(feature = "dns")]
fn with_dns(ctx: Context, servers: &[std::net::SocketAddr]) -> Result<Context, Failure> {
    use tuyau::dns::{Config, Dns, Random, Server};
    let config = Config::new(servers.iter().copied().map(Server::at));
    let dns = Dns::new(config, tuyau_tokio::runtime(), Random::system())
        .map_err(|error| Failure::Usage(format!("--dns: {}", crate::exit::in_a_line(&error))))?;
    Ok(dns.on_host(tuyau_tokio::host()).bind(ctx))
}

fn unused(option: &str, uri: &Uri) -> Failure {
    Failure::Usage(format!("{option} has no use with {}: no IP address is chosen here on the way", way(uri)))
}

/// `tcp://db:5432 via ssh://bastion`: where to, and through what.
pub(crate) fn way(uri: &Uri) -> String {
    way_to(&uri.to_string(), uri)
}

/// The same, of `uri` that is shown so.
pub(crate) fn way_to(shown: &str, uri: &Uri) -> String {
    match uri.hops() {
        [] => shown.into(),
        hops => {
            let hops: Vec<_> = hops.iter().map(ToString::to_string).collect();
            format!("{shown} via {}", hops.join(","))
        }
    }
}

/// The hosts whose addresses are chosen on this machine, with their ports as far as they are known: those
/// that it dials, or looks up for a hop.
fn asked_here(uri: &Uri, default_port: Option<u16>) -> Vec<(String, Option<u16>)> {
    let hosts = uri.hops().iter().map(|hop| (hop.host(), hop.port()));
    let mut hosts: Vec<_> = hosts.chain([(uri.host(), uri.port().or(default_port))]).collect();
    // What comes after a hop is looked up there, but for what looks up here.
    let mut before = None;
    let mut hops = uri.hops().iter();
    hosts.retain(|_| std::mem::replace(&mut before, hops.next()).is_none_or(leaves_lookups));
    hosts.into_iter().filter_map(|(host, port)| Some((host?, port))).collect()
}

/// Whether the name of the target itself is looked up on this machine.
pub(crate) fn is_looked_up_here(uri: &Uri) -> bool {
    uri.hops().last().is_none_or(leaves_lookups)
}

/// Whether what comes after `hop` is looked up before it.
fn leaves_lookups(hop: &Via) -> bool {
    ["socks5", "tap"].contains(&hop.scheme().name)
}

/// `scheme` is that of the URL of HTTP that is asked for.
fn check_pinned(
    pinned: &[Pinned],
    hosts: &[(String, Option<u16>)],
    uri: &Uri,
    scheme: Option<&str>,
) -> Result<(), Failure> {
    if hosts.is_empty() {
        return Err(unused("--resolve", uri));
    }
    let fits = |(host, port): &(String, Option<u16>)| {
        port.is_none_or(|port| pinned.iter().any(|pinned| pinned.fits(host, port)))
    };
    if hosts.iter().any(fits) {
        return Ok(());
    }
    let hosts: Vec<_> =
        hosts.iter().map(|(host, port)| format!("{host}:{}", port.unwrap_or_default())).collect();
    let mut shown = uri.to_string();
    if let (Some(scheme), Some(start)) = (scheme, shown.find("://")) {
        shown.replace_range(..start, scheme);
        shown.truncate(shown.find('?').unwrap_or(shown.len()));
    }
    Err(Failure::Usage(format!("--resolve has no use with {shown}: none is about {}", hosts.join(" or "))))
}

/// What is forbidden; `None` if nothing is.
fn policy(options: &Policies) -> Result<Option<Policy>, Failure> {
    let Policies { require, only_networks, only_protocols, no_local_lookup } = options;
    if require.is_none() && only_networks.is_empty() && only_protocols.is_empty() && !no_local_lookup {
        return Ok(None);
    }
    let mut policy = match require {
        Some(Require::Encrypted) => Policy::new().encrypted_end_to_end(),
        Some(Require::EncryptedHops) => Policy::new().encrypted_on_every_hop(),
        None => Policy::new(),
    };
    if *no_local_lookup {
        policy = policy.no_local_lookup();
    }
    if !only_networks.is_empty() {
        policy = policy.only_networks(only_networks.iter().copied());
    }
    if !only_protocols.is_empty() {
        let keys = only_protocols.iter().map(|name| protocols(name)).collect::<Result<Vec<_>, _>>()?;
        policy = policy.only_protocols(keys.concat());
    }
    Ok(Some(policy))
}

fn protocols(name: &str) -> Result<Vec<KeyRef>, Failure> {
    let known = || tuyau::schemes().iter().filter(|scheme| !scheme.protocols().is_empty());
    known().find(|known| known.name == name).map(Scheme::protocols).ok_or_else(|| {
        let names: Vec<_> = known().map(|known| known.name).collect();
        Failure::Usage(format!("--only-protocols {name}: the protocols are {}", names.join(", ")))
    })
}

/// A URI that the user typed, to whom everything is allowed.
pub(crate) fn typed(uri: &str) -> Result<Uri, Failure> {
    let uri = tuyau::uri(uri)?.allow(Allow::ALL);
    Ok(uri)
}

/// The same, to listen on for others.
#[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "what takes options is left out"))]
pub(crate) fn to_listen(uri: &str, options: Option<&ServerTls>) -> Result<Uri, Failure> {
    let mut uri = typed(uri)?;
    #[cfg(feature = "tls")]
    if let Some(ServerTls { tls, cert, key, client_ca, alpn }) = options {
        let mut way = Way(vec![Part::Listen(&mut uri)]);
        way.give("--tls", "backend", tls.as_deref())?;
        way.give("--cert", "cert", cert.as_deref())?;
        way.give("--key", "key", key.as_deref())?;
        way.give("--client-ca", "client-ca", client_ca.as_deref())?;
        way.give("--alpn", "alpn", alpn.as_deref())?;
    }
    #[cfg(not(feature = "tls"))]
    let _ = options;
    if uri.scheme().name == "mem" {
        return Err(Failure::Usage(format!(
            "{uri} is inside this process, where nobody else can connect to it: unix:@{} is for all on this machine",
            uri.to_string().trim_start_matches("mem:")
        )));
    }
    Ok(uri)
}
