//! The system's errors, by who can act on them.

use std::fmt;
use std::io;

use tuyau_core::{AcceptError, AcceptErrorKind, ConnectError, ConnectErrorKind};

/// Why something could not be opened, with a hint where the usual reason is known.
pub(crate) fn connect_error(what: impl fmt::Display, error: io::Error) -> ConnectError {
    use io::ErrorKind::*;
    let (kind, hint) = match error.kind() {
        ConnectionRefused => (ConnectErrorKind::Refused, None),
        ConnectionReset | ConnectionAborted | BrokenPipe => (ConnectErrorKind::Closed, None),
        NetworkUnreachable => {
            (ConnectErrorKind::Unreachable, Some("this machine has no route there: is the network up?"))
        }
        HostUnreachable => (ConnectErrorKind::Unreachable, Some("the host is down, or a firewall hides it")),
        NetworkDown => (ConnectErrorKind::Unreachable, Some("the network interface is down")),
        TimedOut => {
            (ConnectErrorKind::TimedOut, Some("nothing answered: the host is down, or a firewall drops it"))
        }
        NotFound => (ConnectErrorKind::NotFound, None),
        InvalidInput => (ConnectErrorKind::Misuse, None),
        Unsupported => (ConnectErrorKind::Unsupported, None),
        AddrInUse => {
            (ConnectErrorKind::Environment, Some("something else listens there: stop it, or choose another"))
        }
        AddrNotAvailable => {
            (ConnectErrorKind::Environment, Some("no interface of this machine has that address"))
        }
        PermissionDenied => (
            ConnectErrorKind::Environment,
            Some("this user may not, or a firewall on this machine forbids it"),
        ),
        _ if is_exhausted(&error) => (
            ConnectErrorKind::Environment,
            Some("raise the limit of open files (`ulimit -n`), or open fewer"),
        ),
        _ => (ConnectErrorKind::Other, None),
    };
    let wrapped = ConnectError::new(kind, what.to_string()).with_source(error);
    match hint {
        Some(hint) => wrapped.with_hint(hint),
        None => wrapped,
    }
}

/// What an error of `accept(2)` means for the accept loop.
pub(crate) fn accept_error(error: io::Error) -> AcceptError {
    use io::ErrorKind::*;
    let kind = match error.kind() {
        _ if is_exhausted(&error) => AcceptErrorKind::Exhausted,
        // accept(2): errors that are pending on the new socket come through accept on Linux.
        ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted | NetworkDown
        | NetworkUnreachable | HostUnreachable | TimedOut | PermissionDenied => AcceptErrorKind::Connection,
        _ if is_pending_network_error(&error) => AcceptErrorKind::Connection,
        _ => AcceptErrorKind::Closed,
    };
    AcceptError::with_source(kind, error)
}

#[cfg(unix)]
fn is_exhausted(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

#[cfg(not(unix))]
fn is_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

#[cfg(unix)]
fn is_pending_network_error(error: &io::Error) -> bool {
    use nix::libc::{EHOSTDOWN, ENOPROTOOPT, EPROTO};
    matches!(error.raw_os_error(), Some(EPROTO | ENOPROTOOPT | EHOSTDOWN))
}

#[cfg(not(unix))]
fn is_pending_network_error(_error: &io::Error) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use nix::libc;

    #[test]
    fn accept_errors_are_told_apart() {
        let kind = |errno| accept_error(io::Error::from_raw_os_error(errno)).kind();
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            assert_eq!(kind(errno), AcceptErrorKind::Exhausted, "{errno}");
        }
        for errno in [libc::ECONNABORTED, libc::EPROTO, libc::EPERM, libc::EINTR, libc::ENETUNREACH] {
            assert_eq!(kind(errno), AcceptErrorKind::Connection, "{errno}");
        }
        for errno in [libc::EBADF, libc::EINVAL, libc::ENOTSOCK] {
            assert_eq!(kind(errno), AcceptErrorKind::Closed, "{errno}");
        }
    }

    #[test]
    fn connect_errors_keep_the_errno() {
        use std::error::Error;
        let error = connect_error("connect", io::Error::from_raw_os_error(libc::ENETUNREACH));
        assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(libc::ENETUNREACH));
        let exhausted = connect_error("connect", io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(exhausted.kind(), ConnectErrorKind::Environment);
    }
}
