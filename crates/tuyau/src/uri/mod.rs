//! URIs: one front end to contexts.

mod apply;
mod encode;
mod error;
mod foreseen;
mod host;
mod options;
mod parse;
mod redact;
mod stack;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::percent_encode;

use crate::schemes::{DEFAULT_TRANSPORT, SchemeKind, Wiring, hops, schemes};
use crate::{Allow, Scheme, Via};
use encode::{PATH, PLAIN};
use parse::UriOption;
use stack::{Role, Stack};

#[cfg(unix)]
pub(crate) use apply::to_path;
pub(crate) use host::Host;
#[cfg(any(
    feature = "proxy-protocol",
    feature = "ssh",
    feature = "tap",
    feature = "tls",
    feature = "ws"
))]
pub(crate) use options::OPTION;
pub(crate) use options::{Use, assign};
pub(crate) use parse::{Address, parse};
pub(crate) use stack::Role as UriRole;
#[cfg(feature = "tls")]
pub(crate) use table::boolean;
#[cfg(any(feature = "ssh", feature = "ws"))]
pub(crate) use table::duration;
#[cfg(any(feature = "ssh", feature = "tls"))]
pub(crate) use table::file;
pub(crate) use table::{TCP_OPTIONS, UNIX_OPTIONS};

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
    pub(crate) stack: Stack,
    pub(crate) user: Option<(UserInfo, Range<usize>)>,
    pub(crate) address: Address,
    address_span: Range<usize>,
    options: Vec<UriOption>,
    pub(crate) allow: Allow,
    /// What it goes through, nearest first.
    pub(crate) hops: Vec<Via>,
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
    parse(text, Role::Target)
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

    /// The base transport: `tcp`, of `tls://h:1`.
    pub fn scheme(&self) -> &'static Scheme {
        self.base()
    }

    pub(crate) fn base(&self) -> &'static Scheme {
        self.stack.base.scheme
    }

    /// All parts, outermost first: `tls+tcp`, of `tls://h:1`.
    pub fn stack(&self) -> String {
        self.stack.parts().map(|scheme| scheme.name).collect::<Vec<_>>().join("+")
    }

    /// The layers over the base transport, outermost first.
    pub fn layers(&self) -> impl Iterator<Item = &'static Scheme> {
        self.stack.layers.iter().map(|layer| layer.scheme)
    }

    /// Goes through `hop`, after what was added before: nearest first.
    ///
    /// ```
    /// # #[cfg(feature = "exec")] {
    /// use tuyau::{Allow, Uri};
    /// let hop = tuyau::via("exec:ssh -W %h:%p bastion")?.allow(Allow::EXEC);
    /// let uri = tuyau::uri("tcp://db.internal:5432")?.via(hop);
    /// # }
    /// # Ok::<(), tuyau::UriError>(())
    /// ```
    pub fn via(mut self, hop: Via) -> Self {
        self.hops.push(hop);
        self
    }

    /// What it goes through, nearest first.
    pub fn hops(&self) -> &[Via] {
        &self.hops
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

impl Uri {
    /// The shortest way to write the stack.
    fn short_stack(&self) -> String {
        let mut names: Vec<_> = self.stack.parts().map(|scheme| scheme.name).collect();
        if names.len() > 1 && names.last() == Some(&DEFAULT_TRANSPORT) {
            names.pop();
        }
        for (table, kind) in [(hops(), SchemeKind::Hop), (schemes(), SchemeKind::Layer)] {
            for short in table.iter().filter(|scheme| scheme.kind == kind) {
                let Wiring::Short(long) = short.wiring else { continue };
                while let Some(at) = names.windows(long.len()).position(|window| window == long) {
                    if kind == SchemeKind::Hop && (at > 0 || self.stack.hop.is_none()) {
                        break;
                    }
                    names.splice(at..at + long.len(), [short.name]);
                }
            }
        }
        names.join("+")
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        parse(text, Role::Target)
    }
}

/// In one spelling, whatever was given, with the host in ASCII; a password shows as `***`. Without
/// one, it parses to the same URI.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.short_stack();
        match &self.address {
            Address::Host { host, port } => {
                write!(f, "{name}://")?;
                if let Some((UserInfo { name, password }, _)) = &self.user {
                    write!(f, "{}", percent_encode(name.as_bytes(), PLAIN))?;
                    f.write_str(if password.is_some() { ":***@" } else { "@" })?;
                }
                write!(f, "{host}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                if let Some(path) = self.options.iter().find(|option| option.is_path()) {
                    let path = path.value.as_deref().unwrap_or_default();
                    write!(f, "{}", percent_encode(path.as_bytes(), PATH))?;
                }
            }
            Address::Socket(path) | Address::Path(path) => match path.as_slice() {
                [0, socket @ ..] => write!(f, "{name}:@{}", percent_encode(socket, PATH))?,
                // An @ in front would be an abstract name, two slashes a host.
                [b'@', path @ ..] => write!(f, "{name}:%40{}", percent_encode(path, PATH))?,
                [b'/', b'/', ..] => write!(f, "{name}://{}", percent_encode(path, PATH))?,
                path => write!(f, "{name}:{}", percent_encode(path, PATH))?,
            },
            Address::Name(text) => write!(f, "{name}:{}", percent_encode(text.as_bytes(), PLAIN))?,
            Address::Argv(argv) => write!(f, "{name}:{}", words(argv))?,
            Address::Line(line) => write!(f, "{name}:{line}")?,
            Address::Nothing => f.write_str(&name)?,
        }
        for (i, option) in self.options.iter().filter(|option| !option.is_path()).enumerate() {
            let UriOption { name, value, .. } = option;
            let mark = if i == 0 { '?' } else { '&' };
            write!(f, "{mark}{}", percent_encode(name.as_bytes(), PLAIN))?;
            if value.is_some() && redact::is_secret(option.split().name) {
                f.write_str("=***")?;
            } else if let Some(value) = value {
                write!(f, "={}", percent_encode(value.as_bytes(), PATH))?;
            }
        }
        Ok(())
    }
}

/// Words as they are split again. A `%h` reads better without quotes.
fn words(argv: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte))
    };
    let quoted =
        |word: &String| if plain(word) { word.clone() } else { shell_words::quote(word).into_owned() };
    argv.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uri({self})")
    }
}
