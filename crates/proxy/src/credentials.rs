//! Who we are, to a proxy.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// A user name and a password. Neither is ever shown.
#[derive(Clone)]
pub struct Credentials {
    user: Arc<str>,
    password: Arc<str>,
}

impl Credentials {
    /// This user name and this password. What a proxy's protocol can't carry (a colon in the user name
    /// of HTTP's basic authentication, more than 255 bytes in SOCKS5) is an error when it is dialled.
    pub fn new(user: impl Into<Arc<str>>, password: impl Into<Arc<str>>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// Whether these are `user` and `password`, in a time that tells their lengths only.
    pub(crate) fn are(&self, user: &[u8], password: &[u8]) -> bool {
        bool::from(self.user.as_bytes().ct_eq(user) & self.password.as_bytes().ct_eq(password))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(<hidden>)")
    }
}
