//! What configures TLS: context values, and the settings that they make.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tuyau_core::Key;

/// Which library does it. rustls, if absent.
pub static BACKEND: Key<Backend> = Key::new("tls-backend").shown();
/// Which authorities are trusted. Those of the system, if absent.
pub static ROOTS: Key<Roots> = Key::new("tls-roots");
/// The certificate and key that are shown to a server that asks for them. None, if absent.
pub static IDENTITY: Key<Identity> = Key::new("tls-identity").sensitive();
/// The oldest version that is accepted. TLS 1.2, if absent.
pub static MIN_VERSION: Key<Version> = Key::new("tls-min-version").shown();
/// Whether sessions are kept, to be resumed without a full handshake. Yes, if absent.
///
/// They are kept with the context that the layer was put in, apart for each set of settings: a session
/// is never resumed under another identity, other roots or another backend.
pub static RESUMPTION: Key<bool> = Key::new("tls-resumption").shown();

/// A fact: the version that was agreed on.
pub static VERSION: Key<Version> = Key::new("tls-version").shown();
/// A fact: the cipher suite, by its IANA name.
pub static CIPHER: Key<Arc<str>> = Key::new("tls-cipher").shown();
/// A fact: whether an earlier session was resumed.
pub static RESUMED: Key<bool> = Key::new("tls-resumed").shown();

/// A fact of clients: whether the server asked for a certificate. If it does not accept what it was shown, or that there
/// was none, it says so after the handshake (with TLS 1.3): to whoever reads.
pub static CERTIFICATE_REQUESTED: Key<bool> = Key::new("tls-certificate-requested").shown();

/// A library that does TLS. Both are of one build only if both of this crate's features are on; asking for
/// one that isn't is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// rustls, with aws-lc-rs.
    #[default]
    Rustls,
    /// OpenSSL.
    OpenSsl,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// Which authorities are trusted.
///
/// A given certificate is trusted whatever it is: a root, an intermediate authority, or the very
/// certificate of the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system, or of the files that the variables `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    #[default]
    System,
    /// Those in this file: PEM, or one certificate in DER.
    File(PathBuf),
    /// These, in PEM.
    Pem(Arc<[u8]>),
    /// These, each in DER.
    Der(Arc<[Vec<u8>]>),
}

/// A certificate chain, its own first, and the private key that belongs to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub(crate) chain: Source,
    pub(crate) key: Source,
}

/// Where certificates or a key come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Pem(Arc<[u8]>),
    Der(Arc<[Vec<u8>]>),
}

impl Identity {
    /// From files: PEM, or DER (of one certificate). Both may be in one file.
    pub fn files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { chain: Source::File(chain.into()), key: Source::File(key.into()) }
    }

    /// From PEM.
    pub fn pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self { chain: Source::Pem(chain.as_ref().into()), key: Source::Pem(key.as_ref().into()) }
    }

    /// From DER; the key as PKCS #8, PKCS #1 or SEC 1.
    pub fn der(chain: &[Vec<u8>], key: &[u8]) -> Self {
        Self { chain: Source::Der(chain.into()), key: Source::Der([key.to_vec()].into()) }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.chain {
            Source::File(path) => write!(f, "Identity({})", path.display()),
            _ => f.write_str("Identity"),
        }
    }
}

/// How a client does TLS. The keys of this crate make one; build it by hand for
/// [`TlsClient::new`](crate::TlsClient::new).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub(crate) backend: Backend,
    pub(crate) roots: Roots,
    pub(crate) identity: Option<Identity>,
    pub(crate) min_version: Version,
    pub(crate) resumption: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// rustls, the system's roots, no certificate of one's own, TLS 1.2 and newer, with resumption.
    pub fn new() -> Self {
        Self {
            backend: Backend::default(),
            roots: Roots::default(),
            identity: None,
            min_version: Version::default(),
            resumption: true,
        }
    }

    /// See [`BACKEND`].
    pub fn backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// See [`ROOTS`].
    pub fn roots(self, roots: Roots) -> Self {
        Self { roots, ..self }
    }

    /// See [`IDENTITY`].
    pub fn identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// See [`MIN_VERSION`].
    pub fn min_version(self, min_version: Version) -> Self {
        Self { min_version, ..self }
    }

    /// See [`RESUMPTION`].
    pub fn resumption(self, resumption: bool) -> Self {
        Self { resumption, ..self }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// What is neither a backend nor a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownWord(&'static str);

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.0)
    }
}

impl std::error::Error for UnknownWord {}

impl FromStr for Backend {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "rustls" => Ok(Self::Rustls),
            "openssl" => Ok(Self::OpenSsl),
            _ => Err(UnknownWord("`rustls` or `openssl`")),
        }
    }
}

impl FromStr for Version {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(UnknownWord("`1.2` or `1.3`")),
        }
    }
}
