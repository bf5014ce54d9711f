//! Child processes as flows.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::runtime::Handle;
use tokio::time::Sleep;
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    Ask, ConnectCx, ConnectError, ConnectErrorKind, Endpoint, Flow, FlowError, FlowErrorKind, Key, Protocol,
    Target,
};

use crate::error::connect_error;
use crate::pipes::Pipes;

/// A child process: its standard input and output are the flow, its standard error is ours.
///
/// Half-close closes the child's input. When its output ends, its exit status decides: success is
/// the end of the flow, anything else is an error with a [`ChildFailed`] as source. Dropping the flow
/// kills the child; at once, or, if its input was closed before, when it has had 5 s to pass on what it
/// was given. What the child has started itself goes on, unless [it has a group](Command::in_own_group).
pub static EXEC: Endpoint<Exec> = Endpoint::new("exec", &Exec);
/// A fact of child processes: how the child ended, once its output has been read to the end.
pub static EXIT_STATUS: Key<ExitStatus> = Key::new("exit-status").shown();

/// How long after the end of its output a child may take to exit. One that takes longer goes on
/// without us: its output just ends.
const EXIT_GRACE: Duration = Duration::from_millis(500);
/// How long a child may go on after a flow that was shut down is dropped.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// The protocol of [`EXEC`].
#[derive(Clone, Copy, Debug)]
pub struct Exec;

/// A command to run: a program and its arguments, or a line for the shell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    argv: Arc<[OsString]>,
    shell: bool,
    directory: Option<PathBuf>,
    own_group: bool,
}

impl Command {
    /// A program and its arguments. No shell is involved: nothing is expanded or split.
    pub fn argv(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            shell: false,
            directory: None,
            own_group: false,
        }
    }

    /// A line that `/bin/sh` interprets.
    pub fn shell(line: impl Into<OsString>) -> Self {
        Self { shell: true, ..Self::argv([line]) }
    }

    /// In this directory; ours, if not set.
    pub fn in_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// In a process group of its own, which is killed as a whole with the flow: with all that the child has started,
    /// unless that made a group of its own, or the child has ended before. A terminal's keys do not reach it, nor can
    /// it read from the terminal: it can ask nobody for a password.
    pub fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    fn to_system(&self) -> Option<tokio::process::Command> {
        let Self { argv, shell, directory, own_group } = self;
        let (program, arguments) = argv.split_first()?;
        let mut command = if *shell {
            let mut command = tokio::process::Command::new("/bin/sh");
            command.arg("-c").arg(program);
            command
        } else {
            let mut command = tokio::process::Command::new(program);
            command.args(arguments);
            command
        };
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        if *own_group {
            command.process_group(0);
        }
        Some(command)
    }

    fn program(&self) -> &OsStr {
        if self.shell {
            OsStr::new("/bin/sh")
        } else {
            self.argv.first().map_or(OsStr::new(""), OsString::as_os_str)
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.argv.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            let word = word.to_string_lossy();
            // So that `a b` and `a` `b` look different.
            if !self.shell && (word.is_empty() || word.contains([' ', '\'', '"', '\n', '\t'])) {
                write!(f, "{space}{word:?}")?;
            } else {
                write!(f, "{space}{word}")?;
            }
        }
        Ok(())
    }
}

impl Protocol for Exec {
    type Endpoint = Command;
    type Flow = Flow;

    async fn connect(&self, command: Command, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        // What the child dials can't be known.
        cx.policy().check_address(None)?;
        spawn(command)
    }

    fn describe(&self, command: &Command, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{command}")
    }
}

fn spawn(command: Command) -> Result<Flow, ConnectError> {
    let Some(mut system) = command.to_system() else {
        return Err(ConnectError::new(ConnectErrorKind::Misuse, "an empty command")
            .with_hint("name a program to run"));
    };
    let failed = |error: io::Error| {
        let not_found = error.kind() == io::ErrorKind::NotFound;
        let error = connect_error(format_args!("run `{command}`"), error);
        match (not_found, &command.directory) {
            (true, Some(directory)) => error.with_hint(format!(
                "there is no program `{}` in $PATH, or no directory `{}`",
                command.program().display(),
                directory.display()
            )),
            (true, None) => {
                error.with_hint(format!("there is no program `{}` in $PATH", command.program().display()))
            }
            (false, _) => error,
        }
    };
    let mut child = system
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("both were asked for")
    };
    // tokio's own halves can't be polled for reading and writing as one.
    let read = output.into_owned_fd().and_then(pipe::Receiver::from_owned_fd).map_err(failed)?;
    let write = input.into_owned_fd().and_then(pipe::Sender::from_owned_fd).map_err(failed)?;
    let peer = Target::Described(match child.id() {
        Some(pid) => format!("`{command}`, process {pid}").into(),
        None => format!("`{command}`").into(),
    });
    let pipes = Pipes::new(read, write);
    let child = Some(Running { child, own_group: command.own_group });
    let (end, refused, told_the_end) = (End::No, None, false);
    let stream = ChildStream { pipes, command, child, peer, end, refused, told_the_end };
    Ok(Flow::from_tokio_with(stream, |stream, ask| stream.fact(ask)))
}

