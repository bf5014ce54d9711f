//! Showing the server who we are, in OpenSSH's order.

use std::fmt;
use std::path::Path;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Certificate, HashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use tokio::net::UnixStream;
use tuyau_core::{ConnectError, ConnectErrorKind};

use crate::config::{Asker, Question, SshHop};
use crate::handler::{Client, Shared};
use crate::keys::{FileSigner, LoadedKey, NoSignature};
use crate::known_hosts::describe;

type Agent = AgentClient<UnixStream>;

/// How many rounds of questions a server may ask.
const ROUNDS: usize = 16;

/// What was tried, and what the server accepts: the source of the error.
#[derive(Clone, Debug)]
pub struct AuthenticationFailed {
    tried: Vec<String>,
    accepted: Vec<&'static str>,
    /// What the server has to say about it: its banner, or why it hung up.
    said: Option<String>,
}

impl fmt::Display for AuthenticationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tried.as_slice() {
            [] => f.write_str("there was nothing to try")?,
            tried => write!(f, "tried {}", tried.join("; "))?,
        }
        if !self.accepted.is_empty() {
            write!(f, "; the server accepts {}", self.accepted.join(", "))?;
        }
        match &self.said {
            Some(said) => write!(f, "; it says: {said}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for AuthenticationFailed {}

pub(crate) struct Authentication<'a> {
    hop: &'a SshHop,
    keys: &'a [LoadedKey],
    handle: &'a mut Handle<Client>,
    shared: &'a Shared,
    server: &'a str,
    tried: Vec<String>,
    accepted: MethodSet,
    /// A password or an answer was given, and refused.
    answers_refused: bool,
    /// A key is encrypted, and nobody said its passphrase.
    stayed_locked: bool,
}

/// A step's outcome: whether we are in.
type Step = Result<bool, ConnectError>;

impl<'a> Authentication<'a> {
    pub(crate) fn new(
        hop: &'a SshHop,
        keys: &'a [LoadedKey],
        handle: &'a mut Handle<Client>,
        shared: &'a Shared,
        server: &'a str,
    ) -> Self {
        Self {
            hop,
            keys,
            handle,
            shared,
            server,
            tried: Vec::new(),
            accepted: MethodSet::empty(),
            answers_refused: false,
            stayed_locked: false,
        }
    }

    pub(crate) async fn run(mut self) -> Result<(), ConnectError> {
        // Tells what the server accepts, and is enough for some.
        let result = self.handle.authenticate_none(&*self.hop.user).await;
        if self.judge(result, None).await? || self.public_keys().await? {
            return Ok(());
        }
        if self.hop.asker.is_some() && (self.keyboard_interactive().await? || self.password().await?) {
            return Ok(());
        }
        Err(self.failed())
    }

    fn failed(&self) -> ConnectError {
        let accepted: Vec<&'static str> = self.accepted.iter().map(<&'static str>::from).collect();
        let keys = accepted.contains(&"publickey");
        let asks = accepted.contains(&"password") || accepted.contains(&"keyboard-interactive");
        let hint = match (keys, asks) {
            _ if self.answers_refused => {
                "are the user and the password right, and does the server let this user in by password?"
            }
            _ if self.stayed_locked => {
                "load the key into an agent (ssh-add), or have its passphrase asked for"
            }
            (true, _) if self.tried.is_empty() || (self.keys.is_empty() && self.hop.agent.is_none()) => {
                "name a key whose public part is in the server's authorized_keys, or an agent that has one"
            }
            (true, _) => "is the user right, and one of these keys in its authorized_keys on the server?",
            (false, true) => "the server wants a password, and none was right or given",
            (false, false) => "the server accepts nothing that can be done here",
        };
        let said = self.shared.banner.get().cloned();
        let source = AuthenticationFailed { tried: self.tried.clone(), accepted, said };
        ConnectError::new(ConnectErrorKind::Authentication, format!("authenticate as {}", self.server))
            .with_source(source)
            .with_hint(hint)
    }

    /// Takes note of the outcome of an attempt, which `what` names.
    async fn judge(&mut self, result: Result<AuthResult, impl fmt::Display>, what: Option<&str>) -> Step {
        let outcome = match result {
            Ok(AuthResult::Success) => return Ok(true),
            Ok(AuthResult::Failure { remaining_methods, partial_success }) => {
                if !remaining_methods.is_empty() {
                    self.accepted = remaining_methods;
                }
                if partial_success { "accepted, but not enough".to_owned() } else { "refused".to_owned() }
            }
            Err(error) => error.to_string(),
        };
        if let Some(what) = what {
            self.tried.push(format!("{what}: {outcome}"));
        }
        if self.handle.is_closed() {
            return Err(self.hung_up().await);
        }
        Ok(false)
    }

    async fn hung_up(&self) -> ConnectError {
        // Then it is known why.
        let _ = self.shared.over.subscribe().wait_for(|over| *over).await;
        let said = self.shared.inboxes.died().map(|why| why.to_string());
        let hint = if self.tried.len() > 1 {
            "a server has enough after some keys: name the right one, and use identities only"
        } else {
            "the server's log says why"
        };
        let source = AuthenticationFailed { tried: self.tried.clone(), accepted: Vec::new(), said };
        ConnectError::new(
            ConnectErrorKind::Authentication,
            format!("authenticate as {}: the server hung up", self.server),
        )
        .with_source(source)
        .with_hint(hint)
    }

    /// Whether the server accepts `method`, and we may try it.
    fn accepts(&self, method: MethodKind) -> bool {
        let allowed = match method {
            MethodKind::PublicKey => self.hop.methods.public_key,
            MethodKind::KeyboardInteractive => self.hop.methods.keyboard_interactive,
            MethodKind::Password => self.hop.methods.password,
            _ => false,
        };
        allowed && self.accepted.contains(&method)
    }

    async fn public_keys(&mut self) -> Step {
        if !self.accepts(MethodKind::PublicKey) {
            return Ok(false);
        }
        let mut agent = self.connect_agent().await;
        let (keys, hop) = (self.keys, self.hop);
        let of_agent = match &mut agent {
            Some(agent) => match agent.request_identities().await {
                Ok(identities) => identities,
                Err(error) => {
                    self.tried.push(format!("the agent: {error}"));
                    Vec::new()
                }
            },
            None => Vec::new(),
        };
        let named = |identity: &AgentIdentity| {
            keys.iter().position(|key| key.public.key_data() == identity.public_key().key_data())
        };
        let mut from_agent: Vec<(Option<usize>, AgentIdentity)> =
            of_agent.into_iter().map(|identity| (named(&identity), identity)).collect();
        from_agent.retain(|(named, _)| named.is_some() || !hop.identities_only);
        // Those that were named, in that order, then the rest.
        from_agent.sort_by_key(|(named, _)| named.unwrap_or(usize::MAX));
        let mut in_agent = Vec::new();
        if let Some(agent) = &mut agent {
            for (named, identity) in from_agent {
                in_agent.extend(named);
                if let Some(certificate) = named.and_then(|i| keys[i].certificate.as_ref())
                    && self.with_agent(agent, certificate.clone().into()).await?
                {
                    return Ok(true);
                }
                if self.with_agent(agent, identity).await? {
                    return Ok(true);
                }
            }
        }
        for (i, key) in keys.iter().enumerate() {
            if in_agent.contains(&i) {
                continue;
            }
            if let Some(certificate) = &key.certificate
                && self.with_file(key, Some(certificate)).await?
            {
                return Ok(true);
            }
            if self.with_file(key, None).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn connect_agent(&mut self) -> Option<Agent> {
        let socket: &Path = self.hop.agent.as_deref()?;
        match UnixStream::connect(socket).await {
            Ok(stream) => Some(AgentClient::connect(stream)),
            Err(error) => {
                self.tried.push(format!("the agent at {}: {error}", socket.display()));
                None
            }
        }
    }

    async fn with_agent(&mut self, agent: &mut Agent, identity: AgentIdentity) -> Step {
        let key = identity.public_key().into_owned();
        let Some(hash) = self.hash(&key).await else {
            self.tried
                .push(format!("{} of the agent: the server wants SHA-1, which is broken", describe(&key)));
            return Ok(false);
        };
        let user = self.hop.user.to_string();
        let (what, result) = match identity {
            AgentIdentity::PublicKey { key, .. } => {
                let what = format!("{} of the agent", describe(&key));
                (what, self.handle.authenticate_publickey_with(user, key, hash, agent).await)
            }
            AgentIdentity::Certificate { certificate, .. } => {
                let what = format!("certificate `{}` of the agent", certificate.key_id());
                (what, self.handle.authenticate_certificate_with(user, certificate, hash, agent).await)
            }
        };
        self.judge(result, Some(&what)).await
    }

    async fn with_file(&mut self, key: &LoadedKey, certificate: Option<&Certificate>) -> Step {
        let file = key.file.display();
        let Some(hash) = self.hash(&key.public).await else {
            self.tried.push(format!("{file}: the server wants SHA-1, which is broken"));
            return Ok(false);
        };
        let user = self.hop.user.to_string();
        let mut signer = FileSigner { key, asker: self.hop.asker.as_ref() };
        let (what, result) = match certificate {
            Some(certificate) => {
                let what = format!("certificate `{}` of {file}", certificate.key_id());
                let certificate = certificate.clone();
                let result =
                    self.handle.authenticate_certificate_with(user, certificate, hash, &mut signer).await;
                (what, result)
            }
            None => {
                let what = format!("{} of {file}", describe(&key.public));
                let public = key.public.clone();
                (what, self.handle.authenticate_publickey_with(user, public, hash, &mut signer).await)
            }
        };
        self.stayed_locked |= matches!(result, Err(NoSignature::NoAnswer | NoSignature::NobodyToAsk));
        self.judge(result, Some(&what)).await
    }

    /// The hash to sign with: for RSA the best that the server can (RFC 8332), but not SHA-1: `None`.
    async fn hash(&self, key: &PublicKey) -> Option<Option<HashAlg>> {
        if !key.algorithm().is_rsa() {
            return Some(None);
        }
        match self.handle.best_supported_rsa_hash().await {
            Ok(Some(None)) => None,
            Ok(Some(best)) => Some(best),
            // It does not say: nearly all can.
            Ok(None) | Err(_) => Some(Some(HashAlg::Sha512)),
        }
    }

    async fn keyboard_interactive(&mut self) -> Step {
        for _ in 0..self.hop.asker.as_ref().map_or(0, Asker::times) {
            if !self.accepts(MethodKind::KeyboardInteractive) {
                return Ok(false);
            }
            let user = self.hop.user.to_string();
            let mut response = self.handle.authenticate_keyboard_interactive_start(user, None).await;
            let mut asked = false;
            for _ in 0..ROUNDS {
                let Ok(KeyboardInteractiveAuthResponse::InfoRequest { name, instructions, prompts }) =
                    &response
                else {
                    break;
                };
                let instructions = [name.trim(), instructions.trim()].join(" ").trim().to_owned();
                let mut answers = Vec::new();
                for prompt in prompts {
                    asked = true;
                    let question = Question::Challenge {
                        server: self.server.into(),
                        instructions: instructions.clone(),
                        prompt: prompt.prompt.clone(),
                        echo: prompt.echo,
                    };
                    let Some(answer) = self.ask(question).await else {
                        self.tried.push("keyboard-interactive: no answer was given".into());
                        return Err(self.failed());
                    };
                    answers.push(answer.0.to_string());
                }
                response = self.handle.authenticate_keyboard_interactive_respond(answers).await;
            }
            let result = match response {
                Ok(KeyboardInteractiveAuthResponse::Success) => return Ok(true),
                Ok(KeyboardInteractiveAuthResponse::Failure { remaining_methods, partial_success }) => {
                    Ok(AuthResult::Failure { remaining_methods, partial_success })
                }
                Ok(KeyboardInteractiveAuthResponse::InfoRequest { .. }) => {
                    Err("the server asks without end".to_owned())
                }
                Err(error) => Err(error.to_string()),
            };
            self.answers_refused |= asked;
            let more = matches!(result, Ok(AuthResult::Failure { partial_success: false, .. })) && asked;
            if self.judge(result, Some("keyboard-interactive")).await? {
                return Ok(true);
            }
            if !more {
                break;
            }
        }
        Ok(false)
    }

    async fn password(&mut self) -> Step {
        for _ in 0..self.hop.asker.as_ref().map_or(0, Asker::times) {
            if !self.accepts(MethodKind::Password) {
                return Ok(false);
            }
            let question = Question::Password { server: self.server.into() };
            let Some(password) = self.ask(question).await else {
                self.tried.push("password: none was given".into());
                return Ok(false);
            };
            let user = self.hop.user.to_string();
            let result = self.handle.authenticate_password(user, password.0.as_str()).await;
            self.answers_refused = true;
            if self.judge(result, Some("password")).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn ask(&self, question: Question) -> Option<crate::config::Secret> {
        match &self.hop.asker {
            Some(asker) => asker.ask(question).await,
            None => None,
        }
    }
}
