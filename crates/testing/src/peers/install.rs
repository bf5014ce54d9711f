//! What must be installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `program` is: on `PATH`, or where Debian keeps what is not for users to start.
///
/// # Panics
/// If it isn't there: with the Debian package that has it.
#[track_caller]
pub fn require(program: &str, package: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let elsewhere = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    find(program, env::split_paths(&path).chain(elsewhere)).unwrap_or_else(|| missing(program, package))
}

/// `program`, to be started as a [`Peer`](super::Peer). The kernel kills it also if the thread that
/// starts it ends without having done so.
///
/// # Panics
/// As [`require`].
#[track_caller]
pub fn command(program: &str, package: &str) -> Command {
    let mut command = ends_by("KILL");
    command.arg(require(program, package));
    command
}

/// To be followed by a program and its arguments: it gets `signal` when our thread ends.
#[track_caller]
pub(super) fn ends_by(signal: &str) -> Command {
    let mut command = Command::new(require("setpriv", "util-linux"));
    command.args(["--pdeathsig", signal]);
    command
}

pub(super) fn find(program: &str, mut dirs: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    dirs.find_map(|dir| Some(dir.join(program)).filter(|file| Path::is_file(file)))
}

#[track_caller]
pub(super) fn missing(program: &str, package: &str) -> ! {
    panic!("this test needs `{program}`; install it: apt-get install {package}")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::require;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let panic =
            catch_unwind(|| require("no-such-program", "no-such-package")).expect_err("it is not there");
        let text = panic.downcast_ref::<String>().expect("text");
        assert!(text.contains("`no-such-program`"), "{text}");
        assert!(text.contains("install it: apt-get install no-such-package"), "{text}");
        assert!(require("sh", "dash").is_absolute());
    }
}
