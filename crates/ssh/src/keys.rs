//! Private keys in files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey, decode_secret_key, ssh_key};
use tuyau_core::{ConnectError, ConnectErrorKind};
use zeroize::Zeroizing;

use crate::config::{Asker, Identity, Question, with_suffix};

/// A key that was read; its private part may still be encrypted.
pub(crate) struct LoadedKey {
    pub(crate) file: PathBuf,
    pub(crate) public: PublicKey,
    pub(crate) certificate: Option<Certificate>,
    private: Mutex<Private>,
}

#[derive(Clone)]
enum Private {
    Open(Arc<PrivateKey>),
    Encrypted(Arc<Zeroizing<String>>),
    /// Only the public part is here; the agent has the rest.
    InAgent,
}

/// Reads all identities, before anything is dialled.
pub(crate) fn load_all(identities: &[Identity], agent: bool) -> Result<Vec<LoadedKey>, ConnectError> {
    let mut keys = Vec::new();
    for identity in identities {
        if identity.optional && !identity.file.exists() {
            continue;
        }
        keys.push(load(identity, agent)?);
    }
    Ok(keys)
}

fn load(identity: &Identity, agent: bool) -> Result<LoadedKey, ConnectError> {
    let file = &identity.file;
    let failed = |why: String| {
        ConnectError::new(
            ConnectErrorKind::Environment,
            format!("read the private key {}: {why}", file.display()),
        )
    };
    let text =
        Zeroizing::new(fs::read_to_string(file).map_err(|error| unreadable("private key", file, error))?);
    let (public, private) = match decode_secret_key(&text, None) {
        Ok(key) => (key.public_key().clone(), Private::Open(Arc::new(key))),
        Err(error) => {
            let encrypted = match PrivateKey::from_openssh(text.as_bytes()) {
                Ok(key) if key.is_encrypted() => Some(key.public_key().clone()),
                _ if text.contains("ENCRYPTED") => {
                    let beside = with_suffix(file, ".pub");
                    let public = PublicKey::read_openssh_file(&beside).map_err(|_| {
                        failed(format!(
                            "it is encrypted, and {} is not there to say which it is",
                            beside.display()
                        ))
                        .with_hint(format!("convert it: ssh-keygen -p -f {}", file.display()))
                    })?;
                    Some(public)
                }
                _ => None,
            };
            let public_part = PublicKey::from_openssh(text.trim()).ok().filter(|_| agent);
            match (encrypted, public_part) {
                (Some(public), _) => (public, Private::Encrypted(Arc::new(text))),
                (None, Some(public)) => (public, Private::InAgent),
                (None, None) => {
                    let hint = if text.trim_start().starts_with("ssh-") {
                        "that is a public key: name the file without .pub"
                    } else {
                        "a private key in OpenSSH's format or in PEM is needed"
                    };
                    return Err(failed(error.to_string()).with_hint(hint));
                }
            }
        }
    };
    let certificate = match &identity.certificate {
        Some(named) => Some(read_certificate(named)?),
        None => {
            let beside = with_suffix(file, "-cert.pub");
            if beside.exists() { Some(read_certificate(&beside)?) } else { None }
        }
    };
    if let Some(certificate) = &certificate
        && certificate.public_key() != public.key_data()
    {
        return Err(failed("the certificate is for another key".into())
            .with_hint("sign this key's .pub file, or name the right certificate"));
    }
    Ok(LoadedKey { file: file.clone(), public, certificate, private: Mutex::new(private) })
}

fn read_certificate(file: &Path) -> Result<Certificate, ConnectError> {
    let text = fs::read_to_string(file).map_err(|error| unreadable("certificate", file, error))?;
    Certificate::from_openssh(text.trim()).map_err(|error| {
        ConnectError::new(ConnectErrorKind::Environment, format!("read the certificate {}", file.display()))
            .with_source(error)
            .with_hint("it should be what ssh-keygen -s made, with a name that ends in -cert.pub")
    })
}

fn unreadable(what: &str, file: &Path, error: io::Error) -> ConnectError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; nothing was dialled",
        io::ErrorKind::PermissionDenied => "this user may not read it; nothing was dialled",
        _ => "nothing was dialled",
    };
    ConnectError::new(ConnectErrorKind::Environment, format!("read the {what} {}", file.display()))
        .with_source(error)
        .with_hint(hint)
}

/// Why a key did not sign.
#[derive(Debug)]
pub(crate) enum NoSignature {
    /// The connection ended.
    Gone,
    /// Only the public part of the key is here.
    NotInAgent,
    /// Its passphrase is not known, and nobody could be asked.
    NobodyToAsk,
    /// Nobody answered.
    NoAnswer,
    WrongPassphrase,
    Failed(String),
}

impl From<russh::SendError> for NoSignature {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl std::fmt::Display for NoSignature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gone => "the connection ended",
            Self::NotInAgent => "only its public part is in the file, and the agent does not have it",
            Self::NobodyToAsk => "it is encrypted, and there is nobody to ask for its passphrase",
            Self::NoAnswer => "it is encrypted, and no passphrase was given",
            Self::WrongPassphrase => "the passphrase is wrong",
            Self::Failed(why) => why,
        })
    }
}

/// How often a passphrase is asked for.
const ASK: usize = 3;

impl LoadedKey {
    /// The private key. Asks for the passphrase if it must, once for all later uses.
    async fn unlock(&self, asker: Option<&Asker>) -> Result<Arc<PrivateKey>, NoSignature> {
        let private = self.private.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = match private {
            Private::Open(key) => return Ok(key),
            Private::Encrypted(text) => text,
            Private::InAgent => return Err(NoSignature::NotInAgent),
        };
        let asker = asker.ok_or(NoSignature::NobodyToAsk)?;
        for _ in 0..ASK {
            let question = Question::Passphrase { file: self.file.clone() };
            let Some(secret) = asker.ask(question).await else { return Err(NoSignature::NoAnswer) };
            let text = text.clone();
            // The derivation of the key from a passphrase is slow on purpose.
            let opened = tokio::task::spawn_blocking(move || decode_secret_key(&text, Some(&secret.0)));
            if let Ok(Ok(key)) = opened.await {
                let key = Arc::new(key);
                *self.private.lock().unwrap_or_else(PoisonError::into_inner) = Private::Open(key.clone());
                return Ok(key);
            }
        }
        Err(NoSignature::WrongPassphrase)
    }
}

/// Signs with a key from a file. The server has said by then that it would accept it.
pub(crate) struct FileSigner<'a> {
    pub(crate) key: &'a LoadedKey,
    pub(crate) asker: Option<&'a Asker>,
}

impl russh::Signer for FileSigner<'_> {
    type Error = NoSignature;

    async fn auth_sign(
        &mut self,
        _key: &AgentIdentity,
        hash: Option<HashAlg>,
        mut data: Vec<u8>,
    ) -> Result<Vec<u8>, NoSignature> {
        let key = self.key.unlock(self.asker).await?;
        let signature = match key.key_data() {
            // SHA-1 is never used.
            KeypairData::Rsa(pair) => (pair, hash.or(Some(HashAlg::Sha512))).try_sign(&data),
            _ => key.try_sign(&data),
        };
        let signature: ssh_key::Signature =
            signature.map_err(|error| NoSignature::Failed(error.to_string()))?;
        signature.encode_prefixed(&mut data).map_err(|error| NoSignature::Failed(error.to_string()))?;
        Ok(data)
    }
}
