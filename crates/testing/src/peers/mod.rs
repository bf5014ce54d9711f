//! Real peers: other programs that a test talks to. Each has a port and a directory of its own, and
//! dies with the test, also if that panics or is killed.
//!
//! A program that is not installed fails the test, and the failure says what to install.

mod install;
mod nginx;
mod nsd;
mod postgres;
mod process;
mod proxies;
mod python;
mod redis;
mod server;
mod sshd;

pub use install::{command, require};
pub use nginx::nginx;
pub use nsd::{Nsd, nsd};
pub use postgres::{postgres, postgres_tls};
pub use process::{Ended, LIMIT, Peer, run};
pub use proxies::{Proxy, dante, haproxy, microsocks, ssh_dynamic, tinyproxy};
pub use python::python;
pub use redis::{redis, redis_tls};
pub use server::Server;
pub use sshd::{SshAgent, Sshd, keygen, ssh_agent, sshd, sshd_with};
