//! Unix stream sockets on the host's stack.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AcceptError, Accepted, Ask, ConnectCx, ConnectError, ConnectErrorKind, Flow, Key, Listener, RawListener,
    Target,
};

use crate::error::{accept_error, connect_error};

/// A fact of Unix socket flows: who the peer is, according to the system. It is whoever created
/// the peer's socket, and who has it now if it was handed on is not known.
pub static CREDENTIALS: Key<Credentials> = Key::new("credentials");

/// The identity of the process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
    /// The process id, where the system tells.
    pub pid: Option<i32>,
}

pub(crate) async fn connect(path: &[u8], cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
    cx.policy().check_address(None)?;
    let shown = Target::path(path);
    check(path, &shown)?;
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => {
                Some("there is no such socket: is the server running, and the path right?")
            }
            io::ErrorKind::ConnectionRefused if path.first() == Some(&0) => {
                Some("nobody listens on that abstract name")
            }
            io::ErrorKind::ConnectionRefused if !is_socket(path) => Some("that file is no socket"),
            io::ErrorKind::ConnectionRefused => {
                Some("nobody listens on that socket any more: is the server running?")
            }
            _ => None,
        };
        let error = connect_error(format_args!("connect to {shown}"), error);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    };
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(OsStr::from_bytes(path)).await {
            Ok(stream) => return Ok(flow(stream)),
            // The queue of the listener is full (unix(7)), and nothing tells when it no longer is.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

pub(crate) async fn listen(path: &[u8]) -> Result<Listener, ConnectError> {
    let shown = Target::path(path);
    check(path, &shown)?;
    let failed = |error| connect_error(format_args!("listen on {shown}"), error);
    if path.first() == Some(&0) {
        let listener = UnixListener::bind(OsStr::from_bytes(path)).map_err(failed)?;
        return Ok(Listener::new(UnixAcceptor::new(listener, None)));
    }
    let path = Path::new(OsStr::from_bytes(path));
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            clear_stale(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    }
    .map_err(failed)?;
    // The process may change its directory before the file is to be removed.
    let file = std::path::absolute(path).and_then(SocketFile::at).map_err(failed)?;
    Ok(Listener::new(UnixAcceptor::new(listener, Some(file))))
}

/// What the system would refuse with less clear words.
fn check(path: &[u8], shown: &Target) -> Result<(), ConnectError> {
    let why = match path {
        [] => "the path is empty",
        [0, ..] if !cfg!(any(target_os = "linux", target_os = "android")) => {
            "this system has no abstract socket names"
        }
        [0, name @ ..] if name.len() > 107 => "an abstract name has at most 107 bytes",
        [0, ..] => return Ok(()),
        path if path.contains(&0) => "a path has no NUL byte but in front, for an abstract name",
        path if path.len() > 107 => {
            "the path of a socket has at most 107 bytes: use a shorter one, or a relative one"
        }
        _ => return Ok(()),
    };
    Err(ConnectError::new(ConnectErrorKind::Misuse, format!("Unix socket `{shown}`")).with_hint(why))
}

/// Takes a socket file out of the way that nobody listens on.
fn clear_stale(path: &Path) -> Result<(), ConnectError> {
    let shown = path.display();
    let failed = |error| connect_error(format_args!("check whether {shown} is stale"), error);
    let in_use = |why: &'static str| {
        ConnectError::new(ConnectErrorKind::Environment, format!("listen on {shown}"))
            .with_source(io::Error::from(io::ErrorKind::AddrInUse))
            .with_hint(why)
    };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(in_use("that file is no socket, so it is left alone: remove it, or choose another path"));
    }
    if is_listened_on(path).map_err(failed)? {
        return Err(in_use("another process listens there: stop it, or choose another path"));
    }
    // Between the check and the removal somebody else may have put a live socket there. So it is
    // moved aside first, and moved back if it turns out to be another.
    let aside = aside(path);
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        moved => moved.map_err(failed)?,
    }
    let moved = fs::symlink_metadata(&aside).map_err(failed)?;
    if identity(&moved) != identity(&found) {
        // A hard link, unlike a second rename, never overwrites.
        let back = fs::hard_link(&aside, path);
        fs::remove_file(&aside).map_err(failed)?;
        back.map_err(failed)?;
        return Err(in_use("another process has just begun to listen there"));
    }
    fs::remove_file(&aside).map_err(failed)
}

/// A name beside `path` that no other process uses.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned().into_vec();
    name.extend_from_slice(format!(".stale-{}", std::process::id()).as_bytes());
    PathBuf::from(std::ffi::OsString::from_vec(name))
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        // Its queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        // A socket of another type: EPROTOTYPE.
        Err(error) if error.raw_os_error() == Some(nix::libc::EPROTOTYPE) => Ok(true),
        Err(error) => Err(error),
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// A socket file of ours, removed on drop if it still is ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: PathBuf) -> io::Result<Self> {
        let identity = identity(&fs::symlink_metadata(&path)?);
        Ok(Self { path, identity })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.identity);
        if ours {
            // Nobody can be told: a file that stays behind is stale, and replaced the next time.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(crate) fn flow(stream: UnixStream) -> Flow {
    Flow::from_tokio_with(stream, facts)
}

fn facts(stream: &UnixStream, ask: &mut Ask<'_>) {
    if let Ok(local) = stream.local_addr() {
        ask.answer(&LOCAL, || {
            target(&local).unwrap_or_else(|| Target::Described("unnamed Unix socket".into()))
        });
    }
    let credentials =
        stream.peer_cred().ok().map(|peer| Credentials { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() });
    if let Some(credentials) = credentials {
        ask.answer(&CREDENTIALS, || credentials);
    }
    if let Ok(peer) = stream.peer_addr() {
        ask.answer(&PEER, || target(&peer).unwrap_or_else(|| unnamed(credentials)));
    }
}

/// Who a peer without a name is.
fn unnamed(credentials: Option<Credentials>) -> Target {
    let who: Arc<str> = match credentials {
        Some(Credentials { uid, pid: Some(pid), .. }) => format!("process {pid} of user {uid}").into(),
        Some(Credentials { uid, .. }) => format!("a process of user {uid}").into(),
        None => "unnamed Unix socket".into(),
    };
    Target::Described(who)
}

fn is_socket(path: &[u8]) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::metadata(OsStr::from_bytes(path)).is_ok_and(|file| file.file_type().is_socket())
}

fn target(address: &SocketAddr) -> Option<Target> {
    if let Some(name) = address.as_abstract_name() {
        return Some(Target::path([&[0], name].concat()));
    }
    address.as_pathname().map(|path| Target::path(path.as_os_str().as_bytes()))
}

/// Accepts connections on a Unix socket.
#[derive(Debug)]
pub(crate) struct UnixAcceptor {
    // Dropped first: the file goes only once nobody can connect any more.
    listener: UnixListener,
    _file: Option<SocketFile>,
}

impl UnixAcceptor {
    fn new(listener: UnixListener, file: Option<SocketFile>) -> Self {
        Self { listener, _file: file }
    }

    /// Over a listener whose file, if any, belongs to somebody else.
    pub(crate) fn borrowed(listener: UnixListener) -> Self {
        Self::new(listener, None)
    }
}

impl RawListener for UnixAcceptor {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let (stream, _) = ready!(self.listener.poll_accept(cx)).map_err(accept_error)?;
        Poll::Ready(Ok(Accepted::Flow(flow(stream))))
    }

    fn local(&self) -> Target {
        let address = self.listener.local_addr().ok();
        address.and_then(|address| target(&address)).unwrap_or_else(|| Target::Described("unix".into()))
    }
}
