//! Which proxy the environment asks for: the variables of curl.

mod no_proxy;

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tuyau_core::{Hop, NetworkParseError};

use crate::{Credentials, HttpConnect, Socks5};
use no_proxy::{NoProxy, normalised};

/// The proxy variables of an environment, as curl reads them.
///
/// For a target of scheme `s`, the first of these that is set and not empty says which proxy:
/// `s_proxy`, `S_PROXY`, `all_proxy`, `ALL_PROXY`. Of `http_proxy` only the lower case counts: `HTTP_PROXY`
/// is what a CGI script gets for a client's header `Proxy:`. `ws` and `wss` go by what is set for `http`
/// and `https` if there is nothing for them. Targets that `no_proxy`, or else `NO_PROXY` lists are connected
/// directly:
///
/// * `*`: all;
/// * `example.com` or `.example.com`: this name, and all names under it;
/// * `192.0.2.1`, `[2001:db8::1]`, `10.0.0.0/8`: these addresses, where the target is given as one;
/// * each with a port, `example.com:8080`: at this port only.
///
/// They are separated by commas or spaces. A value that makes no sense is an error that names its variable,
/// once a target that it matters to is asked about.
#[derive(Clone, Default)]
pub struct ProxyEnv {
    /// The variables that are set, by name, and not empty.
    set: Vec<(String, String)>,
}

/// The schemes that variables are read for at once. Others are asked for by their own, see
/// [`ProxyEnv::read`].
const SCHEMES: [&str; 5] = ["http", "https", "ftp", "ws", "wss"];

/// A proxy that a variable of the environment asks for.
#[derive(Clone)]
pub struct EnvProxy {
    variable: Arc<str>,
    scheme: EnvScheme,
    host: Arc<str>,
    port: u16,
    credentials: Option<Credentials>,
}

/// How one talks to a proxy that the environment asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EnvScheme {
    /// [`HttpConnect`]; this is what a value without a scheme means.
    Http,
    /// [`HttpConnect`], [over TLS](HttpConnect::over_tls).
    Https,
    /// [`Socks5`], names looked up here.
    Socks5,
    /// [`Socks5`], names looked up by the proxy.
    Socks5h,
}

/// A variable whose value can't be used. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvProxyError {
    variable: String,
    what: String,
    source: Option<NetworkParseError>,
}

impl ProxyEnv {
    /// Reads the variables by `get`, which gives the value of the variable of this name:
    /// `ProxyEnv::read(|name| std::env::var(name).ok())`. What is not Unicode should be given lossily, so
    /// that it is an error rather than nothing.
    ///
    /// The variables of the schemes `http`, `https`, `ftp`, `ws` and `wss` are read, and those for all.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        Self::read_for(&SCHEMES, get)
    }

    /// Like [`read`](Self::read), for targets of these schemes.
    pub fn read_for(schemes: &[&str], get: impl Fn(&str) -> Option<String>) -> Self {
        let mut read: Vec<String> = schemes.iter().flat_map(|scheme| variables(scheme)).collect();
        read.extend(["no_proxy".into(), "NO_PROXY".into()]);
        read.sort_unstable();
        read.dedup();
        let set = read
            .into_iter()
            .filter_map(|name| get(&name).map(|value| (name, value)).filter(|(_, value)| !value.is_empty()))
            .collect();
        Self { set }
    }

    /// The proxy for a target of this scheme, host and port; `None` if it is to be connected directly:
    /// no variable asks for a proxy, or one excepts the target ([`excepted`](Self::excepted)).
    ///
    /// `host` is a name or an address, an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// If the value of a variable that matters here makes no sense. It must not be taken for "directly".
    pub fn proxy_for(&self, scheme: &str, host: &str, port: u16) -> Result<Option<EnvProxy>, EnvProxyError> {
        let scheme = scheme.to_ascii_lowercase();
        let Some((variable, value)) = variables(&scheme).find_map(|name| self.get(&name)) else {
            return Ok(None);
        };
        if self.excepted(host, port)?.is_some() {
            return Ok(None);
        }
        parse(variable, value).map(Some)
    }

    /// Whether this target is excepted from proxies, and by which variable.
    ///
    /// # Errors
    /// If the variable's value makes no sense.
    pub fn excepted(&self, host: &str, port: u16) -> Result<Option<&str>, EnvProxyError> {
        let Some((variable, value)) = self.get("no_proxy").or_else(|| self.get("NO_PROXY")) else {
            return Ok(None);
        };
        let list = NoProxy::parse(value).map_err(|bad| EnvProxyError {
            variable: variable.to_owned(),
            what: bad.what,
            source: bad.source,
        })?;
        Ok(list.covers(&normalised(host), port).then_some(variable))
    }

    /// The variables that are set, of those that were read.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.set.iter().map(|(name, _)| name.as_str())
    }

    fn get(&self, name: &str) -> Option<(&str, &str)> {
        let (name, value) = self.set.iter().find(|(set, _)| set == name)?;
        Some((name, value))
    }
}

/// The variables that may name the proxy for this scheme, in order.
fn variables(scheme: &str) -> impl Iterator<Item = String> + use<> {
    let fallback = match scheme {
        "ws" => Some("http"),
        "wss" => Some("https"),
        _ => None,
    };
    let own = [Some(scheme.to_owned()), fallback.map(str::to_owned)];
    let own = own.into_iter().flatten().flat_map(|scheme| {
        let lower = format!("{scheme}_proxy");
        let upper = (scheme != "http").then(|| lower.to_ascii_uppercase());
        [Some(lower), upper]
    });
    own.flatten().chain(["all_proxy".to_owned(), "ALL_PROXY".to_owned()])
}

