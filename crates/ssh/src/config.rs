//! How an SSH server is reached: plain values.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PublicKey;
use tuyau_core::{BoxFuture, Context, Hop, Key, Protection, SharedNet};

use crate::net::Ssh;

/// A fact of flows through an SSH server: type and fingerprint of the key that it showed, like
/// `ssh-ed25519 SHA256:…`.
pub static HOST_KEY: Key<Arc<str>> = Key::new("ssh-host-key").shown();

/// An SSH server as a hop: who we are, how we show it, and how the server shows who it is.
///
/// Name and port of the server are [`HOST`](tuyau_core::names::HOST) and
/// [`PORT`](tuyau_core::names::PORT) of the context that the hop is dialled in; that context offers
/// whatever reaches it.
///
/// By default no host key is known, and nothing is there to authenticate with: no file is read and no
/// agent asked that was not named here. [`OpenSsh`](crate::OpenSsh) reads what OpenSSH's configuration says.
#[derive(Clone, Debug)]
pub struct SshHop {
    pub(crate) user: Arc<str>,
    pub(crate) host_keys: HostKeys,
    pub(crate) host_key_alias: Option<Arc<str>>,
    pub(crate) agent: Option<PathBuf>,
    pub(crate) identities: Vec<Identity>,
    pub(crate) identities_only: bool,
    pub(crate) asker: Option<Asker>,
    pub(crate) methods: Methods,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) connect_timeout: Option<Duration>,
}

impl SshHop {
    /// As `user`.
    pub fn new(user: impl Into<Arc<str>>) -> Self {
        Self {
            user: user.into(),
            host_keys: HostKeys::files([]),
            host_key_alias: None,
            agent: None,
            identities: Vec::new(),
            identities_only: false,
            asker: None,
            methods: Methods { public_key: true, keyboard_interactive: true, password: true },
            keepalive: None,
            connect_timeout: None,
        }
    }

    /// Which host keys are trusted.
    pub fn host_keys(mut self, host_keys: HostKeys) -> Self {
        self.host_keys = host_keys;
        self
    }

    /// The name that the server has in known_hosts files, where it is not the host that is dialled.
    pub fn host_key_alias(mut self, alias: impl Into<Arc<str>>) -> Self {
        self.host_key_alias = Some(alias.into());
        self
    }

    /// Asks the agent behind this Unix socket (`$SSH_AUTH_SOCK`, usually) for keys.
    pub fn agent(mut self, socket: impl Into<PathBuf>) -> Self {
        self.agent = Some(socket.into());
        self
    }

    /// Also shows this key. Those are tried in the order in which they were given; first of all
    /// those of them that the agent has, then what else it has.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identities.push(identity);
        self
    }

    /// Of the agent's keys, only uses those that were given as identities.
    pub fn identities_only(mut self) -> Self {
        self.identities_only = true;
        self
    }

    /// Who is asked for passphrases and passwords. Without one, encrypted keys are no use, and passwords
    /// are not tried.
    pub fn ask(mut self, asker: Asker) -> Self {
        self.asker = Some(asker);
        self
    }

    /// Checks that the server is alive while nothing comes from it. Not done if not set.
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.keepalive = Some(keepalive);
        self
    }

    /// How long connecting may take, from dialling to the end of the key exchange. Unlimited but for the
    /// deadline, if not set. (Authentication is not limited: somebody may be typing.)
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How far the connection is protected: authenticated, unless host keys are not checked.
    pub fn protection(&self) -> Protection {
        match self.host_keys.trust {
            Trust::Any => Protection::Encrypted,
            _ => Protection::Authenticated,
        }
    }
}

impl Hop for SshHop {
    fn over(self: Box<Self>, outer: Context) -> SharedNet {
        Arc::new(Ssh::new(*self, outer))
    }
}

/// Which ways to authenticate are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Methods {
    pub(crate) public_key: bool,
    pub(crate) keyboard_interactive: bool,
    pub(crate) password: bool,
}

/// Which host keys are trusted.
#[derive(Clone, Debug)]
pub struct HostKeys {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) trust: Trust,
}

#[derive(Clone, Debug)]
pub(crate) enum Trust {
    Known,
    /// Known ones, and the first key of a host that has none.
    AcceptNew,
    These(Vec<PublicKey>),
    Any,
}