/// A child ended badly: the source of the flow's error.
#[derive(Clone, Debug)]
pub struct ChildFailed {
    command: String,
    status: ExitStatus,
}

impl ChildFailed {
    /// How it ended.
    pub fn status(&self) -> ExitStatus {
        self.status
    }
}

impl fmt::Display for ChildFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}: its standard error may say why", self.command, self.status)
    }
}

impl std::error::Error for ChildFailed {}

struct ChildStream {
    pipes: Pipes,
    command: Command,
    /// There until the stream is dropped.
    child: Option<Running>,
    peer: Target,
    end: End,
    /// Until when a child that takes no more may exit, which says why.
    refused: Option<Pin<Box<Sleep>>>,
    /// Whether the child's input was closed: it was told all, and may finish its work.
    told_the_end: bool,
}

/// Whether the child's output has ended, and what is known of the child then.
enum End {
    No,
    Waiting(Pin<Box<Sleep>>),
    Exited(ExitStatus),
    GoesOn,
}

impl ChildStream {
    /// After the end of the output: what became of the child.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.end {
                End::No => self.end = End::Waiting(Box::pin(tokio::time::sleep(EXIT_GRACE))),
                End::Waiting(grace) => {
                    self.end = match ready!(poll_exit(&mut self.child, grace, cx))? {
                        Some(status) => End::Exited(status),
                        None => End::GoesOn,
                    }
                }
                End::Exited(status) if !status.success() => {
                    let status = *status;
                    return Poll::Ready(Err(self.failed(FlowErrorKind::UnexpectedEof, status)));
                }
                End::Exited(_) | End::GoesOn => return Poll::Ready(Ok(())),
            }
        }
    }

    /// After a write: that the child has failed, if it takes no more because of that.
    fn poll_written(&mut self, cx: &mut Context<'_>, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if !matches!(&written, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
            return Poll::Ready(written);
        }
        let grace = self.refused.get_or_insert_with(|| Box::pin(tokio::time::sleep(EXIT_GRACE)));
        Poll::Ready(match ready!(poll_exit(&mut self.child, grace, cx)) {
            Ok(Some(status)) if !status.success() => Err(self.failed(FlowErrorKind::BrokenPipe, status)),
            _ => written,
        })
    }

    fn failed(&self, kind: FlowErrorKind, status: ExitStatus) -> io::Error {
        let failed = ChildFailed { command: self.command.to_string(), status };
        FlowError::with_source(kind, failed).into()
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&PEER, || self.peer.clone());
        ask.answer(&LOCAL, || Target::Described("pipes to a child process".into()));
        if let End::Exited(status) = self.end {
            ask.answer(&EXIT_STATUS, || status);
        }
    }
}

/// How `child` ended, or `None` if it goes on after `grace`.
fn poll_exit(
    child: &mut Option<Running>,
    grace: &mut Pin<Box<Sleep>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Option<ExitStatus>>> {
    if let Some(Running { child, .. }) = child
        && let Poll::Ready(status) = pin!(child.wait()).poll(cx)
    {
        return Poll::Ready(status.map(Some));
    }
    grace.as_mut().poll(cx).map(|()| Ok(None))
}

impl AsyncRead for ChildStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.end, End::No) {
            let before = buf.remaining();
            ready!(Pin::new(&mut self.pipes).poll_read(cx, buf))?;
            if before == 0 || buf.remaining() < before {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_end(cx)
    }
}

impl AsyncWrite for ChildStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipes).poll_write(cx, bytes));
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipes).poll_write_vectored(cx, slices));
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipes.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.pipes).poll_shutdown(cx))?;
        self.told_the_end = true;
        Poll::Ready(Ok(()))
    }
}

/// A socket delivers what was written before it was shut down, also if it is closed at once. So a
/// child that was told the end gets some time to pass on what it was given.
impl Drop for ChildStream {
    fn drop(&mut self) {
        let may_finish = self.told_the_end && !matches!(self.end, End::Exited(_));
        if let (true, Some(mut running), Ok(runtime)) = (may_finish, self.child.take(), Handle::try_current())
        {
            runtime.spawn(async move {
                // Dropped after that, or with the runtime: killed.
                let _ = tokio::time::timeout(FINISH_GRACE, running.child.wait()).await;
            });
        }
    }
}

/// tokio kills the child on drop, and reaps it.
struct Running {
    child: Child,
    own_group: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Until it was waited for nobody else can have its number.
        let group = self.child.id().filter(|_| self.own_group).and_then(|id| i32::try_from(id).ok());
        if let Some(group) = group {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}
