//! Python, with modules of the distribution.

use std::path::PathBuf;
use std::process::Command;

use super::install::{ends_by, missing, require};

/// Python that runs `script`, which imports `module`.
///
/// # Panics
/// If the module is not installed: with the Debian package that has it.
#[track_caller]
pub fn python(module: &str, package: &str, script: &str) -> Command {
    // The distribution's own knows the distribution's modules; another may stand before it on `PATH`.
    let of_system = PathBuf::from("/usr/bin/python3");
    let python = if of_system.exists() { of_system } else { require("python3", "python3") };
    let imported = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !imported.is_ok_and(|output| output.status.success()) {
        missing(module, package);
    }
    let mut command = ends_by("KILL");
    command.arg(python).args(["-u", "-c", script]);
    command
}
