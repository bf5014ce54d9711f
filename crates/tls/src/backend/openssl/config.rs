//! The library's contexts, from our configuration.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::pkey::PKey;
use openssl::ssl::{
    AlpnError, NameType, SniError, Ssl, SslAlert, SslContext, SslContextBuilder, SslMethod, SslOptions,
    SslRef, SslSession, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509CheckFlags, X509VerifyFlags};
use openssl::x509::{X509, X509Name};
use rustls_pki_types::{CertificateDer, ServerName};
use tuyau_core::{ConnectError, ConnectErrorKind, Role};

use super::{OpenSsl, Slot};
use crate::config::Version;
use crate::error::About;
use crate::material::{Loaded, mismatch, misuse, unusable};
use crate::parts::{Authentication, ByName, ClientParts, ServerParts, Verification};

/// How many servers a client keeps sessions of, and how many of each.
const SERVERS: usize = 256;
const SESSIONS: usize = 4;

/// A configured client.
pub(crate) struct Client {
    context: SslContext,
    verifies: bool,
    sessions: Option<Arc<Sessions>>,
}

impl Client {
    pub(crate) fn new(parts: ClientParts) -> Result<Self, ConnectError> {
        let ClientParts { verification, identity, min_version, resumption } = parts;
        let mut builder = builder(SslMethod::tls_client(), min_version).map_err(internal)?;
        let verifies = match verification {
            Verification::Trust(roots) => {
                builder.set_cert_store(store(&roots)?);
                true
            }
            Verification::Dangerous => false,
        };
        if let Some(identity) = identity {
            show(&mut builder, &identity)?;
        }
        let sessions = resumption.then(|| Arc::new(Sessions::default()));
        match &sessions {
            Some(sessions) => {
                builder
                    .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
                let sessions = Arc::clone(sessions);
                builder.set_new_session_callback(move |ssl, session| sessions.put(ssl, session));
            }
            None => drop(builder.set_session_cache_mode(SslSessionCacheMode::OFF)),
        }
        Ok(Self { context: builder.build(), verifies, sessions })
    }

    pub(crate) fn connection(
        &self,
        name: ServerName<'static>,
        about: About,
    ) -> Result<OpenSsl, ConnectError> {
        let mut ssl = Ssl::new(&self.context).map_err(internal)?;
        self.address(&mut ssl, &name, &about).map_err(internal)?;
        let failure = Arc::new(Slot::default());
        if self.verifies {
            watch(&mut ssl, SslVerifyMode::PEER, &failure);
        }
        if let Some(sessions) = &self.sessions {
            sessions.resume(&mut ssl, &about.name).map_err(internal)?;
        }
        ssl.set_connect_state();
        OpenSsl::new(ssl, Role::Client, about, failure).map_err(internal)
    }

    /// Whom it asks for, and for what.
    fn address(&self, ssl: &mut Ssl, name: &ServerName<'_>, about: &About) -> Result<(), ErrorStack> {
        match name {
            ServerName::IpAddress(address) if self.verifies => {
                ssl.param_mut().set_ip(std::net::IpAddr::from(*address))?;
            }
            ServerName::DnsName(name) => {
                ssl.set_hostname(name.as_ref())?;
                if self.verifies {
                    // As rustls does: a common name is for people.
                    ssl.param_mut().set_hostflags(
                        X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT,
                    );
                    ssl.param_mut().set_host(name.as_ref())?;
                }
            }
            _ => {}
        }
        if !about.alpn.is_empty() {
            ssl.set_alpn_protos(&wire(&about.alpn))?;
        }
        Ok(())
    }
}

/// A configured server.
pub(crate) struct Server {
    /// Of its first certificate; the others are chosen by name from there.
    context: SslContext,
    verify: Option<SslVerifyMode>,
}

