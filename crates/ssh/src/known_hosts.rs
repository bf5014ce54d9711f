//! Host keys against known_hosts files.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, PublicKeyOrCertificate};
use tuyau_core::{ConnectError, ConnectErrorKind};

use crate::config::{HostKeys, Trust};

/// What is known of the keys of one server.
pub(crate) struct KnownHost {
    /// As it stands in the files: `host`, or `[host]:port` if that is not 22.
    name: String,
    trust: Trust,
    entries: Vec<KnownKey>,
    /// Where a new key goes.
    first_file: Option<PathBuf>,
}

struct KnownKey {
    marker: Option<Marker>,
    key: PublicKey,
    file: PathBuf,
    line: usize,
}

impl KnownHost {
    /// Reads the files. Lines that can't be understood are passed over, as OpenSSH does: a key in them is
    /// unknown, and thus refused.
    pub(crate) fn read(host: &str, port: u16, keys: &HostKeys) -> Result<Self, ConnectError> {
        // OpenSSH compares names in lower case.
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        let mut entries = Vec::new();
        for file in &keys.files {
            let text = match fs::read(file) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(ConnectError::new(
                        ConnectErrorKind::Environment,
                        format!("read the known hosts in {}", file.display()),
                    )
                    .with_source(error)
                    .with_hint("without it no host key can be checked, so nothing was dialled"));
                }
            };
            for (i, line) in String::from_utf8_lossy(&text).lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                // The parser wants single spaces between fields, OpenSSH is content with any.
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let Ok(entry) = words.join(" ").parse::<Entry>() else { continue };
                if matches(entry.host_patterns(), &name) {
                    entries.push(KnownKey {
                        marker: entry.marker().copied(),
                        key: entry.public_key().clone(),
                        file: file.clone(),
                        line: i + 1,
                    });
                }
            }
        }
        Ok(Self { name, trust: keys.trust.clone(), entries, first_file: keys.files.first().cloned() })
    }

    /// Whether certificates can be checked.
    pub(crate) fn has_authorities(&self) -> bool {
        self.entries.iter().any(|entry| entry.marker == Some(Marker::CertAuthority))
    }

    /// `algorithms`, those first whose keys are known: so that a server that has several keys shows
    /// one that can be checked.
    pub(crate) fn prefer(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        let known = |algorithm: &Algorithm| {
            let same = |key: &PublicKey| match (key.algorithm(), algorithm) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (key, algorithm) => key == *algorithm,
            };
            match &self.trust {
                Trust::These(keys) => keys.iter().any(same),
                _ => self.entries.iter().any(|entry| entry.marker.is_none() && same(&entry.key)),
            }
        };
        let (first, rest): (Vec<_>, Vec<_>) = algorithms.iter().cloned().partition(known);
        [first, rest].concat()
    }

    /// Whether what the server showed is trusted.
    pub(crate) fn check(&self, shown: &PublicKeyOrCertificate) -> Result<(), ConnectError> {
        let key = shown.public_key();
        if let Trust::Any = self.trust {
            return Ok(());
        }
        let authority = shown.certificate().map(Certificate::signature_key);
        if let Some(revoked) = self.entries.iter().find(|entry| {
            entry.marker == Some(Marker::Revoked)
                && (same(&entry.key, &key) || authority.is_some_and(|ca| entry.key.key_data() == ca))
        }) {
            let what = format!("host key of {} ({}): it is revoked", self.name, describe(&key));
            return Err(refused(what).with_hint(format!(
                "{} line {} revokes it: the key was stolen, or replaced; do not connect",
                revoked.file.display(),
                revoked.line
            )));
        }
        if let Some(certificate) = shown.certificate() {
            return self.check_certificate(certificate);
        }
        if let Trust::These(keys) = &self.trust {
            if keys.iter().any(|given| same(given, &key)) {
                return Ok(());
            }
            let what = format!("host key of {} ({}): it is none of those given", self.name, describe(&key));
            return Err(
                refused(what).with_hint("somebody else may be answering in its place; ask its administrator")
            );
        }
        let plain = || self.entries.iter().filter(|entry| entry.marker.is_none());
        if plain().any(|entry| same(&entry.key, &key)) {
            return Ok(());
        }
        match plain().find(|entry| kind(&entry.key) == kind(&key)).or_else(|| plain().next()) {
            Some(known) => Err(self.changed(known, &key)),
            None if matches!(self.trust, Trust::AcceptNew) => self.add(&key),
            None => Err(self.unknown(&key)),
        }
    }

    fn check_certificate(&self, certificate: &Certificate) -> Result<(), ConnectError> {
        let what = |why: &str| {
            let id = certificate.key_id();
            refused(format!("host certificate `{id}` of {}: {why}", self.name))
        };
        let trusted = self.entries.iter().any(|entry| {
            entry.marker == Some(Marker::CertAuthority) && entry.key.key_data() == certificate.signature_key()
        });
        if !trusted {
            let authority = PublicKey::from(certificate.signature_key().clone());
            return Err(what("the authority that signed it is not known").with_hint(format!(
                "if it is to be trusted, add: @cert-authority {} {}",
                self.name,
                line(&authority)
            )));
        }
        if certificate.cert_type() != CertType::Host {
            return Err(what("it is for users, not for hosts"));
        }
        if certificate.verify_signature().is_err() {
            return Err(what("its signature is wrong"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if now < certificate.valid_after() {
            return Err(what("it is not valid yet").with_hint("is the clock of this machine right?"));
        }
        if now >= certificate.valid_before() {
            return Err(what("it has expired").with_hint("its administrator must renew it"));
        }
        if let Some((option, _)) = certificate.critical_options().iter().next() {
            return Err(what(&format!("it has the critical option `{option}`, which is not known here")));
        }
        let names = certificate.valid_principals();
        let host = self.name.strip_prefix('[').and_then(|name| name.split(']').next()).unwrap_or(&self.name);
        // sshd matches those as patterns.
        if !names.iter().any(|name| glob(&name.to_ascii_lowercase(), host)) {
            return Err(what(&format!("it is for other hosts: {}", names.join(", ")))
                .with_hint("dial one of those names, or give one as the host key alias"));
        }
        Ok(())
    }

    fn changed(&self, known: &KnownKey, key: &PublicKey) -> ConnectError {
        let (file, line_number) = (known.file.display(), known.line);
        let what = format!(
            "host key of {} has changed: it shows {}, but {file} line {line_number} has {}",
            self.name,
            describe(key),
            describe(&known.key)
        );
        refused(what).with_hint(format!(
            "somebody else may be answering in its place; if its administrator confirms the new key, run: ssh-keygen -f '{file}' -R '{}'",
            self.name
        ))
    }

    fn unknown(&self, key: &PublicKey) -> ConnectError {
        let what = format!("host key of {} is not known: {}", self.name, describe(key));
        let mut hint = String::from("if its administrator confirms the fingerprint, add this line to ");
        let _ = match &self.first_file {
            Some(file) => write!(hint, "{}", file.display()),
            None => write!(hint, "a known_hosts file, and name that"),
        };
        let _ = write!(hint, ": {} {}", self.name, line(key));
        refused(what).with_hint(hint)
    }

    fn add(&self, key: &PublicKey) -> Result<(), ConnectError> {
        let Some(file) = &self.first_file else {
            return Err(ConnectError::new(
                ConnectErrorKind::Misuse,
                "new host keys are to be accepted, but there is no known_hosts file to add them to",
            )
            .with_hint("give one"));
        };
        append(file, &format!("{} {}", self.name, line(key))).map_err(|error| {
            ConnectError::new(
                ConnectErrorKind::Environment,
                format!("add the host key of {} to {}", self.name, file.display()),
            )
            .with_source(error)
        })
    }
}

fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let unfinished = fs::read(file).is_ok_and(|text| text.last().is_some_and(|last| *last != b'\n'));
    let start = if unfinished { "\n" } else { "" };
    // One write, so that two of them don't mix.
    OpenOptions::new().create(true).append(true).open(file)?.write_all(format!("{start}{line}\n").as_bytes())
}

fn refused(what: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Verification, what)
}