impl HostKeys {
    /// Those in these known_hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): plain and hashed names,
    /// `[host]:port`, patterns, `@cert-authority` and `@revoked`. A file that does not exist is empty.
    pub fn files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), trust: Trust::Known }
    }

    /// Only these keys, each in OpenSSH's format: `ssh-ed25519 AAAA…`.
    ///
    /// # Errors
    /// If one is no public key.
    pub fn only<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, BadKey> {
        let keys = keys
            .into_iter()
            .map(|key| PublicKey::from_openssh(key).map_err(|_| BadKey))
            .collect::<Result<_, _>>()?;
        Ok(Self { files: Vec::new(), trust: Trust::These(keys) })
    }

    /// Also trusts a host of which no key is known, and adds its key to the first file. A key that is not
    /// the known one is refused all the same. (`StrictHostKeyChecking accept-new`.)
    pub fn accept_new(mut self) -> Self {
        self.trust = Trust::AcceptNew;
        self
    }

    /// Trusts whoever answers: anybody on the way can read and change everything.
    pub fn dangerous_accept_any() -> Self {
        Self { files: Vec::new(), trust: Trust::Any }
    }
}

/// What is no public key in OpenSSH's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadKey;

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a public key: write it as in a .pub file, like `ssh-ed25519 AAAA…`")
    }
}

impl std::error::Error for BadKey {}

/// A private key in a file, in OpenSSH's format or PEM. A certificate that lies beside it, as
/// `FILE-cert.pub`, is shown as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub(crate) file: PathBuf,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) optional: bool,
}

impl Identity {
    /// The key in `file`. If it can't be read, nothing is dialled.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), certificate: None, optional: false }
    }

    /// With the certificate in this file.
    pub fn certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificate = Some(file.into());
        self
    }

    /// If the file does not exist, it is passed over (OpenSSH's default keys).
    pub fn if_exists(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// When to find the server dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After how long without anything from the server it is asked for a sign of life.
    pub interval: Duration,
    /// How many of those in a row may go unanswered.
    pub count: usize,
}

/// What somebody is asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Question {
    /// The passphrase of a key that the server would accept.
    Passphrase {
        /// The file with the key.
        file: PathBuf,
    },
    /// The password of the user on the server.
    Password {
        /// `user@host`.
        server: Arc<str>,
    },
    /// Whatever the server wants to know (keyboard-interactive, RFC 4256).
    Challenge {
        /// `user@host`.
        server: Arc<str>,
        /// What the server says about it: title and instructions; may be empty.
        instructions: String,
        /// The question, as the server puts it.
        prompt: String,
        /// Whether the answer may be seen while it is typed.
        echo: bool,
    },
}

/// An answer: shown nowhere, and wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(pub(crate) zeroize::Zeroizing<String>);

impl Secret {
    /// From what was typed.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into().into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Who is asked for secrets. The program's part: it must not block the thread (ask on one that may
/// be blocked, and await it). `None`: there is no answer.
#[derive(Clone)]
pub struct Asker {
    ask: Arc<dyn Fn(Question) -> BoxFuture<'static, Option<Secret>> + Send + Sync>,
    /// How often a password is asked for.
    times: usize,
}

impl Asker {
    /// Asks by calling `ask`, for a password up to three times.
    pub fn new<F, Fut>(ask: F) -> Self
    where
        F: Fn(Question) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Secret>> + Send + 'static,
    {
        Self { ask: Arc::new(move |question| Box::pin(ask(question))), times: 3 }
    }

    /// Answers with this password whatever is asked without echo: a server may ask for it by either of two
    /// names (RFC 4252 section 8, RFC 4256). Each is tried once, for what was refused is refused again, and may
    /// lock the user out.
    pub fn password(password: Secret) -> Self {
        let ask = move |question| {
            let asked =
                matches!(question, Question::Password { .. } | Question::Challenge { echo: false, .. });
            std::future::ready(asked.then(|| password.clone()))
        };
        Self { times: 1, ..Self::new(ask) }
    }

    pub(crate) const fn times(&self) -> usize {
        self.times
    }

    pub(crate) async fn ask(&self, question: Question) -> Option<Secret> {
        (self.ask)(question).await
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}

/// `file` with `suffix` behind its name.
pub(crate) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
