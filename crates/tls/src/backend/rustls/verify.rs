//! Verification by webpki, and what it found wrong.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certificate::Certificate;

/// What was being verified when it failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the peer showed, its own certificate first.
    pub(super) chain: Vec<Vec<u8>>,
    /// In seconds since 1970.
    pub(super) now: i64,
}

impl Failure {
    pub(super) fn is_self_signed(&self) -> bool {
        let own = self.chain.first().and_then(|der| Certificate::parse(der));
        self.chain.len() == 1 && own.is_some_and(|own| own.self_issued)
    }
}

/// What is noted of a connection by what all connections share.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    pub(super) failure: Option<Failure>,
    /// The server asked for a certificate.
    pub(super) certificate_requested: bool,
}

/// The way from what all connections share, a verifier say, to the connection that it is about: it runs in
/// the call that processes what was received, on that call's thread.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<HashMap<ThreadId, Noted>>);

impl Notes {
    /// What was noted in the call that this thread has just made.
    pub(super) fn take(&self) -> Noted {
        self.lock().remove(&thread::current().id()).unwrap_or_default()
    }

    fn failed(&self, own: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) {
        let chain = std::iter::once(own).chain(others).map(|der| der.to_vec()).collect();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        self.lock().entry(thread::current().id()).or_default().failure = Some(Failure { chain, now });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ThreadId, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows servers that ask for a certificate the one there is.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) own: Option<Arc<CertifiedKey>>,
    pub(super) notes: Arc<Notes>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.notes.lock().entry(thread::current().id()).or_default().certificate_requested = true;
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) believed: Believed,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) notes: Arc<Notes>,
}

/// Whom a client believes.
#[derive(Debug)]
pub(super) enum Believed {
    /// Whoever one of the roots vouches for, or shows one of them itself.
    Trusted { roots: Vec<CertificateDer<'static>>, webpki: Arc<WebPkiServerVerifier> },
    /// Anybody: only that they have the key of the certificate which they show.
    Anybody,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let result = match &self.believed {
            Believed::Anybody => Ok(ServerCertVerified::assertion()),
            Believed::Trusted { roots, .. } if roots.contains(own) => trusted_itself(own, name, now),
            Believed::Trusted { webpki, .. } => webpki.verify_server_cert(own, others, name, ocsp, now),
        };
        result.inspect_err(|_| self.notes.failed(own, others, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The peer shows a certificate that is trusted itself. webpki takes none that could sign others, which
/// self-signed ones often can: their name and time are left to check.
fn trusted_itself(
    own: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let parsed = Certificate::parse(own).ok_or(CertificateError::BadEncoding)?;
    if parsed.check_time(now).is_err() {
        return Err(CertificateError::Expired.into());
    }
    verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
    Ok(ServerCertVerified::assertion())
}

/// Verifies clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
    pub(super) notes: Arc<Notes>,
}

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let result = self.inner.verify_client_cert(own, others, now);
        result.inspect_err(|_| self.notes.failed(own, others, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
