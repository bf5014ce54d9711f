//! Network namespaces of the tests' own (Linux).

use nix::sched::{CloneFlags, unshare};

use crate::peers::{command, run};

/// This thread, and what it starts, has a network of its own from now on: a loopback interface, and nothing else.
///
/// # Panics
/// If it may not have one.
#[track_caller]
pub fn enter() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| {
        panic!(
            "this test makes a network namespace ({error}): run it as root, or all tests under `unshare -Urn`"
        )
    });
    ip("link set lo up");
}

/// Runs `ip` of iproute2, with arguments that spaces separate.
///
/// # Panics
/// If it is not installed, or fails.
#[track_caller]
pub fn ip(arguments: &str) {
    let mut ip = command("ip", "iproute2");
    ip.args(arguments.split(' '));
    run(ip, b"").code(0);
}
