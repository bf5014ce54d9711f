//! Sockets inherited from systemd, or from whatever speaks its protocol (`sd_listen_fds(3)`). The
//! crate's only module with `unsafe`: file descriptors come as numbers in the environment.
#![allow(unsafe_code)]

use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::{Domain, SockRef, Type};
use tokio::net::{TcpListener, UnixListener};
use tuyau_core::Listener;

use crate::host::{TcpAcceptor, UnixAcceptor};

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// The listeners that were handed over to this process, with their names (`FileDescriptorName=` in
/// the unit; `unknown` if it has none), in the unit's order. None at all if nothing was handed over, or
/// to another process.
///
/// The listeners are duplicates: whoever handed them over keeps them open in any case, so that
/// dropping one does not close the port. The inherited descriptors are marked close-on-exec, so
/// that child processes don't inherit them. Must be called within a tokio runtime.
///
/// # Errors
/// If the variables make no sense, or a descriptor is not a listening TCP or Unix stream socket.
pub fn systemd() -> Result<Vec<(String, Listener)>, SystemdError> {
    let Some(count) = handed_over()? else { return Ok(Vec::new()) };
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut listeners = Vec::new();
    for fd in FIRST..FIRST + count {
        let name = names.next().unwrap_or("unknown").to_owned();
        let listener = duplicate(fd)
            .and_then(listener)
            .map_err(|source| SystemdError { what: What::Socket(fd, name.clone()), source: Some(source) })?;
        listeners.push((name, listener));
    }
    Ok(listeners)
}

/// How many descriptors were handed over to this very process.
fn handed_over() -> Result<Option<RawFd>, SystemdError> {
    let (Some(pid), Some(count)) = (variable("LISTEN_PID")?, variable("LISTEN_FDS")?) else {
        return Ok(None);
    };
    if i64::from(pid) != i64::from(std::process::id()) {
        return Ok(None);
    }
    if !(0..=RawFd::MAX - FIRST).contains(&count) {
        return Err(SystemdError { what: What::Variable("LISTEN_FDS"), source: None });
    }
    Ok(Some(count))
}

fn variable(name: &'static str) -> Result<Option<RawFd>, SystemdError> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    match value.to_str().map(str::parse) {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(SystemdError { what: What::Variable(name), source: None }),
    }
}

fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: whoever set LISTEN_PID to our process id passed this descriptor on to us, and it is
    // not owned by anything in this process: it stays open for ever, longer than the borrow. Were
    // it not open after all, the system calls below would fail with EBADF, and nothing else.
    let inherited = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(inherited.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // With close-on-exec set.
    inherited.try_clone_to_owned()
}

fn listener(socket: OwnedFd) -> io::Result<Listener> {
    let known = SockRef::from(&socket);
    if known.r#type()? != Type::STREAM || !known.is_listener()? {
        return Err(io::Error::other("it is not a listening stream socket (`Accept=yes` is not supported)"));
    }
    known.set_nonblocking(true)?;
    match known.domain()? {
        Domain::IPV4 | Domain::IPV6 => {
            let listener = TcpListener::from_std(socket.into())?;
            Ok(Listener::new(TcpAcceptor::new(vec![listener], Default::default())))
        }
        Domain::UNIX => Ok(Listener::new(UnixAcceptor::borrowed(UnixListener::from_std(socket.into())?))),
        _ => Err(io::Error::other("it is neither a TCP nor a Unix socket")),
    }
}

/// What was handed over can't be used.
#[derive(Debug)]
pub struct SystemdError {
    what: What,
    source: Option<io::Error>,
}

#[derive(Debug)]
enum What {
    Variable(&'static str),
    Socket(RawFd, String),
}

impl fmt::Display for SystemdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Variable(name) => write!(f, "the environment variable {name} is not a number in range"),
            What::Socket(fd, name) => {
                write!(f, "the inherited descriptor {fd} (`{name}`) can't be listened on")
            }
        }
    }
}

impl std::error::Error for SystemdError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
