//! What a backend makes its configuration of: settings, once their files are read.

use std::fmt;

use rustls_pki_types::CertificateDer;

use crate::certificate::Certificate;
use crate::config::Version;
use crate::material::Loaded;

pub(crate) struct ClientParts {
    pub(crate) verification: Verification,
    pub(crate) identity: Option<Loaded>,
    pub(crate) min_version: Version,
    pub(crate) resumption: bool,
}

pub(crate) enum Verification {
    Trust(Vec<CertificateDer<'static>>),
    Dangerous,
}

pub(crate) struct ServerParts {
    pub(crate) identities: ByName<Loaded>,
    pub(crate) authentication: Authentication,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) min_version: Version,
    pub(crate) resumption: bool,
}

pub(crate) enum Authentication {
    None,
    Verify { roots: Vec<CertificateDer<'static>>, required: bool },
}

/// Certificates by the names that they are for. The first also serves clients that name none; one alone
/// serves all.
pub(crate) struct ByName<T>(Vec<(Certificate, T)>);

impl<T> ByName<T> {
    pub(crate) fn new(all: Vec<(Certificate, T)>) -> Self {
        Self(all)
    }

    pub(crate) fn choose(&self, asked: Option<&str>) -> Option<&T> {
        match (asked, self.0.as_slice()) {
            (_, [(_, only)]) => Some(only),
            (None, all) => all.first().map(|(_, first)| first),
            (Some(asked), all) => all.iter().find(|(cert, _)| cert.is_for(asked)).map(|(_, found)| found),
        }
    }

    /// Whether there is a choice.
    #[cfg(feature = "openssl")]
    pub(crate) fn several(&self) -> bool {
        self.0.len() > 1
    }

    /// All names, for errors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().flat_map(|(cert, _)| cert.names.iter().cloned()).collect()
    }

    pub(crate) fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<ByName<U>, E> {
        let all = self.0.into_iter().map(|(cert, value)| Ok((cert, f(value)?)));
        all.collect::<Result<_, E>>().map(ByName)
    }
}

impl<T> fmt::Debug for ByName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
