//! What a URI means: the values and the offer that it adds to a context.

use tuyau_core::Context;
#[cfg(unix)]
use tuyau_core::Target;
use tuyau_core::names::{HOST, PORT};
#[cfg(unix)]
use tuyau_tokio::{Command, EXEC, FIFO, FifoPair, UNIX, UNIX_PATH};
use tuyau_tokio::{MEM, MEM_NAME, STDIO, TCP};

use super::error::quote;
use super::options::{self, Use};
use super::parse::Address;
use super::{Uri, UriError, UriErrorKind};

impl Uri {
    /// Adds to `ctx` what this URI says: values ([`HOST`], [`PORT`], socket options, …), over
    /// what is there, and the offer of one transport. What derives the transport's endpoint from them
    /// is in [`context()`](crate::context()), over which `ctx` should lie. Nothing is connected yet.
    ///
    /// A port that the URI does not have is left to the context.
    ///
    /// ```
    /// let ctx = tuyau::uri("tcp://localhost:8080")?.apply(tuyau::context())?;
    /// // ctx.resolve().await
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    ///
    /// # Errors
    /// If the URI is only for listening, was not [allowed](Self::allow), or has a user or an
    /// option that nothing consumes.
    #[track_caller]
    pub fn apply(&self, ctx: Context) -> Result<Context, UriError> {
        self.check_connect()?;
        let ctx = options::apply(self, ctx, Use::Connect)?;
        Ok(match &self.address {
            Address::Host { host, port } => {
                let ctx = ctx.with(&HOST, host.to_plain().into()).offer(&TCP);
                match port {
                    Some(port) => ctx.with(&PORT, *port),
                    None => ctx,
                }
            }
            Address::Name(name) => ctx.with(&MEM_NAME, name.as_str().into()).offer(&MEM),
            Address::Nothing => ctx.offer(&STDIO),
            #[cfg(unix)]
            Address::Socket(path) => ctx.with(&UNIX_PATH, Target::path(path)).offer(&UNIX),
            #[cfg(unix)]
            Address::Path(path) => ctx.with(&FIFO, FifoPair::client(to_path(path))).offer(&FIFO),
            #[cfg(unix)]
            Address::Argv(argv) => ctx.with(&EXEC, Command::argv(argv)).offer(&EXEC),
            #[cfg(unix)]
            Address::Line(line) => ctx.with(&EXEC, Command::shell(line)).offer(&EXEC),
            #[cfg(not(unix))]
            _ => return Err(self.direction("this platform can't connect to it")),
        })
    }

    fn check_connect(&self) -> Result<(), UriError> {
        if !self.scheme.connects {
            return Err(self.direction("is to listen on only"));
        }
        if !self.allow.contains(self.scheme.wants) {
            let message = format!("the program has not allowed {}", quote(self.scheme.name));
            return Err(UriError::new(UriErrorKind::NotAllowed, &self.text, self.scheme_span(), message)
                .with_hint(format!(
                    "a URI may come from a stranger; if this one is to be trusted: .allow({})",
                    self.scheme.wants
                )));
        }
        self.check_port()?;
        self.check_user()
    }

    pub(crate) fn check_listen(&self) -> Result<(), UriError> {
        if !self.scheme.listens {
            return Err(self.direction("is to connect to only"));
        }
        self.check_user()
    }

    fn check_user(&self) -> Result<(), UriError> {
        let Some((_, span)) = &self.user else { return Ok(()) };
        let message = format!("{} has no use for a user", self.scheme.name);
        Err(UriError::new(UriErrorKind::User, &self.text, span.clone(), message)
            .with_hint("leave it out; a protocol that wants it takes it from the URI first"))
    }

    fn check_port(&self) -> Result<(), UriError> {
        if self.port() != Some(0) {
            return Ok(());
        }
        let end = self.authority_end();
        let start = self.text[..end].rfind(':').map_or(end, |colon| colon + 1);
        Err(UriError::new(UriErrorKind::Port, &self.text, start..end, "port 0 can't be connected to")
            .with_hint("a port is a number from 1 to 65535"))
    }

    /// For a URI without a port in a context without one.
    pub(crate) fn port_is_missing(&self) -> UriError {
        let end = self.authority_end();
        UriError::new(UriErrorKind::Port, &self.text, end..end, "the port is missing")
            .with_hint(format!("for example: {}", self.scheme.example))
    }

    fn authority_end(&self) -> usize {
        self.address_span.start + self.text[self.address_span.clone()].trim_end_matches('/').len()
    }

    fn direction(&self, what: &str) -> UriError {
        let message = format!("{} {what}", quote(self.scheme.name));
        UriError::new(UriErrorKind::Direction, &self.text, self.scheme_span(), message)
    }

    fn scheme_span(&self) -> std::ops::Range<usize> {
        0..self.scheme.name.len()
    }
}

#[cfg(unix)]
pub(crate) fn to_path(path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path).into()
}
