//! HTTP: which client asks for a URL, by what the options say.

use clap::Args;
use http::Uri as HttpUri;
use http::uri::Authority;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tuyau::http::{Client, Error, STACKS, Scheme, Stage, Versions};
use tuyau::{UriError, UriErrorKind};
use unicode_width::UnicodeWidthStr;

use crate::app::App;
use crate::cli::Connecting;
use crate::exit::{Chain, Failure};
use crate::masked::{is_cut_short, masked};
use crate::output::wrapped;
use crate::relay::tls_hint;
use crate::route::{Routed, route};
use crate::told;

/// By what a URL is asked for.
#[derive(Args, Clone, Debug)]
pub(crate) struct Way {
    /// Connect to the Unix socket PATH, whatever the URL's host; http+unix://%2Frun%2Fx.sock/ says the same
    #[arg(long, value_name = "PATH", conflicts_with = "over")]
    pub(crate) unix_socket: Option<String>,
    /// Connect by URI, whatever the URL's host: unix:, exec:, ssh://, …; for https with TLS over it
    #[arg(long, value_name = "URI")]
    pub(crate) over: Option<String>,
    /// Speak HTTP/1.1 only
    #[arg(long = "http1.1", conflicts_with = "http2")]
    pub(crate) http1: bool,
    /// Speak HTTP/2 only, without TLS by prior knowledge
    #[arg(long = "http2")]
    pub(crate) http2: bool,
    #[command(flatten)]
    pub(crate) connecting: Connecting,
}

/// A URL, and the client to ask for it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) url: String,
    pub(crate) client: Client,
}

/// What `way` makes of `url`. `follow`: whether a redirect may lead to the other scheme.
pub(crate) fn asked(app: &App, url: &str, way: &Way, follow: bool) -> Result<Asked, Failure> {
    let Way { unix_socket, over, http1, http2, connecting } = way;
    let Site { url, scheme, host, socket } = Site::of(url)?;
    let over = match (unix_socket, over, socket) {
        (Some(path), ..) => {
            Some(format!("unix:{}", utf8_percent_encode(path, NON_ALPHANUMERIC)).replace("%2F", "/"))
        }
        (None, Some(uri), None) => Some(uri.clone()),
        (None, Some(_), Some(_)) => {
            return Err(Failure::Usage(format!(
                "--over has no use with {}, which names a socket itself",
                masked(&url)
            )));
        }
        (None, None, socket) => socket,
    };
    let uri = |scheme| transport(over.as_deref(), scheme, &host);
    let to = |scheme: Scheme, connecting: &Connecting| {
        let follow = over.is_none().then_some(follow);
        route(&uri(scheme), &Connecting { follow, ..connecting.asking(scheme) }, None)
    };
    let in_clear = || {
        let mut connecting = connecting.clone();
        let tls = &mut connecting.tls;
        (tls.tls, tls.cacert, tls.cert, tls.key, tls.sni, tls.alpn) = (None, None, None, None, None, None);
        connecting
    };
    let (clear, tls, ctx) = match (scheme, follow) {
        (Scheme::Http, false) => {
            let Routed { uri, ctx, .. } = to(Scheme::Http, connecting)?;
            (uri.clone(), uri, ctx)
        }
        (Scheme::Http, true) => {
            let Routed { uri, ctx, .. } = to(Scheme::Http, &in_clear())?;
            let Routed { uri: tls, .. } = to(Scheme::Https, connecting)?;
            (uri, tls, ctx)
        }
        (Scheme::Https, false) => {
            let Routed { uri, ctx, .. } = to(Scheme::Https, connecting)?;
            (uri.clone(), uri, ctx)
        }
        (Scheme::Https, true) => {
            let Routed { uri: tls, ctx, .. } = to(Scheme::Https, connecting)?;
            let Routed { uri, .. } = to(Scheme::Http, &in_clear())?;
            (uri, tls, ctx)
        }
    };
    let client = Client::new(ctx.with(&STACKS, tuyau::http_stacks(clear, tls)?))
        .connect_timeout(None)
        .first_byte_timeout(None)
        .idle_timeout(None)
        .redirects(0)
        .decompress(false)
        .versions(match (http1, http2) {
            (true, _) => Versions::Http1,
            (_, true) => Versions::Http2,
            _ => Versions::All,
        });
    Ok(Asked { url, client: shown(app, client) })
}

