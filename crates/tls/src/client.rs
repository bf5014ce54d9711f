//! The client's side: a layer value, configured.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::ServerName;
use tuyau_core::names::{ALPN, HOST, NEGOTIATED_ALPN, SERVER_NAME};
use tuyau_core::{BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Flow, Layer, Role};

use crate::backend;
use crate::config::{Backend, CERTIFICATE_REQUESTED, CIPHER, RESUMED, Settings, VERSION};
use crate::error::About;
use crate::handshake::{Wanted, handshake};
use crate::material::{Reader, misuse};
use crate::parts::{ClientParts, Verification};

/// How many settings a context keeps clients for.
const CLIENTS: usize = 8;

/// A client: its files read, its sessions kept. Clones share those.
///
/// As a [`Layer`] it takes the server's name from [`for_server`](Self::for_server), else from the context's
/// `SERVER_NAME`, else from its `HOST`; and likewise the protocols to offer by ALPN.
#[derive(Clone)]
pub struct TlsClient {
    shared: Arc<Shared>,
    name: Option<Arc<str>>,
    alpn: Option<Arc<[Vec<u8>]>>,
}

struct Shared {
    settings: Settings,
    files: Reader,
    verifies: bool,
    backend: Configured,
}

enum Configured {
    #[cfg(feature = "rustls")]
    Rustls(backend::rustls::Client),
    #[cfg(feature = "openssl")]
    OpenSsl(backend::openssl::Client),
}

impl TlsClient {
    /// Reads the files of `settings`.
    ///
    /// # Errors
    /// If one can't be read or used, or the backend is not of this build: names the file and the cause.
    pub fn new(settings: Settings) -> Result<Self, ConnectError> {
        Self::make(settings, true)
    }

    pub(crate) fn make(settings: Settings, verifies: bool) -> Result<Self, ConnectError> {
        let Settings { backend, roots, identity, min_version, resumption } = &settings;
        let mut files = Reader::default();
        let verification = match verifies {
            true => Verification::Trust(files.roots(roots)?),
            false => Verification::Dangerous,
        };
        let identity = identity.as_ref().map(|identity| files.identity(identity)).transpose()?;
        let parts =
            ClientParts { verification, identity, min_version: *min_version, resumption: *resumption };
        let backend = match backend {
            #[cfg(feature = "rustls")]
            Backend::Rustls => Configured::Rustls(backend::rustls::Client::new(parts)?),
            #[cfg(feature = "openssl")]
            Backend::OpenSsl => Configured::OpenSsl(backend::openssl::Client::new(parts)?),
            #[allow(unreachable_patterns)] // with both features
            absent => return Err(not_built(*absent)),
        };
        Ok(Self { shared: Arc::new(Shared { settings, files, verifies, backend }), name: None, alpn: None })
    }

