//! What a URI may reach beyond the network.

use std::fmt;
use std::ops::BitOr;

/// What a URI may do besides connecting to the network: a set. The default is nothing, because a
/// URI may come from a stranger.
///
/// ```
/// use tuyau::Allow;
/// let allowed = Allow::LOCAL | Allow::EXEC;
/// assert!(allowed.contains(Allow::EXEC) && !allowed.contains(Allow::FILES));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Allow(u8);

impl Allow {
    /// Nothing but the network, and what this program itself listens on in memory.
    pub const NOTHING: Self = Self(0);
    /// Connect to sockets of this machine: `unix:`.
    pub const LOCAL: Self = Self(1);
    /// Start programs: `exec:` and `sh:`.
    pub const EXEC: Self = Self(1 << 1);
    /// Open files: `fifo:`.
    pub const FILES: Self = Self(1 << 2);
    /// Take this process's standard input and output: `-`.
    pub const STDIO: Self = Self(1 << 3);
    /// Choose the way out of this machine: the options `bind`, `interface` and `mark`.
    pub const ROUTE: Self = Self(1 << 4);
    /// All of it: for what the user of the program typed.
    pub const ALL: Self = Self((1 << 5) - 1);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::LOCAL, "LOCAL"),
        (Self::EXEC, "EXEC"),
        (Self::FILES, "FILES"),
        (Self::STDIO, "STDIO"),
        (Self::ROUTE, "ROUTE"),
    ];

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Allow {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// `Allow::LOCAL | Allow::EXEC`: as in the source.
impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NOTHING {
            return f.write_str("Allow::NOTHING");
        }
        let names = Self::NAMES.iter().filter(|(one, _)| self.contains(*one));
        for (i, (_, name)) in names.enumerate() {
            write!(f, "{}Allow::{name}", if i > 0 { " | " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
