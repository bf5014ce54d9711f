//! SSH: a server as a [`Net`](tuyau_core::Net), and the commands and sockets behind it as flows.
//!
//! [`SshHop`] is a hop: `ctx.via(Box::new(hop))` dials, and listens, on the server's side. [`SSH_EXEC`]
//! runs commands there. One connection carries all flows of a hop; see [`Ssh`].
//!
//! It reads no file, asks no agent and trusts no key that it was not told to; [`OpenSsh`] is what reads
//! `~/.ssh/config`. It is no shell, and
//! forwards neither agents nor X11.
//!
//! ```no_run
//! use tuyau_core::{Context, names};
//! use tuyau_ssh::{HostKeys, Identity, SshHop};
//! use tuyau_tokio::{TCP, derivations};
//!
//! # async fn example() -> Result<(), tuyau_core::Error> {
//! let bastion = Context::new().with(&names::HOST, "bastion".into()).with(&names::PORT, 22);
//! let bastion = derivations(bastion).offer(&TCP);
//! let hop = SshHop::new("ops")
//!     .host_keys(HostKeys::files(["/home/ops/.ssh/known_hosts".into()]))
//!     .identity(Identity::file("/home/ops/.ssh/id_ed25519"));
//! let ctx = bastion.via(Box::new(hop));
//! let ctx = ctx.replace(&names::HOST, "db.internal".into()).replace(&names::PORT, 5432);
//! let flow = ctx.resolve().await?; // looked up, and connected to, by the bastion
//! # Ok(()) }
//! ```

mod auth;
mod carrier;
mod channel;
mod clauses;
mod conditions;
mod config;
mod error;
mod exec;
mod handler;
mod inbox;
mod keys;
mod known_hosts;
mod listen;
mod net;
mod openssh;
#[cfg(feature = "server")]
mod server;
mod session;

pub use auth::AuthenticationFailed;
pub use channel::{SessionEnded, Unread};
pub use config::{Asker, BadKey, HOST_KEY, HostKeys, Identity, Keepalive, Question, Secret, SshHop};
pub use exec::{
    CommandFailed, EXIT, Exit, SSH_COMMAND, SSH_EXEC, SSH_SERVER, SshCommand, SshExec, SshExecEndpoint, exec,
};
pub use net::Ssh;
pub use openssh::{ConfigError, OpenSsh, Step};
#[cfg(feature = "server")]
pub use server::SshServer;