    /// For this server: the name that its certificate must have, and that it is asked for (SNI, RFC 6066
    /// section 3; an address is not sent).
    pub fn for_server(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Offers these protocols by ALPN (RFC 7301), in order of preference.
    pub fn with_alpn(self, protocols: &[Vec<u8>]) -> Self {
        Self { alpn: Some(protocols.into()), ..self }
    }

    pub(crate) fn verifies(&self) -> bool {
        self.shared.verifies
    }

    /// For what a context says of the server, as far as nothing else was said.
    pub(crate) fn fill(
        mut self,
        server_name: Option<Arc<str>>,
        host: Option<Arc<str>>,
        alpn: Option<Arc<[Vec<u8>]>>,
    ) -> Result<Self, ConnectError> {
        self.name = self.name.or(server_name).or(host);
        self.alpn = self.alpn.or(alpn);
        self.server()?;
        Ok(self)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The server's name, as the backends want it and as people know it.
    fn server(&self) -> Result<(ServerName<'static>, Arc<str>), ConnectError> {
        let Some(name) = &self.name else {
            return Err(misuse("whose certificate to expect is not known".into())
                .with_hint("bind `names::SERVER_NAME` or `names::HOST` in the context"));
        };
        // A root's dot, and an address's zone, are no part of what certificates have.
        let bare = name.strip_suffix('.').unwrap_or(name);
        let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
        let parsed = ServerName::try_from(bare.to_owned()).map_err(|error| {
            misuse(format!("`{}` is no name that a certificate can have", name.escape_debug()))
                .with_source(error)
                .with_hint("give the server name to expect")
        })?;
        Ok((parsed, bare.into()))
    }

    pub(crate) async fn handshake(&self, flow: Flow, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let (server, name) = self.server()?;
        let about = About {
            name: name.to_string(),
            served: Arc::default(),
            alpn: self.alpn.as_deref().unwrap_or_default().to_vec(),
            has_identity: self.shared.settings.identity.is_some(),
            certificate_requested: false,
        };
        let verifies = self.shared.verifies;
        let (offered, has_identity) = (about.alpn.clone(), about.has_identity);
        let hop = name.clone();
        let wanted = Wanted { role: Role::Client, server_name: Some(name), about: about.clone(), verifies };
        let handshake = async {
            match &self.shared.backend {
                #[cfg(feature = "rustls")]
                Configured::Rustls(client) => {
                    handshake(client.connection(server, about)?, flow, wanted, cx).await
                }
                #[cfg(feature = "openssl")]
                Configured::OpenSsl(client) => {
                    handshake(client.connection(server, about)?, flow, wanted, cx).await
                }
            }
        };
        cx.hop_telling("tls", hop, handshake, |flow| agreed(flow, &offered, has_identity)).await
    }
}

/// `TLS 1.3, TLS_AES_256_GCM_SHA384; ALPN: h2`. That the server chose none of the protocols is no failure, as it is
/// none for curl and `openssl s_client`; but it is said.
fn agreed(flow: &Flow, offered: &[Vec<u8>], has_identity: bool) -> Option<String> {
    let mut agreed = flow.fact(&VERSION)?.to_string();
    if let Some(cipher) = flow.fact(&CIPHER) {
        agreed = format!("{agreed}, {cipher}");
    }
    if flow.fact(&RESUMED) == Some(true) {
        agreed.push_str(", resumed");
    }
    match flow.fact(&NEGOTIATED_ALPN) {
        Some(protocol) => agreed = format!("{agreed}; ALPN: {}", String::from_utf8_lossy(&protocol)),
        None if offered.is_empty() => {}
        None => {
            let offered: Vec<_> = offered.iter().map(|it| String::from_utf8_lossy(it)).collect();
            agreed = format!("{agreed}; ALPN: none agreed on, of {}", offered.join(", "));
        }
    }
    if flow.fact(&CERTIFICATE_REQUESTED) == Some(true) {
        agreed.push_str(match has_identity {
            true => "; client certificate: shown",
            false => "; client certificate: asked for, and none given: it may refuse",
        });
    }
    Some(agreed)
}

impl Layer for TlsClient {
    fn describe(&self) -> String {
        let unverified = if self.shared.verifies { "" } else { ", unverified" };
        format!("tls ({}{unverified})", self.shared.settings.backend)
    }

    fn wrap<'a>(
        &'a self,
        inner: Flow,
        role: Role,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            if role == Role::Server {
                return Err(misuse("this TLS layer is a client's".into())
                    .with_hint("a server needs a `TlsServer`, with a certificate and its key"));
            }
            let mut client = self.clone();
            if client.name.is_none() {
                client.name = match cx.get(&SERVER_NAME)? {
                    Some(name) => Some(name),
                    None => cx.get(&HOST)?,
                };
            }
            if client.alpn.is_none() {
                client.alpn = cx.get(&ALPN)?;
            }
            client.handshake(inner, cx).await
        })
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("settings", &self.shared.settings)
            .field("verifies", &self.shared.verifies)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The clients that a context has made, newest last: one for each set of settings, as long as the files that
/// they were made of stay as they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clients(Arc<Mutex<Vec<TlsClient>>>);

impl Clients {
    pub(crate) fn get(&self, settings: Settings, verifies: bool) -> Result<TlsClient, ConnectError> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = clients.iter().position(|client| client.shared.settings == settings) {
            let client = clients.remove(at);
            if client.shared.files.is_current() {
                clients.push(client.clone());
                return Ok(client);
            }
        }
        let client = TlsClient::make(settings, verifies)?;
        if clients.len() == CLIENTS {
            clients.remove(0);
        }
        clients.push(client.clone());
        Ok(client)
    }
}

/// No other backend stands in for one that was asked for.
#[allow(dead_code)] // with both features
pub(crate) fn not_built(backend: Backend) -> ConnectError {
    ConnectError::new(
        ConnectErrorKind::Unsupported,
        format!("the TLS backend `{backend}` is not of this build"),
    )
    .with_hint(format!("build with the feature `{backend}` of tuyau-tls, or choose the other backend"))
}

#[cfg(all(test, not(all(feature = "rustls", feature = "openssl"))))]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_not_built_is_an_error() {
        for backend in [Backend::Rustls, Backend::OpenSsl] {
            let built = match backend {
                Backend::Rustls => cfg!(feature = "rustls"),
                Backend::OpenSsl => cfg!(feature = "openssl"),
            };
            match TlsClient::make(Settings::new().backend(backend), false) {
                Ok(_) => assert!(built),
                Err(error) => {
                    assert!(!built);
                    assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
                    assert_eq!(
                        error.to_string(),
                        format!("the TLS backend `{backend}` is not of this build")
                    );
                }
            }
        }
    }
}
