//! Real peers: other programs that a test talks to. Each has a port and a directory of its own, and
//! dies with the test, also if that panics or is killed.
//!
//! A program that is not installed fails the test, and the failure says what to install.

mod install;
mod postgres;
mod process;
mod redis;
mod server;
mod sshd;

pub use install::{command, require};
pub use postgres::postgres;
pub use process::{Ended, LIMIT, Peer, run};
pub use redis::redis;
pub use server::Server;
pub use sshd::{SshAgent, Sshd, keygen, ssh_agent, sshd, sshd_with};
