//! What tests need from the machine they run on.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tuyau_core::Target;

/// An abstract Unix socket name that no other test, nor process, uses.
pub fn abstract_target() -> Target {
    // Test machinery: names must differ within the process, whoever asks.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Target::path(format!("\0tuyau-test-{}-{next}", std::process::id()))
}

/// This test binary again, to run `test` alone, with the variable `role` set: for what changes the whole
/// process. The test asks for the variable to know which side it is.
pub fn rerun(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(role, "1");
    command
}
