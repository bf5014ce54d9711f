//! The program, and those it talks to, each as a process that dies with the test.

use std::ffi::OsStr;
use std::process::Command;

pub(crate) use tuyau_testing::Place;
pub(crate) use tuyau_testing::peers::{LIMIT, Peer, run};

/// The program.
pub(crate) fn tuyau<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuyau"));
    command.args(args);
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(variable);
    }
    command
}

/// Another program, which must be installed.
pub(crate) fn peer<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Command {
    let package = match program {
        "h2load" => "nghttp2-client",
        "nc" => "netcat-openbsd",
        "nginx" => "nginx-light",
        "psql" => "postgresql-client",
        "redis-cli" => "redis-tools",
        "script" => "bsdutils",
        other => other,
    };
    let mut command = tuyau_testing::peers::command(program, package);
    command.args(args);
    command
}

/// The ping-pong server in Python.
pub(crate) fn python(args: &[&str]) -> Command {
    peer("python3", [LINE_SERVER].iter().chain(args))
}

/// Where that is.
pub(crate) const LINE_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/line_server.py");

/// Starts one of the program that listens, and the URI to connect to it by.
pub(crate) fn listening<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> (Peer, String) {
    let mut peer = Peer::spawn(&mut tuyau(args));
    let line = peer.error_line("listening on ");
    (peer, line.trim_start_matches("listening on ").to_owned())
}
