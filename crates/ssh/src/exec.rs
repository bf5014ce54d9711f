//! Commands on the server as flows.

use std::fmt;
use std::sync::Arc;

use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Key, Protection, Protocol, req,
};

use crate::inbox::ErrorSink;
use crate::net::Ssh;
use crate::session::Open;

/// A command on an SSH server: its standard input and output are the flow.
///
/// Half-close closes the command's input. When its output has ended, its exit status decides: success is
/// the end of the flow, anything else an error with a [`CommandFailed`] as source. Dropping the flow
/// closes the channel; what the server does to the command then is up to it.
///
/// That it is authenticated as well is a fact of the flow: of the server's host key, that depends on the hop.
pub static SSH_EXEC: Endpoint<SshExec> =
    Endpoint::new("ssh-exec", &SshExec).protection(Protection::Encrypted);
/// The server that [`SSH_EXEC`] runs commands on.
pub static SSH_SERVER: Key<Ssh> = Key::new("ssh-server");
/// The command that [`SSH_EXEC`] runs.
pub static SSH_COMMAND: Key<SshCommand> = Key::new("ssh-command").shown();
/// A fact of commands: how the command ended, once its output has been read to the end.
pub static EXIT: Key<Exit> = Key::new("ssh-exit").shown();

/// The protocol of [`SSH_EXEC`].
#[derive(Clone, Copy, Debug)]
pub struct SshExec;

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct SshExecEndpoint {
    /// The server.
    pub server: Ssh,
    /// The command.
    pub command: SshCommand,
}

/// `ctx` over the derivation of [`SSH_EXEC`] from [`SSH_SERVER`], which is `server`, and
/// [`SSH_COMMAND`]. Nothing is offered.
pub fn exec(ctx: Context, server: Ssh) -> Context {
    let defaults = Context::new().with(&SSH_SERVER, server).derive(
        &SSH_EXEC,
        (req(&SSH_SERVER), req(&SSH_COMMAND)),
        |(server, command)| async move { Ok(SshExecEndpoint { server, command }) },
    );
    ctx.under(defaults)
}

/// A command for the server's shell.
#[derive(Clone)]
pub struct SshCommand {
    line: Arc<str>,
    sink: Option<ErrorSink>,
}

impl SshCommand {
    /// A line, which the user's shell on the server interprets (RFC 4254 section 6.5).
    pub fn line(line: impl Into<Arc<str>>) -> Self {
        Self { line: line.into(), sink: None }
    }

    /// Gives what the command writes to its standard error to `sink`, as it comes. It runs on the
    /// task of the connection, and must not block. Without one, the last 4 KiB are in the error if the
    /// command fails.
    pub fn stderr(mut self, sink: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }
}

impl fmt::Display for SshCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for SshCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshCommand({})", self.line)
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Exit {
    /// By itself, with this status.
    Status(u32),
    /// By a signal, named without `SIG` (RFC 4254 section 6.10): `KILL`.
    Signal(Arc<str>),
}

impl Exit {
    /// Whether that is a success: status 0.
    pub fn success(&self) -> bool {
        *self == Self::Status(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status: {status}"),
            Self::Signal(signal) => write!(f, "signal: {signal}"),
        }
    }
}

/// A command ended badly: the source of the flow's error.
#[derive(Clone, Debug)]
pub struct CommandFailed {
    command: Arc<str>,
    exit: Option<Exit>,
    stderr: String,
}

impl CommandFailed {
    pub(crate) fn new(command: &Arc<str>, exit: Option<Exit>, stderr: String) -> Self {
        Self { command: command.clone(), exit, stderr }
    }

    /// How it ended; `None` if the server did not say.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// The end of what it wrote to its standard error, unless that went to a sink.
    pub fn stderr(&self) -> &str {
        &self.stderr
    }
}

impl fmt::Display for CommandFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, exit, stderr } = self;
        match exit {
            Some(exit) => write!(f, "`{command}` ended with {exit}")?,
            None => write!(f, "the server does not say how `{command}` ended")?,
        }
        if stderr.is_empty() { Ok(()) } else { write!(f, ", and said: {stderr}") }
    }
}

impl std::error::Error for CommandFailed {}

impl Protocol for SshExec {
    type Endpoint = SshExecEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: SshExecEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        let SshExecEndpoint { server, command } = endpoint;
        // What the command dials can't be known.
        cx.policy().check_address(None)?;
        let session = server.session(cx).await?;
        let channel = cx.hop("ssh channel", "for a command", session.open(Open::Command)).await?;
        channel.inbox().set_sink(command.sink.clone());
        let refused = |why: &'static str| {
            ConnectError::new(
                ConnectErrorKind::Refused,
                format!("run `{command}` on {}: {why}", session.server()),
            )
            .with_hint("the server may let this user forward only: see its configuration, and the options of the key in authorized_keys")
        };
        if channel.half().exec(true, command.line.as_bytes()).await.is_err() {
            return Err(refused("the connection ended"));
        }
        match channel.inbox().replied().await {
            Some(true) => Ok(channel.into_command(command.line)),
            Some(false) => Err(refused("the server refused")),
            None => Err(refused("the server closed the channel")),
        }
    }

    fn describe(&self, endpoint: &SshExecEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on {}", endpoint.command, endpoint.server)
    }
}
