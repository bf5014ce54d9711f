//! The server's side: a layer value that can be given new certificates while it serves.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use tuyau_core::{BoxFuture, ConnectCx, ConnectError, Flow, Layer, Role, SharedLayer};

use crate::backend;
use crate::certificate::Certificate;
use crate::client::not_built;
use crate::config::{Backend, Identity, Roots, Version};
use crate::error::About;
use crate::handshake::{Wanted, handshake};
use crate::material::{Reader, misuse};
use crate::parts::{Authentication, ByName, ServerParts};

/// Whether clients must show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked. One that is shown must come from these authorities; the fact
    /// [`SECURITY`](tuyau_core::names::SECURITY) tells who showed one.
    Optional(Roots),
    /// They must show one that comes from these authorities.
    Required(Roots),
}

/// How a server does TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    backend: Backend,
    identities: Vec<Identity>,
    client_auth: ClientAuth,
    alpn: Vec<Vec<u8>>,
    min_version: Version,
    resumption: bool,
}

impl ServerSettings {
    /// rustls, with this certificate and key: it is shown to all clients, unless there are
    /// [more](Self::identity).
    pub fn new(identity: Identity) -> Self {
        Self {
            backend: Backend::default(),
            identities: vec![identity],
            client_auth: ClientAuth::default(),
            alpn: Vec::new(),
            min_version: Version::default(),
            resumption: true,
        }
    }

    /// One more certificate. Each is shown to clients that ask for one of its names (SNI); those that ask
    /// for none see the first, and those that ask for another name are refused.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identities.push(identity);
        self
    }

    /// Which library does it. rustls, if not set.
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Whether clients must show a certificate. They are not asked, if not set.
    pub fn client_auth(self, client_auth: ClientAuth) -> Self {
        Self { client_auth, ..self }
    }

    /// The protocols that are spoken (ALPN, RFC 7301), in order of preference. A client that offers others
    /// only is refused; one that offers none is not. None, if not set: what clients offer is ignored then.
    pub fn alpn(self, protocols: &[Vec<u8>]) -> Self {
        Self { alpn: protocols.to_vec(), ..self }
    }

    /// The oldest version that is accepted. TLS 1.2, if not set.
    pub fn min_version(self, min_version: Version) -> Self {
        Self { min_version, ..self }
    }

    /// Whether clients may resume sessions. Yes, if not set.
    pub fn resumption(self, resumption: bool) -> Self {
        Self { resumption, ..self }
    }
}

/// A server, for [`Listener::layered`](tuyau_core::Listener::layered) and
/// [`Context::upgrade`](tuyau_core::Context::upgrade). Clones are the same server: one can be kept to
/// [reload](Self::reload) it.
///
/// A client that is refused is told why, and may have sent more by then. If the context has a
/// [`RUNTIME`](tuyau_core::names::RUNTIME), what it still sends is read for up to 2 s, up to 1 MiB of it: closing earlier
/// could reset the connection before it has read that.
#[derive(Clone)]
pub struct TlsServer(Arc<RwLock<Arc<Configured>>>);

struct Configured {
    settings: ServerSettings,
    served: Arc<[String]>,
    backend: ConfiguredBackend,
}

enum ConfiguredBackend {
    #[cfg(feature = "rustls")]
    Rustls(backend::rustls::Server),
    #[cfg(feature = "openssl")]
    OpenSsl(backend::openssl::Server),
}

impl TlsServer {
    /// Reads the files of `settings`.
    ///
    /// # Errors
    /// If one can't be read or used, or the backend is not of this build: names the file and the cause.
    pub fn new(settings: ServerSettings) -> Result<Self, ConnectError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Configured::new(settings)?)))))
    }

    /// Reads the files of `settings`, and uses those from the next handshake on. Connections, and
    /// handshakes under way, go on as they began.
    ///
    /// # Errors
    /// As [`new`](Self::new); what was served before is served further then.
    pub fn reload(&self, settings: ServerSettings) -> Result<(), ConnectError> {
        let configured = Arc::new(Configured::new(settings)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = configured;
        Ok(())
    }

    /// [Reloads](Self::reload) with the same settings: for files that have changed.
    ///
    /// # Errors
    /// As [`reload`](Self::reload).
    pub fn reload_files(&self) -> Result<(), ConnectError> {
        self.reload(self.current().settings.clone())
    }

    /// The same server, as the layer that it is.
    pub fn layer(&self) -> SharedLayer {
        Arc::new(self.clone())
    }

    fn current(&self) -> Arc<Configured> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Configured {
    fn new(settings: ServerSettings) -> Result<Self, ConnectError> {
        let ServerSettings { backend, identities, client_auth, alpn, min_version, resumption } = &settings;
        let mut files = Reader::default();
        let mut by_name = Vec::new();
        for identity in identities {
            let loaded = files.identity(identity)?;
            // That it can be read was checked when it was.
            if let Some(certificate) = loaded.chain.first().and_then(|der| Certificate::parse(der)) {
                by_name.push((certificate, loaded));
            }
        }
        let identities = ByName::new(by_name);
        let served = identities.names().into();
        let authentication = match client_auth {
            ClientAuth::None => Authentication::None,
            ClientAuth::Optional(roots) => {
                Authentication::Verify { roots: files.roots(roots)?, required: false }
            }
            ClientAuth::Required(roots) => {
                Authentication::Verify { roots: files.roots(roots)?, required: true }
            }
        };
        let (alpn, min_version, resumption) = (alpn.clone(), *min_version, *resumption);
        let parts = ServerParts { identities, authentication, alpn, min_version, resumption };
        let backend = match backend {
            #[cfg(feature = "rustls")]
            Backend::Rustls => ConfiguredBackend::Rustls(backend::rustls::Server::new(parts)?),
            #[cfg(feature = "openssl")]
            Backend::OpenSsl => ConfiguredBackend::OpenSsl(backend::openssl::Server::new(parts)?),
            #[allow(unreachable_patterns)] // with both features
            absent => return Err(not_built(*absent)),
        };
        Ok(Self { settings, served, backend })
    }

    async fn handshake(&self, flow: Flow, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let about = About {
            name: String::new(),
            served: self.served.clone(),
            alpn: self.settings.alpn.clone(),
            has_identity: true,
            certificate_requested: false,
        };
        let verifies = self.settings.client_auth != ClientAuth::None;
        let wanted = Wanted { role: Role::Server, server_name: None, about: about.clone(), verifies };
        match &self.backend {
            #[cfg(feature = "rustls")]
            ConfiguredBackend::Rustls(server) => handshake(server.connection(about)?, flow, wanted, cx).await,
            #[cfg(feature = "openssl")]
            ConfiguredBackend::OpenSsl(server) => {
                handshake(server.connection(about)?, flow, wanted, cx).await
            }
        }
    }
}

impl Layer for TlsServer {
    fn describe(&self) -> String {
        format!("tls ({})", self.current().settings.backend)
    }

    fn wrap<'a>(
        &'a self,
        inner: Flow,
        role: Role,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            if role == Role::Client {
                return Err(misuse("this TLS layer is a server's".into())
                    .with_hint("a client needs a `TlsClient`, or the layer that `upgrades` binds"));
            }
            self.current().handshake(inner, cx).await
        })
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        f.debug_struct("TlsServer").field("served", &current.served).finish_non_exhaustive()
    }
}
