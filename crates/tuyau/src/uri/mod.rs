//! URIs: one front end to contexts.

mod apply;
mod encode;
mod error;
mod host;
mod options;
mod parse;
mod redact;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_encode;

use crate::{Allow, Scheme};
use encode::{PATH, PLAIN};
use parse::UriOption;

#[cfg(unix)]
pub(crate) use apply::to_path;
pub(crate) use host::Host;
pub(crate) use options::{Use, apply as apply_options};
pub(crate) use parse::Address;

pub use error::{UriError, UriErrorKind};
pub use host::UserInfo;
pub use options::OptionInfo;

/// Where to connect or listen, and through what: parsed, and checked as far as the text alone
/// tells.
///
#[doc = include_str!("../../docs/grammar.md")]
#[derive(Clone)]
pub struct Uri {
    /// As it was given: what errors point into.
    text: Arc<str>,
    scheme: &'static Scheme,
    user: Option<(UserInfo, Range<usize>)>,
    pub(crate) address: Address,
    address_span: Range<usize>,
    options: Vec<UriOption>,
    allow: Allow,
}

/// Parses a URI. Nothing but the network is allowed to it until [`Uri::allow`] says so.
///
/// ```
/// let uri = tuyau::uri("tcp://localhost:8080?nodelay=false")?;
/// assert_eq!((uri.host().as_deref(), uri.port()), (Some("localhost"), Some(8080)));
/// # Ok::<(), tuyau::UriError>(())
/// ```
///
/// # Errors
/// If it is no URI, or of no scheme that this build has: [`UriError`] says where and what would
/// be right.
pub fn uri(text: &str) -> Result<Uri, UriError> {
    parse::parse(text)
}

impl Uri {
    /// Allows `what`, besides what was allowed before. For URIs that come from somebody whom the
    /// program may serve so: its user, its configuration.
    ///
    /// ```
    /// use tuyau::Allow;
    /// let uri = tuyau::uri("unix:/run/app.sock")?.allow(Allow::LOCAL);
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    pub fn allow(mut self, what: Allow) -> Self {
        self.allow = self.allow | what;
        self
    }

    /// The scheme.
    pub fn scheme(&self) -> &'static Scheme {
        self.scheme
    }

    /// The host, if it has one: a name in ASCII as DNS has it, or an address without brackets.
    pub fn host(&self) -> Option<String> {
        match &self.address {
            Address::Host { host, .. } => Some(host.to_plain()),
            _ => None,
        }
    }

    /// The port, if it has one.
    pub fn port(&self) -> Option<u16> {
        match self.address {
            Address::Host { port, .. } => port,
            _ => None,
        }
    }

    /// Takes the user info, for a protocol that has a use for it. No transport has: what is left
    /// is an error when the URI is put to use.
    ///
    /// ```
    /// let mut uri = tuyau::uri("tcp://app:s3cret@db.internal:5432")?;
    /// let user = uri.take_user();
    /// assert_eq!(user.map(|user| user.name).as_deref(), Some("app"));
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    pub fn take_user(&mut self) -> Option<UserInfo> {
        self.user.take().map(|(user, _)| user)
    }

    /// Takes the option of this name, for a protocol that has a use for it; an option without
    /// `=value` gives the empty string. What no part of the stack consumes either is an error when
    /// the URI is put to use.
    ///
    /// ```
    /// let mut uri = tuyau::uri("tcp://db.internal:5432?database=app")?;
    /// assert_eq!(uri.take_option("database").as_deref(), Some("app"));
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    pub fn take_option(&mut self, name: &str) -> Option<String> {
        let index = self.options.iter().position(|option| option.name == name)?;
        Some(self.options.remove(index).value.unwrap_or_default())
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        parse::parse(text)
    }
}

/// In one spelling, whatever was given, with the host in ASCII; a password shows as `***`. Without
/// one, it parses to the same URI.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.scheme.name;
        match &self.address {
            Address::Host { host, port } => {
                write!(f, "{name}://")?;
                if let Some((UserInfo { name, password }, _)) = &self.user {
                    write!(f, "{}", percent_encode(name.as_bytes(), PLAIN))?;
                    f.write_str(if password.is_some() { ":***@" } else { "@" })?;
                }
                write!(f, "{host}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
            }
            Address::Socket(path) | Address::Path(path) => match path.as_slice() {
                [0, socket @ ..] => write!(f, "{name}:@{}", percent_encode(socket, PATH))?,
                // An @ in front would be an abstract name, two slashes a host.
                [b'@', path @ ..] => write!(f, "{name}:%40{}", percent_encode(path, PATH))?,
                [b'/', b'/', ..] => write!(f, "{name}://{}", percent_encode(path, PATH))?,
                path => write!(f, "{name}:{}", percent_encode(path, PATH))?,
            },
            Address::Name(text) => write!(f, "{name}:{}", percent_encode(text.as_bytes(), PLAIN))?,
            Address::Argv(argv) => write!(f, "{name}:{}", shell_words::join(argv))?,
            Address::Line(line) => write!(f, "{name}:{line}")?,
            Address::Nothing => f.write_str(name)?,
        }
        for (i, UriOption { name, value, .. }) in self.options.iter().enumerate() {
            let mark = if i == 0 { '?' } else { '&' };
            write!(f, "{mark}{}", percent_encode(name.as_bytes(), PLAIN))?;
            if let Some(value) = value {
                write!(f, "={}", percent_encode(value.as_bytes(), PLAIN))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}
