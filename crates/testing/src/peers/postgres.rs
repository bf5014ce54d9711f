//! PostgreSQL.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

use super::install::{ends_by, find, missing};
use super::process::run;
use super::server::{Launch, Server};
use crate::{Place, free_port};

const PACKAGE: &str = "postgresql";

/// A PostgreSQL server with the database and the superuser `postgres`, who needs no password.
///
/// It refuses to run as root: if we are root it runs as the user `postgres`.
///
/// # Panics
/// If it is not installed, or does not start.
#[track_caller]
pub fn postgres() -> Server {
    start(&[], None)
}

/// Like [`postgres`], with TLS on request: this certificate chain and key, files in PEM.
///
/// # Panics
/// As [`postgres`].
#[track_caller]
pub fn postgres_tls(chain: &str, key: &str) -> Server {
    start(&["ssl=on"], Some((chain, key)))
}

#[track_caller]
fn start(settings: &'static [&'static str], tls: Option<(&str, &str)>) -> Server {
    let bin = bin();
    let user = geteuid().is_root().then(|| match User::from_name("postgres") {
        Ok(Some(user)) => user,
        _ => panic!("this test needs the user `postgres`; install it: apt-get install {PACKAGE}"),
    });
    let place = Place::new();
    if let Some(user) = &user {
        chown(place.dir(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("we are root");
    }
    let data = place.dir().join("data");

    let mut initdb = command(user.as_ref(), &bin.join("initdb"));
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
    initdb.arg("-D").arg(&data);
    run(initdb, b"").code(0);

    if let Some((chain, key)) = tls {
        // Under the names that it looks for, its own, and for it alone to read.
        for (from, to) in [(chain, "server.crt"), (key, "server.key")] {
            let to = data.join(to);
            fs::copy(from, &to).expect("the file is there");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("it is ours");
            if let Some(user) = &user {
                chown(&to, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("we are root");
            }
        }
    }

    let port = free_port();
    let (dir, socket) = (place.dir().to_owned(), place.path(&format!(".s.PGSQL.{port}")));
    let command = move || {
        let mut command = command(user.as_ref(), &bin.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(&dir).args(["-p", &port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        command
    };
    let launch = Launch {
        command: Box::new(command),
        ready: |peer| drop(peer.error_line("database system is ready to accept connections")),
        // "Immediate shutdown": unlike SIGKILL it leaves no shared memory behind.
        stop: Signal::SIGQUIT,
    };
    Server::start_in(place, port, socket, launch)
}

/// `program` as `user`.
fn command(user: Option<&User>, program: &Path) -> Command {
    let mut command = ends_by("QUIT");
    if let Some(User { uid, gid, .. }) = user {
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
    }
    // The line that we wait for is in English. The directory we are in may not be the user's to read.
    command.arg(program).env("LC_ALL", "C").current_dir("/");
    command
}

/// Where its programs are: Debian keeps them apart by version, the newest is taken; else on `PATH`.
#[track_caller]
fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    let dirs = versions.into_iter().rev().map(|version| version.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = dirs.chain(std::env::split_paths(&path));
    let initdb = find("initdb", dirs).unwrap_or_else(|| missing("initdb", PACKAGE));
    initdb.parent().expect("it was found in a directory").to_owned()
}
