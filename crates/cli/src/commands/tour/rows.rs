//! The stages of the tour: how a server comes about, and how it is connected to.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// One transport.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) server: Server,
    /// Why this machine can't have it, if it can't.
    pub(super) absent: Option<&'static str>,
}

#[derive(Debug)]
pub(super) enum Server {
    /// In this process.
    Here {
        /// The URI to listen on.
        listen: String,
        connect: Connect,
    },
    /// A program that the client starts, which appends what it sees to a file.
    Program { connect: String, seen: PathBuf },
}

/// Where the client connects to.
#[derive(Debug)]
pub(super) enum Connect {
    /// What is listened on.
    Same,
    /// This host, at the port that the system chose.
    Host(&'static str),
}

impl Stage {
    fn here(name: &'static str, listen: impl Into<String>, connect: Connect) -> Self {
        Self { name, server: Server::Here { listen: listen.into(), connect }, absent: None }
    }
}

/// All of them; `dir` is for what needs a place in the file system.
pub(super) fn stages(dir: &Path) -> Result<Vec<Stage>, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("where this program is: {error}")))?;
    let words = |seen: &Path| {
        let words = [&*program.to_string_lossy(), "demo", "server", "-", "--seen", &*seen.to_string_lossy()];
        shell_words::join(words)
    };
    let exec = |name, scheme: &str| {
        let seen = dir.join(format!("{scheme}.seen"));
        let connect = format!("{scheme}:{}", words(&seen));
        Stage { name, server: Server::Program { connect, seen }, absent: None }
    };
    let at = |scheme: &str, name: &str| format!("{scheme}:{}", dir.join(name).display());
    let mut stages = vec![
        Stage::here("tcp v4", "tcp://127.0.0.1:0", Connect::Host("127.0.0.1")),
        Stage { absent: no_ipv6(), ..Stage::here("tcp v6", "tcp://[::1]:0", Connect::Host("[::1]")) },
        Stage::here("tcp name", "tcp://localhost:0", Connect::Host("localhost")),
        Stage::here("unix", at("unix", "socket"), Connect::Same),
    ];
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        stages.push(Stage::here("unix @", format!("unix:@{name}"), Connect::Same));
    }
    stages.extend([
        exec("exec", "exec"),
        exec("sh", "sh"),
        Stage::here("fifo", at("fifo", "pipe"), Connect::Same),
        Stage::here("mem", "mem:tour", Connect::Same),
    ]);
    Ok(stages)
}

fn no_ipv6() -> Option<&'static str> {
    let bound = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0));
    bound.is_err().then_some("this machine has no IPv6 loopback address")
}