/// Type and fingerprint: `ssh-ed25519 SHA256:…`.
pub(crate) fn describe(key: &PublicKey) -> String {
    format!("{} {}", kind(key), key.fingerprint(HashAlg::Sha256))
}

fn line(key: &PublicKey) -> String {
    let plain = PublicKey::from(key.key_data().clone());
    plain.to_openssh().unwrap_or_else(|_| describe(key))
}

/// The name of the key's type; all hashes that RSA keys can sign with are one type.
fn kind(key: &PublicKey) -> String {
    match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".into(),
        algorithm => algorithm.to_string(),
    }
}

fn same(a: &PublicKey, b: &PublicKey) -> bool {
    let (a, b): (&KeyData, &KeyData) = (a.key_data(), b.key_data());
    a == b
}

/// Whether the patterns of a line are about `name`: one matches, and none that begins with `!` does.
fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::sign(&key, name.as_bytes()).as_ref() == hash
        }
        HostPatterns::Patterns(patterns) => {
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) if glob(&pattern.to_ascii_lowercase(), name) => return false,
                    Some(_) => {}
                    None => found |= glob(&pattern.to_ascii_lowercase(), name),
                }
            }
            found
        }
    }
}

/// Whether `text` matches `pattern`, in which `*` and `?` stand for anything and any one byte
/// (ssh_config(5), "PATTERNS"). In time of the product of their lengths.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_are_those_of_openssh() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "example.org", false),
            ("10.0.?.*", "10.0.1.17", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "aXc", false),
            ("[a]:22", "[a]:22", true),
            ("?", "", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