fn parse(variable: &str, value: &str) -> Result<EnvProxy, EnvProxyError> {
    let wrong = |what: String| EnvProxyError { variable: variable.to_owned(), what, source: None };
    let value = value.trim();
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        // The default ports are curl's.
        "http" => (EnvScheme::Http, 1080),
        "https" => (EnvScheme::Https, 443),
        "socks5" => (EnvScheme::Socks5, 1080),
        "socks5h" => (EnvScheme::Socks5h, 1080),
        "socks" | "socks4" | "socks4a" => {
            return Err(wrong(
                "asks for SOCKS4, which is not spoken here: write socks5h:// or socks5://".into(),
            ));
        }
        other => {
            let other = crate::error::line(other.as_bytes());
            return Err(wrong(format!(
                "has the unknown scheme `{other}`: write http, https, socks5 or socks5h"
            )));
        }
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (user_info, address) = match authority.rsplit_once('@') {
        Some((user_info, address)) => (Some(user_info), address),
        None => (None, authority),
    };
    if user_info.is_some_and(|user_info| user_info.contains(['/', '?', '#'])) {
        return Err(wrong(
            "has a /, ? or # before the @: is `://` missing after the scheme? In a user name or password they are \
             written %2F, %3F and %23"
                .into(),
        ));
    }
    if address.contains(['/', '?', '#']) {
        return Err(wrong("has a path, query or fragment, which means nothing for a proxy".into()));
    }
    let (host, port) = match address.rsplit_once(':') {
        // The colons of an IPv6 address are not before a port.
        Some((host, port)) if !port.contains(']') && (host.starts_with('[') || !host.contains(':')) => {
            let number = port.parse().ok().filter(|_| port.bytes().all(|c| c.is_ascii_digit()));
            let number = number.filter(|number| *number != 0);
            (host, number.ok_or_else(|| wrong("has a port that is none: it must be 1 to 65535".into()))?)
        }
        _ => (address, default_port),
    };
    let host = match host.strip_prefix('[') {
        Some(host) => {
            let ip = host.strip_suffix(']').filter(|host| {
                let (ip, _zone) = host.split_once('%').unwrap_or((host, ""));
                ip.parse::<std::net::Ipv6Addr>().is_ok()
            });
            ip.ok_or_else(|| wrong("has brackets around what is no IPv6 address".into()))?
        }
        None => host,
    };
    if host.is_empty() {
        return Err(wrong("names no host".into()));
    }
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "[]<>\"\\^`{|}".contains(c);
    if host.contains(is_odd)
        || (host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() && !host.contains('%'))
    {
        return Err(wrong("has a host that is no name and no address".into()));
    }
    let credentials = match user_info {
        None => None,
        Some(user_info) => {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            let decoded = |text: &str| {
                percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).map_err(|_| {
                    wrong("has a user name or password that is not UTF-8 once its escapes are decoded".into())
                })
            };
            Some(Credentials::new(decoded(user)?, decoded(password)?))
        }
    };
    Ok(EnvProxy { variable: variable.into(), scheme, host: host.into(), port, credentials })
}

impl EnvProxy {
    /// The variable that asks for it.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// How one talks to it. For [`EnvScheme::Https`] the context that reaches it must offer TLS: the hop
    /// refuses clear text.
    pub fn scheme(&self) -> EnvScheme {
        self.scheme
    }

    /// Where it is: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port; curl's default if the variable gives none: 443 for `https`, else 1080.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The hop: `via` it from a context that reaches [`host`](Self::host) and [`port`](Self::port).
    /// Reports say which variable set it.
    pub fn hop(&self) -> Box<dyn Hop> {
        let Self { variable, scheme, host: _, port: _, credentials } = self;
        match scheme {
            EnvScheme::Http | EnvScheme::Https => {
                let hop = HttpConnect::new().set_by(variable);
                let hop = if *scheme == EnvScheme::Https { hop.over_tls() } else { hop };
                Box::new(match credentials {
                    Some(credentials) => hop.with_credentials(credentials.clone()),
                    None => hop,
                })
            }
            EnvScheme::Socks5 | EnvScheme::Socks5h => {
                let hop = Socks5::new().set_by(variable);
                let hop = if *scheme == EnvScheme::Socks5h { hop.lookup_by_proxy() } else { hop };
                Box::new(match credentials {
                    Some(credentials) => hop.with_credentials(credentials.clone()),
                    None => hop,
                })
            }
        }
    }
}

impl fmt::Display for EnvScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        })
    }
}

/// `socks5h://127.0.0.1:1080 (set by ALL_PROXY)`.
impl fmt::Display for EnvProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, scheme, host, port, credentials: _ } = self;
        match host.contains(':') {
            true => write!(f, "{scheme}://[{host}]:{port} (set by {variable})"),
            false => write!(f, "{scheme}://{host}:{port} (set by {variable})"),
        }
    }
}

impl fmt::Debug for EnvProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EnvProxy({self})")
    }
}

impl fmt::Debug for ProxyEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The values may have passwords in them.
        f.debug_list().entries(self.variables()).finish()
    }
}

impl EnvProxyError {
    /// The variable.
    pub fn variable(&self) -> &str {
        &self.variable
    }
}

impl fmt::Display for EnvProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the environment variable {} {}", self.variable, self.what)
    }
}

impl std::error::Error for EnvProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
