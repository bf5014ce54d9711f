//! A pair of FIFOs as a flow, one per direction.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use tokio::net::unix::pipe;
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, BoxFuture, ConnectCx, ConnectError, Endpoint, Flow, Listener,
    Protocol, RawListener, Role, Target,
};

use crate::error::{accept_error, connect_error};
use crate::pipes::Pipes;

/// A pair of FIFOs, named as the client sees them.
///
/// A FIFO carries bytes one way, from whoever opened it to write to whoever opened it to read, and
/// can't tell clients apart: a pair carries one connection, and clients take turns at it (they lock the file
/// that they read). Connecting waits until somebody has the file open that it writes to.
pub static FIFO: Endpoint<Fifo> = Endpoint::new("fifo", &Fifo);

/// The protocol of [`FIFO`].
#[derive(Clone, Copy, Debug)]
pub struct Fifo;

/// Two FIFOs: where one side reads, and where it writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FifoPair {
    /// Where this side reads.
    pub read: PathBuf,
    /// Where this side writes.
    pub write: PathBuf,
}

impl FifoPair {
    /// The client's side of the pair `base`: it writes to `base.in` and reads from `base.out`. (In and out
    /// as the server has them, like `server <base.in >base.out` in a shell.)
    pub fn client(base: impl AsRef<Path>) -> Self {
        let named = |suffix: &str| {
            let mut name = base.as_ref().as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { read: named(".out"), write: named(".in") }
    }

    /// The server's side of the pair `base`: it reads from `base.in` and writes to `base.out`.
    pub fn server(base: impl AsRef<Path>) -> Self {
        Self::client(base).reversed()
    }

    /// The same FIFOs, from the other side.
    pub fn reversed(self) -> Self {
        Self { read: self.write, write: self.read }
    }
}

impl fmt::Display for FifoPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reads {}, writes {}", self.read.display(), self.write.display())
    }
}

impl Protocol for Fifo {
    type Endpoint = FifoPair;
    type Flow = Flow;

    async fn connect(&self, pair: FifoPair, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        // Who has the other ends open can't be known.
        cx.policy().check_address(None)?;
        open(&pair, Role::Client)
            .await
            .map(|opened| flow(opened, &pair))
            .map_err(|error| explain(&pair, error))
    }

    fn describe(&self, pair: &FifoPair, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{pair}")
    }
}

fn explain(pair: &FifoPair, error: io::Error) -> ConnectError {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => {
            Some("start the server first: it makes the FIFOs; or make them with mkfifo")
        }
        io::ErrorKind::InvalidInput => Some("one of the two is no FIFO: make it with mkfifo"),
        _ => None,
    };
    let error = connect_error(format_args!("FIFOs ({pair})"), error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// Opens both, this side's reading end at once, so that the peer finds a reader; then waits for a
/// reader of its own. Either side may come first. Cancel safe.
async fn open(pair: &FifoPair, role: Role) -> io::Result<Opened> {
    let mut pause = Pause::default();
    let mut lock = None;
    // Never a blocking `open(2)` in a thread: it would be there until a peer comes, which may be never.
    let read = loop {
        let file =
            fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&pair.read)?;
        if role == Role::Server {
            break pipe::Receiver::from_file(file)?;
        }
        // Clients take turns: who has it locked is about to be accepted, and then others find a new pair.
        match Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => {
                lock = Some(locked);
                break pipe::Receiver::from_file(file)?;
            }
            Err((_, Errno::EWOULDBLOCK)) => pause.wait().await,
            Err((_, error)) => return Err(error.into()),
        }
    };
    let write = loop {
        match pipe::OpenOptions::new().open_sender(&pair.write) {
            Ok(write) => break write,
            // No reader yet (fifo(7)), and nothing tells when there is one.
            Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => pause.wait().await,
            Err(error) => return Err(error),
        }
    };
    let mut first = Vec::new();
    if role == Role::Server {
        // A new pair may take the names only once the client has both files open.
        while !writer_has_come(&read, &mut first)? {
            pause.wait().await;
        }
    }
    Ok(Opened { pipes: Pipes::new(read, write).locked(lock), first })
}

/// Whether somebody has the other end open, or had. The only way to know is to read; what was read goes
/// to `first`.
fn writer_has_come(read: &pipe::Receiver, first: &mut Vec<u8>) -> io::Result<bool> {
    let mut byte = [0];
    match nix::unistd::read(read, &mut byte) {
        Ok(0) => {
            let mut hung_up = [PollFd::new(read.as_fd(), PollFlags::POLLIN)];
            nix::poll::poll(&mut hung_up, PollTimeout::ZERO)?;
            Ok(hung_up[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)))
        }
        Ok(_) => {
            first.extend(byte);
            Ok(true)
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

struct Opened {
    pipes: Pipes,
    /// Bytes that were read already.
    first: Vec<u8>,
}

/// The time between two tries: short at first, since the peer is usually about to come.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(Duration::from_millis(1))
    }
}

