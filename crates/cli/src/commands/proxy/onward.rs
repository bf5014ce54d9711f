//! Where a proxy goes on to, and how.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri as HttpUri;
use tuyau::Target;
use tuyau::http::{Client, STACKS, Scheme, Versions};

use crate::app::App;
use crate::cli::Connecting;
use crate::commands::serve::has_tls;
use crate::exit::Failure;
use crate::masked::{is_cut_short, masked};
use crate::route::{Routed, route};
use crate::told;
use crate::web::{CUT_SHORT, no_uri_nor_url, shown};

/// What lies beyond a proxy.
#[derive(Debug)]
pub(super) struct Beyond {
    pub(super) client: Client,
    /// The only server, if there is but one.
    pub(super) server: Option<HttpUri>,
    /// What is dialled first, as far as that is known.
    pub(super) first: Option<(String, u16)>,
}

/// Whatever clients ask for, by TCP.
pub(super) fn anywhere(app: &App, connecting: &Connecting, idle: Duration) -> Result<Beyond, Failure> {
    #[cfg(any(feature = "socks5", feature = "http"))]
    if connecting.proxy_from_env {
        return Err(Failure::Usage(
            "--proxy-from-env has no use without --to: name the next proxy by --via".into(),
        ));
    }
    told::of_http();
    let Routed { uri, ctx, .. } = route("tcp://localhost", connecting, None)?;
    let first = uri.hops().first().and_then(|hop| hop.host().zip(hop.port()));
    let stacks = tuyau::http_stacks(uri.clone(), uri)?;
    let client = timed(app, Client::new(ctx.with(&STACKS, stacks)), connecting, idle);
    Ok(Beyond { client, server: None, first })
}

/// The one server at `to`, by its stack.
pub(super) fn onward(
    app: &App,
    to: &str,
    connecting: &Connecting,
    (http1, http2): (bool, bool),
    idle: Duration,
) -> Result<Beyond, Failure> {
    told::of_http();
    let (stack, asked) = stack_of(to)?;
    let connecting = &asked.map_or_else(|| connecting.clone(), |scheme| connecting.asking(scheme));
    let Routed { uri, ctx, .. } = route(&stack, connecting, None)?;
    let scheme = if has_tls(&uri) { Scheme::Https } else { Scheme::Http };
    let host = uri.host().unwrap_or_else(|| "localhost".into());
    let port = uri.port().unwrap_or(scheme.port());
    let name = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let server = format!("{scheme}://{name}:{port}/")
        .parse()
        .map_err(|error| Failure::Usage(format!("--to {} can't be used: {error}", masked(to))))?;
    let dialled =
        uri.hops().first().map_or(uri.host().map(|host| (host, port)), |hop| hop.host().zip(hop.port()));
    let stacks = tuyau::http_stacks(uri.clone(), uri)?;
    let client =
        timed(app, Client::new(ctx.with(&STACKS, stacks)), connecting, idle).versions(match (http1, http2) {
            (true, _) => Versions::Http1,
            (_, true) => Versions::Http2,
            _ => Versions::All,
        });
    Ok(Beyond { client, server: Some(server), first: dialled })
}

fn timed(app: &App, client: Client, connecting: &Connecting, idle: Duration) -> Client {
    let client = shown(app, client).first_byte_timeout(Some(idle)).idle_timeout(Some(idle));
    match connecting.connect_timeout {
        // It is the context's.
        Some(_) => client.connect_timeout(None),
        None => client,
    }
}

/// The URL of a server as the stack that leads there, and its scheme; what is none already is one.
fn stack_of(to: &str) -> Result<(String, Option<Scheme>), Failure> {
    let unusable = |why: &str| Failure::Usage(format!("--to {} can't be used: {why}", masked(to)));
    let (transport, scheme) = match to.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => ("tcp", Scheme::Http),
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => ("tls", Scheme::Https),
        _ => {
            return match tuyau::uri(to) {
                Ok(_) => Ok((to.into(), None)),
                Err(error) => Err(Failure::Usage(no_uri_nor_url(&error))),
            };
        }
    };
    if is_cut_short(to) {
        return Err(unusable(CUT_SHORT));
    }
    let url: HttpUri = to.parse().map_err(|_| unusable("it is no URL"))?;
    if url.path_and_query().is_some_and(|path| path != "/") {
        return Err(unusable("requests go to the path that they ask for, and to no other"));
    }
    match url.authority() {
        Some(authority)
            if !authority.host().is_empty()
                && !authority.as_str().contains('@')
                && (authority.port_u16().is_some() || authority == authority.host()) =>
        {
            let port = authority.port_u16().unwrap_or(scheme.port());
            Ok((format!("{transport}://{}:{port}", authority.host()), Some(scheme)))
        }
        _ => Err(unusable("it is to be a host, and perhaps a port")),
    }
}

/// A proxy that goes on to itself would never end.
pub(super) fn refuse_itself(first: &Option<(String, u16)>, local: &Target) -> Result<(), Failure> {
    let (Some((host, port)), Target::Addr(local)) = (first, local) else { return Ok(()) };
    let host: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok().or_else(|| {
        host.eq_ignore_ascii_case("localhost").then_some(if local.is_ipv4() {
            IpAddr::from([127, 0, 0, 1])
        } else {
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST)
        })
    });
    let same =
        host.is_some_and(|host| host == local.ip() || (local.ip().is_unspecified() && host.is_loopback()));
    match same && *port == local.port() {
        true => Err(Failure::Usage(format!("it would go on to itself: {local} is where it listens"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_stacks() {
        let of = |to| stack_of(to).ok().map(|(stack, _)| stack);
        assert_eq!(of("http://a").as_deref(), Some("tcp://a:80"));
        assert_eq!(of("HTTPS://[::1]/").as_deref(), Some("tls://[::1]:443"));
        assert_eq!(of("https://a:8443").as_deref(), Some("tls://a:8443"));
        assert_eq!(of("unix:/run/x").as_deref(), Some("unix:/run/x"));
        for bad in ["http://a/x", "http://u@a", "http://", "http://a:b"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn itself_is_recognised() {
        let is = |host: &str, port, local: &str| {
            refuse_itself(&Some((host.into(), port)), &Target::Addr(local.parse().unwrap())).is_err()
        };
        assert!(
            is("localhost", 1, "127.0.0.1:1")
                && is("localhost", 1, "[::1]:1")
                && is("127.0.0.1", 1, "0.0.0.0:1")
        );
        assert!(
            !is("localhost", 2, "127.0.0.1:1")
                && !is("192.0.2.1", 1, "0.0.0.0:1")
                && !is("proxy", 1, "[::1]:1")
        );
    }
}