/// What a URL of HTTP can begin with.
const SCHEMES: [&str; 4] = ["http", "https", "http+unix", "https+unix"];

/// What is wrong with what is no URI, where a URL of HTTP can stand as well.
pub(crate) fn no_uri_nor_url(error: &UriError) -> String {
    let said = error.to_string();
    let Some(hint) = error.hint().filter(|_| error.kind() == UriErrorKind::UnknownScheme) else {
        return said;
    };
    match hint.split_once("? HTTP is a protocol") {
        Some((meant, _)) => said.replace(hint, &format!("{meant}?")),
        None if hint.contains("schemes are ") => format!("{said}; for HTTP {}", SCHEMES.join(", ")),
        None => said,
    }
}

/// Whether `text` is a URL of HTTP, by its scheme.
pub(crate) fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| SCHEMES.iter().any(|it| it.eq_ignore_ascii_case(scheme)))
}

/// The scheme of HTTP that was meant by the one of `url`.
fn meant(url: &str) -> Option<&'static str> {
    let error = tuyau::uri(url).err()?;
    let meant = error.hint()?.strip_prefix("did you mean ")?.split('?').next()?;
    SCHEMES.into_iter().find(|it| *it == meant)
}

/// The way to the server of a URL of HTTP, and what a client offers there; `None` if `uri` is no such URL.
pub(crate) fn route_to_site(uri: &str, options: &Connecting) -> Option<Result<Routed, Failure>> {
    if !is_url(uri) {
        return None;
    }
    let to = |Site { scheme, host, socket, .. }: Site| {
        let mut uri = transport(socket.as_deref(), scheme, &host);
        if scheme == Scheme::Https && options.tls.alpn.is_none() {
            uri.push_str("?alpn=h2,http/1.1");
        }
        let follow = socket.is_none().then_some(false);
        route(&uri, &Connecting { follow, ..options.asking(scheme) }, None)
    };
    Some(Site::of(uri).and_then(to))
}

/// What is said where the end of a host is in a password.
pub(crate) const CUT_SHORT: &str = "in a password, `/`, `?` and `#` are written %2F, %3F and %23";

/// Where a URL of HTTP leads.
struct Site {
    /// Without a socket in it.
    url: String,
    scheme: Scheme,
    host: Authority,
    /// The URI of the socket that the URL named.
    socket: Option<String>,
}

impl Site {
    fn of(url: &str) -> Result<Self, Failure> {
        let (url, socket) = socket_of(url)?;
        told::of_http();
        // As people write them and browsers take them: with spaces, and names and paths in any script.
        let is_written_out = |byte: u8| byte.is_ascii() && byte != b' ';
        let url = match url.bytes().all(is_written_out) {
            true => url,
            false => url::Url::parse(&url).map_err(|error| unusable(&url, error))?.into(),
        };
        let parsed: HttpUri = match url.parse() {
            Ok(parsed) => parsed,
            Err(_) if is_cut_short(&url) => return Err(unusable(&url, CUT_SHORT)),
            Err(error) => return Err(unusable(&url, error)),
        };
        let scheme = match parsed.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => {
                let why = format!("its scheme is to be one of {}", SCHEMES.join(", "));
                return Err(unusable(&url, meant(&url).map_or(why, |it| format!("did you mean {it}?"))));
            }
        };
        let Some(host) = parsed.authority().filter(|it| !it.host().is_empty()) else {
            return Err(unusable(&url, "it has no host"));
        };
        if is_cut_short(&url) {
            return Err(unusable(&url, CUT_SHORT));
        }
        check_port(scheme, host)?;
        Ok(Self { host: host.clone(), url, scheme, socket })
    }
}

fn name(scheme: Scheme) -> &'static str {
    if scheme == Scheme::Http { "http" } else { "https" }
}

