//! The host's transports: TCP, Unix sockets, child processes, FIFOs, standard streams and memory,
//! each an endpoint key; the host's stack as a [`Net`](tuyau_core::Net); time and tasks as a
//! [`Runtime`](tuyau_core::Runtime); and [`serve`], the accept loop. All on tokio.
//!
//! It does not parse URIs and offers nothing: [`derivations`] says how the endpoints come about,
//! and whoever knows what was asked for offers one of them.
//!
//! ```no_run
//! use tuyau_core::{Context, names};
//! use tuyau_tokio::{TCP, derivations};
//!
//! # async fn example() -> Result<(), tuyau_core::Error> {
//! let ctx = derivations(Context::new().with(&names::HOST, "localhost".into()).with(&names::PORT, 80));
//! let flow = ctx.offer(&TCP).resolve().await?; // every address of the name is a candidate
//! # Ok(()) }
//! ```

mod error;
#[cfg(unix)]
mod exec;
#[cfg(unix)]
mod fifo;
mod host;
mod ip;
mod mem;
mod options;
#[cfg(unix)]
mod pipes;
mod runtime;
mod serve;
mod stdio;
#[cfg(unix)]
mod systemd;

#[cfg(unix)]
pub use exec::{ChildFailed, Command, EXEC, EXIT_STATUS, Exec};
#[cfg(unix)]
pub use fifo::{FIFO, Fifo, FifoPair, listen_fifo};
#[cfg(unix)]
pub use host::{CREDENTIALS, Credentials};
pub use host::{Host, host};
pub use ip::{IP, TCP, Tcp, TcpEndpoint, UNIX, UNIX_PATH, Unix, UnixEndpoint, derivations};
pub use mem::{MEM, MEM_HUB, MEM_NAME, Mem, MemEndpoint, MemHub, duplex};
pub use options::{BIND, FAST_OPEN, INTERFACE, KEEPALIVE, Keepalive, MARK, NODELAY};
pub use runtime::runtime;
pub use serve::{Failure, Serve, Served, serve};
pub use stdio::{STDIO, Stdio, StdioEndpoint, listen_stdio};
#[cfg(unix)]
pub use systemd::{SystemdError, systemd};

/// The page outside this crate, whose program is a test of it.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