impl Server {
    pub(crate) fn new(parts: ServerParts) -> Result<Self, ConnectError> {
        let ServerParts { identities, authentication, alpn, min_version, resumption } = parts;
        let (roots, verify) = match authentication {
            Authentication::None => (None, None),
            Authentication::Verify { roots, required: false } => (Some(roots), Some(SslVerifyMode::PEER)),
            Authentication::Verify { roots, required: true } => {
                (Some(roots), Some(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT))
            }
        };
        let make = |identity: &Loaded| -> Result<SslContextBuilder, ConnectError> {
            let mut builder = builder(SslMethod::tls_server(), min_version).map_err(internal)?;
            show(&mut builder, identity)?;
            if let Some(roots) = &roots {
                builder.set_cert_store(store(roots)?);
                builder.set_client_ca_list(subjects(roots).map_err(internal)?);
            }
            builder.set_session_id_context(b"tuyau").map_err(internal)?;
            if !resumption {
                builder.set_options(SslOptions::NO_TICKET);
                builder.set_num_tickets(0).map_err(internal)?;
                builder.set_session_cache_mode(SslSessionCacheMode::OFF);
            }
            if !alpn.is_empty() {
                let ours = alpn.clone();
                builder.set_alpn_select_callback(move |_, theirs| choose(&ours, theirs));
            }
            Ok(builder)
        };
        let identities =
            identities.try_map(|identity| Ok::<_, ConnectError>((make(&identity)?.build(), identity)))?;
        let Some((_, first)) = identities.choose(None) else {
            return Err(misuse("the server has no certificate".into()));
        };
        let mut base = make(first)?;
        let by_name: ByName<SslContext> =
            identities.try_map(|(context, _)| Ok::<_, ConnectError>(context))?;
        if by_name.several() {
            base.set_servername_callback(move |ssl, alert| {
                let asked = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
                let Some(context) = by_name.choose(asked.as_deref()) else {
                    *alert = SslAlert::UNRECOGNIZED_NAME;
                    return Err(SniError::ALERT_FATAL);
                };
                ssl.set_ssl_context(context).map_err(|_| SniError::ALERT_FATAL)
            });
        }
        Ok(Self { context: base.build(), verify })
    }

    pub(crate) fn connection(&self, about: About) -> Result<OpenSsl, ConnectError> {
        let mut ssl = Ssl::new(&self.context).map_err(internal)?;
        let failure = Arc::new(Slot::default());
        if let Some(mode) = self.verify {
            watch(&mut ssl, mode, &failure);
        }
        ssl.set_accept_state();
        OpenSsl::new(ssl, Role::Server, about, failure).map_err(internal)
    }
}

/// What both sides have in common.
fn builder(method: SslMethod, min_version: Version) -> Result<SslContextBuilder, ErrorStack> {
    let mut builder = SslContextBuilder::new(method)?;
    builder.set_min_proto_version(Some(match min_version {
        Version::Tls12 => SslVersion::TLS1_2,
        Version::Tls13 => SslVersion::TLS1_3,
    }))?;
    builder.set_options(SslOptions::NO_COMPRESSION | SslOptions::NO_RENEGOTIATION);
    builder.set_verify(SslVerifyMode::NONE);
    Ok(builder)
}

/// Verifies the peer, and notes why if that fails.
fn watch(ssl: &mut SslRef, mode: SslVerifyMode, failure: &Arc<Slot>) {
    let failure = failure.clone();
    ssl.set_verify_callback(mode, move |accepted, context| {
        if !accepted {
            failure.note(context);
        }
        accepted
    });
}

fn show(builder: &mut SslContextBuilder, identity: &Loaded) -> Result<(), ConnectError> {
    let Loaded { chain, key, from } = identity;
    for (i, der) in chain.iter().enumerate() {
        let cert = X509::from_der(der).map_err(internal)?;
        match i {
            0 => builder.set_certificate(&cert).map_err(internal)?,
            _ => builder.add_extra_chain_cert(cert).map_err(internal)?,
        }
    }
    let key = PKey::private_key_from_der(key.secret_der()).map_err(|error| unusable(from, error))?;
    builder.set_private_key(&key).and_then(|()| builder.check_private_key()).map_err(|error| {
        // X509_R_KEY_TYPE_MISMATCH, X509_R_KEY_VALUES_MISMATCH
        match error.errors().iter().any(|error| matches!(error.reason_code(), 115 | 116)) {
            true => mismatch(from),
            false => unusable(from, error),
        }
    })
}