/// The URI of what carries HTTP of this scheme to `host`, or to wherever `over` leads.
fn transport(over: Option<&str>, scheme: Scheme, host: &Authority) -> String {
    match (over, scheme) {
        (Some(over), Scheme::Http) => over.into(),
        (Some(over), Scheme::Https) => format!("tls+{over}"),
        (None, scheme) => {
            let port = host.port_u16().unwrap_or(scheme.port());
            let transport = if scheme == Scheme::Http { "tcp" } else { "tls" };
            format!("{transport}://{}:{port}", host.host())
        }
    }
}

/// A port that is none is no other port.
fn check_port(scheme: Scheme, authority: &Authority) -> Result<(), Failure> {
    let host_and_port = authority.as_str().rsplit('@').next().unwrap_or_default();
    let scheme = name(scheme);
    let known = "tcp";
    match tuyau::uri(&format!("{known}://{}", host_and_port.trim_end_matches(':'))) {
        Err(error) if error.kind() == UriErrorKind::Port => {
            let (span, shown) = (error.span(), format!("{scheme}://{host_and_port}"));
            let (start, end) = (span.start - known.len(), span.end - known.len());
            let column = |at: usize| shown[..at + scheme.len()].width();
            let (skip, marks) = (column(start), column(end) - column(start));
            Err(Failure::Usage(format!(
                "{}\n  {shown}\n  {:skip$}{:^<marks$}\n  a port is a number from 1 to 65535",
                error.message(),
                "",
                ""
            )))
        }
        _ => Ok(()),
    }
}

/// The client, which shows how its connections came about, if that is wanted.
pub(crate) fn shown(app: &App, client: Client) -> Client {
    let out = app.out;
    match app.verbose {
        true => client.on_connect(move |report| {
            out.tell(wrapped(&told::report(report.clone()), &std::io::stderr()));
        }),
        false => client,
    }
}

/// The URL without the socket in it, and that as a URI. A URL without a scheme is one of `http`, as curl has it.
fn socket_of(url: &str) -> Result<(String, Option<String>), Failure> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok((format!("http://{url}"), None)) };
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http+unix" => "http",
        "https+unix" => "https",
        _ => return Ok((url.into(), None)),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (socket, path) = rest.split_at(end);
    if socket.is_empty() {
        return Err(unusable(url, "it has no socket: http+unix://%2Frun%2Fx.sock/path"));
    }
    Ok((
        format!("{scheme}://localhost{path}"),
        Some(format!("unix:{socket}").replace("%2F", "/").replace("%2f", "/")),
    ))
}

fn unusable(url: &str, why: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("the URL {} can't be used: {why}", masked(url)))
}

/// A request that has no response, or no whole one.
pub(crate) fn failed(app: &App, error: &Error) -> Failure {
    if let Some(resolution) = error.resolution() {
        app.show(&resolution.report());
    }
    let said = said(error);
    match error.stage() {
        Stage::Request => Failure::Usage(said),
        Stage::Send | Stage::Wait | Stage::Body => Failure::Broken(said),
        _ => Failure::Failed(said),
    }
}

/// The error and its causes, and what to do.
pub(crate) fn said(error: &Error) -> String {
    // A resolution has said what to do.
    let hint = tls_hint(error).filter(|_| error.resolution().is_none());
    format!("{}{}", Chain(error), hint.map(|hint| format!("\n  {hint}")).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_in_urls() {
        let of = |url| socket_of(url).expect("a URL");
        assert_eq!(of("example.org/x"), ("http://example.org/x".into(), None));
        assert_eq!(of("https://a/x"), ("https://a/x".into(), None));
        let socket = Some("unix:/run/x%20y.sock".to_owned());
        assert_eq!(of("http+unix://%2Frun%2Fx%20y.sock/v1?q"), ("http://localhost/v1?q".into(), socket));
        assert_eq!(of("https+unix://%2fs"), ("https://localhost".into(), Some("unix:/s".into())));
        assert!(socket_of("http+unix:///v1").is_err());
    }
}
