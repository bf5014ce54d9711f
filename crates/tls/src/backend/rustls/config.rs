//! The library's configurations, from ours. Its provider is given, never installed.

use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Error, InconsistentKeys, RootCertStore, ServerConnection,
    SupportedProtocolVersion, version,
};
use tuyau_core::{ConnectError, ConnectErrorKind, Role};

use super::Rustls;
use super::verify::{Believed, Clients, Notes, Servers, Shown};
use crate::config::Version;
use crate::error::About;
use crate::material::{Loaded, mismatch, misuse, unusable};
use crate::parts::{Authentication, ByName, ClientParts, ServerParts, Verification};

/// How many servers a client keeps sessions of.
const SESSIONS: usize = 256;

/// A configured client.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    notes: Arc<Notes>,
}

impl Client {
    pub(crate) fn new(parts: ClientParts) -> Result<Self, ConnectError> {
        let ClientParts { verification, identity, min_version, resumption } = parts;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let notes = Arc::new(Notes::default());
        let believed = match verification {
            Verification::Trust(roots) => {
                let webpki = WebPkiServerVerifier::builder_with_provider(store(&roots)?, provider.clone());
                Believed::Trusted { webpki: webpki.build().map_err(internal)?, roots }
            }
            Verification::Dangerous => Believed::Anybody,
        };
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Servers { believed, algorithms, notes: notes.clone() };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(min_version))
            .map_err(internal)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let own = identity.map(|identity| certified(identity, &provider)).transpose()?.map(Arc::new);
        let mut config = builder.with_client_cert_resolver(Arc::new(Shown { own, notes: notes.clone() }));
        config.resumption =
            if resumption { Resumption::in_memory_sessions(SESSIONS) } else { Resumption::disabled() };
        Ok(Self { config: Arc::new(config), notes })
    }

    pub(crate) fn connection(&self, name: ServerName<'static>, about: About) -> Result<Rustls, ConnectError> {
        let config = self.config.clone();
        let conn = ClientConnection::new_with_alpn(config, name, about.alpn.clone()).map_err(internal)?;
        Ok(Rustls::new(conn, Role::Client, about, &self.notes))
    }
}

/// A configured server.
pub(crate) struct Server {
    config: Arc<ServerConfig>,
    notes: Arc<Notes>,
}

impl Server {
    pub(crate) fn new(parts: ServerParts) -> Result<Self, ConnectError> {
        let ServerParts { identities, authentication, alpn, min_version, resumption } = parts;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let notes = Arc::new(Notes::default());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions(min_version))
            .map_err(internal)?;
        let builder = match authentication {
            Authentication::None => builder.with_no_client_auth(),
            Authentication::Verify { roots, required } => {
                let verifier = WebPkiClientVerifier::builder_with_provider(store(&roots)?, provider.clone());
                let verifier = if required { verifier } else { verifier.allow_unauthenticated() };
                let inner = verifier.build().map_err(internal)?;
                builder.with_client_cert_verifier(Arc::new(Clients { inner, notes: notes.clone() }))
            }
        };
        let keys = identities.try_map(|identity| certified(identity, &provider).map(Arc::new))?;
        let mut config = builder.with_cert_resolver(Arc::new(Keys(keys)));
        config.alpn_protocols = alpn;
        if !resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), notes })
    }

    pub(crate) fn connection(&self, about: About) -> Result<Rustls, ConnectError> {
        let conn = ServerConnection::new(self.config.clone()).map_err(internal)?;
        Ok(Rustls::new(conn, Role::Server, about, &self.notes))
    }
}

#[derive(Debug)]
struct Keys(ByName<Arc<CertifiedKey>>);

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.choose(hello.server_name()).cloned()
    }
}

fn versions(min: Version) -> &'static [&'static SupportedProtocolVersion] {
    static FROM_12: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    static FROM_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];
    match min {
        Version::Tls12 => &FROM_12,
        Version::Tls13 => &FROM_13,
    }
}

/// The roots that webpki can use. A system may have some odd ones among many.
fn store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, ConnectError> {
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    match added {
        0 => Err(misuse("none of the root certificates can be used".into())),
        _ => Ok(Arc::new(store)),
    }
}

fn certified(identity: Loaded, provider: &CryptoProvider) -> Result<CertifiedKey, ConnectError> {
    let Loaded { chain, key, from } = identity;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => mismatch(&from),
        error => unusable(&from, error),
    })
}

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, "set rustls up").with_source(error)
}
