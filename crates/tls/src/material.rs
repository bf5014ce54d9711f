//! Certificates and keys, read and checked before anything is dialled.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tuyau_core::{ConnectError, ConnectErrorKind};

use crate::certificate::Certificate;
use crate::config::{Identity, Roots, Source};

/// No file of certificates is longer; what is, is another kind of file.
const MAX_FILE: u64 = 16 << 20;

/// A chain with its key.
pub(crate) struct Loaded {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// Where they come from, for errors.
    pub(crate) from: String,
}

/// What was read from files, and the state that those were in.
#[derive(Default)]
pub(crate) struct Reader {
    files: Vec<Stamp>,
}

#[derive(PartialEq)]
struct Stamp {
    path: PathBuf,
    state: Option<(SystemTime, u64)>,
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let state = fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
        Self { path: path.to_owned(), state }
    }
}

impl Reader {
    /// Whether the files that were read are still the same.
    pub(crate) fn is_current(&self) -> bool {
        self.files.iter().all(|stamp| *stamp == Stamp::of(&stamp.path))
    }

    /// The authorities to trust; never none.
    pub(crate) fn roots(&mut self, roots: &Roots) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        let source = match roots {
            Roots::System => return system_roots(),
            Roots::File(path) => Source::File(path.clone()),
            Roots::Pem(bytes) => Source::Pem(bytes.clone()),
            Roots::Der(certificates) => Source::Der(certificates.clone()),
        };
        self.certificates(&source, "root certificates")
    }

    pub(crate) fn identity(&mut self, identity: &Identity) -> Result<Loaded, ConnectError> {
        let chain = self.certificates(&identity.chain, "certificate")?;
        let key = self.key(&identity.key)?;
        Ok(Loaded { chain, key, from: place("key", &identity.key) })
    }

    fn certificates(
        &mut self,
        source: &Source,
        what: &str,
    ) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        let place = place(what, source);
        let certificates = match source {
            Source::Der(certificates) => certificates.iter().cloned().map(CertificateDer::from).collect(),
            _ => {
                let bytes = self.bytes(source, &place)?;
                if bytes.first() == Some(&0x30) {
                    vec![CertificateDer::from(bytes)]
                } else {
                    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
                    all.map_err(|error| {
                        misuse(place.clone()).with_source(error).with_hint("it is damaged: get it anew")
                    })?
                }
            }
        };
        if certificates.is_empty() {
            return Err(misuse(format!("{place}: no certificate in it"))
                .with_hint("it should have `-----BEGIN CERTIFICATE-----`; was it mixed up with the key?"));
        }
        for der in &certificates {
            if Certificate::parse(der).is_none() {
                return Err(misuse(format!("{place}: a certificate in it can't be read"))
                    .with_hint("it is damaged: get it anew"));
            }
        }
        Ok(certificates)
    }

    fn key(&mut self, source: &Source) -> Result<PrivateKeyDer<'static>, ConnectError> {
        let place = place("key", source);
        let bytes = self.bytes(source, &place)?;
        let unreadable = || misuse(format!("{place}: the key can't be read"));
        if matches!(source, Source::Der(_)) || bytes.first() == Some(&0x30) {
            return PrivateKeyDer::try_from(bytes)
                .map_err(|_| unreadable().with_hint("it should be PKCS #8, PKCS #1 or SEC 1"));
        }
        let text = String::from_utf8_lossy(&bytes);
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(misuse(format!("{place}: the key is encrypted"))
                .with_hint("decrypt it: `openssl pkey -in FILE -out OTHER`, readable for its user only"));
        }
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Ok(key),
            Err(rustls_pki_types::pem::Error::NoItemsFound) => {
                Err(misuse(format!("{place}: no private key in it"))
                    .with_hint("it should have `-----BEGIN PRIVATE KEY-----`; was it mixed up?"))
            }
            // The cause might quote the key.
            Err(_) => Err(unreadable().with_hint("it is damaged: get it anew")),
        }
    }

    fn bytes(&mut self, source: &Source, place: &str) -> Result<Vec<u8>, ConnectError> {
        let path = match source {
            Source::File(path) => path,
            Source::Pem(bytes) => return Ok(bytes.to_vec()),
            Source::Der(all) => return Ok(all.concat()),
        };
        self.files.push(Stamp::of(path));
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => {
                let (kind, hint) = match error.kind() {
                    io::ErrorKind::NotFound => (ConnectErrorKind::NotFound, "check the path"),
                    io::ErrorKind::PermissionDenied => {
                        (ConnectErrorKind::Environment, "make it readable for the user that runs this")
                    }
                    _ => (ConnectErrorKind::Environment, "it must be a readable file"),
                };
                Err(ConnectError::new(kind, place.to_owned()).with_source(error).with_hint(hint))
            }
        }
    }
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let error = ConnectError::new(ConnectErrorKind::Environment, "this system has no root certificates")
            .with_hint("install them (Debian: ca-certificates), or give the roots to trust");
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.with_source(cause),
            None => error,
        });
    }
    Ok(found.certs)
}

/// `key /etc/x.pem`, or `the given key`.
fn place(what: &str, source: &Source) -> String {
    match source {
        Source::File(path) => format!("{what} {}", path.display()),
        _ => format!("the given {what}"),
    }
}

pub(crate) fn misuse(what: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Misuse, what)
}

/// The key in `from` is not that of the certificate.
pub(crate) fn mismatch(from: &str) -> ConnectError {
    misuse(format!("{from}: it does not belong to the certificate"))
        .with_hint("give the key that the certificate was made for")
}

/// The key in `from` is of a kind that the backend can't use.
pub(crate) fn unusable(from: &str, error: impl std::error::Error + Send + Sync + 'static) -> ConnectError {
    misuse(format!("{from}: the key can't be used")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_an_identity_has_no_key() {
        let shown = format!("{:?}", Identity::pem("chain", "secret"));
        assert_eq!(shown, "Identity");
    }
}
