//! The proxies that the environment asks for.

use tuyau_proxy::{EnvProxyError, ProxyEnv};

use crate::{Uri, UriError, Via};

/// Why the proxy that the environment asks for can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum EnvError {
    /// A variable makes no sense.
    Variable(EnvProxyError),
    /// It asks for a proxy that this build lacks.
    Uri(UriError),
}

impl Via {
    /// The proxy that variables of the environment, which `get` gives, ask for on the way to `uri`:
    /// `ALL_PROXY`, `HTTPS_PROXY`, … but for what `NO_PROXY` excepts. `None` if there is none, or if `uri` has
    /// no host.
    ///
    /// A destination over TLS goes by what is set for `https`, others by what is set for their own scheme, like
    /// `tcp_proxy`, before `ALL_PROXY`. Nothing is read unless this is called, and reports say which variable set the hop.
    ///
    /// # Errors
    /// If a variable that matters makes no sense, or asks for what this build lacks. It must not be taken for
    /// "directly".
    pub fn from_env(uri: &Uri, get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, EnvError> {
        let scheme = uri.layers().next().map_or(uri.scheme().name, |layer| layer.name);
        Self::from_env_as(if scheme == "tls" { "https" } else { scheme }, uri, get)
    }

    /// The same for a protocol that has variables of its own, whatever carries it: `http_proxy` for `http`.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_env_as(
        scheme: &str,
        uri: &Uri,
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, EnvError> {
        let Some(host) = uri.host() else { return Ok(None) };
        let env = ProxyEnv::read_for(&[scheme], get);
        let proxy =
            env.proxy_for(scheme, &host, uri.port().unwrap_or_default()).map_err(EnvError::Variable)?;
        let Some(proxy) = proxy else { return Ok(None) };
        let host = match proxy.host().contains(':') {
            true => format!("[{}]", proxy.host()),
            false => proxy.host().to_owned(),
        };
        let hop =
            crate::via(&format!("{}://{host}:{}", proxy.scheme(), proxy.port())).map_err(EnvError::Uri)?;
        Ok(Some(hop.set_by(proxy)))
    }
}

impl std::fmt::Display for EnvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(error) => error.fmt(f),
            Self::Uri(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EnvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Variable(error) => error.source(),
            Self::Uri(error) => error.source(),
        }
    }
}