impl Pause {
    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_millis(50));
    }
}

/// A stream that knows its files, since pipes don't.
fn flow(opened: Opened, pair: &FifoPair) -> Flow {
    let FifoPair { read, write } = pair;
    let peer = Target::Described(format!("whoever writes {}", read.display()).into());
    let local = Target::Described(format!("FIFO {}", write.display()).into());
    Flow::from_tokio_with(opened.pipes.between(local, peer), |pipes, ask| {
        if let Some((local, peer)) = pipes.ends() {
            ask.answer(&PEER, || peer.clone()).answer(&LOCAL, || local.clone());
        }
    })
    .with_unread(opened.first)
}

/// Listens on a pair of FIFOs, `pair` as the server sees them: `FifoPair::server`.
///
/// FIFOs that don't exist are made, for this user alone. A client is accepted once it has opened
/// both; from then on the names stand for a new pair, for the next one. The last pair is removed on
/// drop. FIFOs that exist are used as they are, for one connection, and stay.
///
/// # Errors
/// If they can be neither used nor made.
pub fn listen_fifo(pair: FifoPair) -> Result<Listener, ConnectError> {
    let failed = |error| explain(&pair, error);
    let made = Made::new(&pair).map_err(failed)?;
    Ok(Listener::new(FifoListener { state: Accepting::Next, pair, made }))
}

struct FifoListener {
    pair: FifoPair,
    made: Made,
    state: Accepting,
}

enum Accepting {
    Next,
    // A listener is `Sync`, a boxed future is not. Never locked.
    Opening(Mutex<BoxFuture<'static, io::Result<Opened>>>),
    Done,
}

impl FifoListener {
    fn accepted(&mut self, opened: Opened) -> Poll<Result<Accepted, AcceptError>> {
        // New files for the next client, so that it can't meet this one's bytes.
        self.state = match self.made.renew(&self.pair) {
            Some(Ok(())) => Accepting::Next,
            Some(Err(_)) | None => Accepting::Done,
        };
        Poll::Ready(Ok(Accepted::Flow(flow(opened, &self.pair))))
    }
}

impl RawListener for FifoListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        loop {
            match &mut self.state {
                Accepting::Next => {
                    let pair = self.pair.clone();
                    self.state =
                        Accepting::Opening(Mutex::new(Box::pin(
                            async move { open(&pair, Role::Server).await },
                        )));
                }
                Accepting::Opening(opening) => {
                    let opening = opening.get_mut().unwrap_or_else(PoisonError::into_inner);
                    let opened = ready!(opening.as_mut().poll(cx));
                    self.state = Accepting::Next;
                    return match opened {
                        Ok(opened) => self.accepted(opened),
                        Err(error) => Poll::Ready(Err(accept_error(error))),
                    };
                }
                Accepting::Done => return Poll::Ready(Err(AcceptError::new(AcceptErrorKind::Closed))),
            }
        }
    }

    fn local(&self) -> Target {
        Target::Described(format!("FIFOs ({})", self.pair).into())
    }
}

/// The FIFOs that a listener has made: removed on drop, if they still are the same.
#[derive(Default)]
struct Made(Vec<(PathBuf, (u64, u64))>);

impl Made {
    fn new(pair: &FifoPair) -> io::Result<Self> {
        let mut made = Self::default();
        for path in [&pair.read, &pair.write] {
            let path = std::path::absolute(path)?;
            match nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
                Ok(()) => {
                    let file = fs::symlink_metadata(&path)?;
                    made.0.push((path, (file.dev(), file.ino())));
                }
                Err(Errno::EEXIST) if fs::metadata(&path)?.file_type().is_fifo() => {}
                Err(Errno::EEXIST) => return Err(io::ErrorKind::InvalidInput.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(made)
    }

    /// Replaces the FIFOs by new ones; `None` if not both are ours.
    fn renew(&mut self, pair: &FifoPair) -> Option<io::Result<()>> {
        if self.0.len() < 2 {
            return None;
        }
        *self = Self::default();
        Some(Self::new(pair).map(|made| *self = made))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for (path, identity) in &self.0 {
            if fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == *identity) {
                // Nobody can be told; the next listener uses what stays behind.
                let _ = fs::remove_file(path);
            }
        }
    }
}