/// The roots that the library can use. A system may have some odd ones among many.
fn store(roots: &[CertificateDer<'static>]) -> Result<X509Store, ConnectError> {
    let mut store = X509StoreBuilder::new().map_err(internal)?;
    // Any of them is trusted, whoever has signed it.
    store.set_flags(X509VerifyFlags::PARTIAL_CHAIN).map_err(internal)?;
    let mut added = 0;
    for cert in roots.iter().filter_map(|der| X509::from_der(der).ok()) {
        store.add_cert(cert).map_err(internal)?;
        added += 1;
    }
    match added {
        0 => Err(misuse("none of the root certificates can be used".into())),
        _ => Ok(store.build()),
    }
}

fn subjects(roots: &[CertificateDer<'static>]) -> Result<Stack<X509Name>, ErrorStack> {
    let mut subjects = Stack::new()?;
    for cert in roots.iter().filter_map(|der| X509::from_der(der).ok()) {
        subjects.push(cert.subject_name().to_owned()?)?;
    }
    Ok(subjects)
}

/// Protocols as RFC 7301 section 3.1 has them. What has no place in that form is left out.
fn wire(protocols: &[Vec<u8>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for protocol in protocols {
        if let Ok(length @ 1..) = u8::try_from(protocol.len()) {
            wire.push(length);
            wire.extend_from_slice(protocol);
        }
    }
    wire
}

/// Our first that the client offers.
fn choose<'a>(ours: &[Vec<u8>], theirs: &'a [u8]) -> Result<&'a [u8], AlpnError> {
    let offered = |wanted: &[u8]| {
        let mut rest = theirs;
        while let Some((&length, tail)) = rest.split_first() {
            let (protocol, tail) = tail.split_at_checked(length.into())?;
            if protocol == wanted {
                return Some(protocol);
            }
            rest = tail;
        }
        None
    };
    ours.iter().find_map(|wanted| offered(wanted)).ok_or(AlpnError::ALERT_FATAL)
}

/// Sessions by server, the oldest server first.
#[derive(Default)]
struct Sessions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_name: HashMap<Arc<str>, VecDeque<SslSession>>,
    order: VecDeque<Arc<str>>,
}

impl Sessions {
    fn put(&self, ssl: &SslRef, session: SslSession) {
        let Some(name) = index().ok().and_then(|index| ssl.ex_data(index)).cloned() else { return };
        let mut kept = self.lock();
        if !kept.by_name.contains_key(&name) {
            if kept.order.len() == SERVERS
                && let Some(oldest) = kept.order.pop_front()
            {
                kept.by_name.remove(&oldest);
            }
            kept.order.push_back(name.clone());
        }
        let sessions = kept.by_name.entry(name).or_default();
        sessions.push_back(session);
        if sessions.len() > SESSIONS {
            sessions.pop_front();
        }
    }

    /// Offers the newest session with the server of this name; those of TLS 1.3 once only (RFC 8446 appendix
    /// C.4).
    fn resume(&self, ssl: &mut Ssl, name: &str) -> Result<(), ErrorStack> {
        ssl.set_ex_data(index()?, name.into());
        let session = {
            let mut kept = self.lock();
            let Some(sessions) = kept.by_name.get_mut(name) else { return Ok(()) };
            let Some(session) = sessions.pop_back() else { return Ok(()) };
            if session.protocol_version() != SslVersion::TLS1_3 {
                sessions.push_back(session.clone());
            }
            session
        };
        // SAFETY: the session is of this connection's context: `put` is called for no other, and each
        // context has its own `Sessions`.
        #[allow(unsafe_code)]
        unsafe {
            ssl.set_session(&session)
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a connection has the name of its server, for the callback that is given sessions. The library
/// numbers such places for the whole process, and never takes one back.
fn index() -> Result<Index<Ssl, Arc<str>>, ErrorStack> {
    static INDEX: OnceLock<Index<Ssl, Arc<str>>> = OnceLock::new();
    match INDEX.get() {
        Some(index) => Ok(*index),
        None => {
            let index = Ssl::new_ex_index()?;
            Ok(*INDEX.get_or_init(|| index))
        }
    }
}

fn internal(error: ErrorStack) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, "set OpenSSL up").with_source(error)
}
