//! OpenSSH's server.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

use super::install::{ends_by, require};
use super::process::{Peer, run};
use crate::{Place, free_port};

const PACKAGE: &str = "openssh-server";

/// An SSH server of the test's own, on a port of 127.0.0.1. It lets the user of the tests in, by the key
/// [`identity`](Self::identity), and lets it forward whatever it wants. Dropped, it ends, with the
/// sessions it has.
#[derive(Debug)]
pub struct Sshd {
    place: Place,
    port: u16,
    program: PathBuf,
    peer: Option<Peer>,
}

/// An [`Sshd`] with its defaults.
///
/// # Panics
/// If it is not installed, or does not start.
#[track_caller]
pub fn sshd() -> Sshd {
    sshd_with(|_| String::new())
}

/// An [`Sshd`] with more lines of configuration (sshd_config(5)), which come before, and so win over,
/// the defaults; they may name files that `config` puts into the server's directory. A host key of
/// type ed25519 is there as `host_ed25519`.
///
/// # Panics
/// As [`sshd`].
#[track_caller]
pub fn sshd_with(config: impl FnOnce(&Place) -> String) -> Sshd {
    let program = require("sshd", PACKAGE);
    let (place, port) = (Place::new(), free_port());
    keygen(&["-t", "ed25519", "-N", "", "-f", &place.path("host_ed25519")]);
    keygen(&["-t", "ed25519", "-N", "", "-C", "test", "-f", &place.path("id_ed25519")]);
    fs::copy(place.path("id_ed25519.pub"), place.path("authorized_keys")).expect("a key");
    let host_key = fs::read_to_string(place.path("host_ed25519.pub")).expect("a key");
    let known = format!("[127.0.0.1]:{port} {host_key}");
    fs::write(place.path("known_hosts"), known).expect("write");
    if geteuid().is_root() {
        // Where it confines the process that talks to strangers; the package's init script makes it.
        fs::create_dir_all("/run/sshd").expect("we are root");
    }
    let lines = [
        config(&place),
        format!("Port {port}\nListenAddress 127.0.0.1\nPidFile none\nLogLevel VERBOSE"),
        format!("HostKey {}", place.path("host_ed25519")),
        format!("AuthorizedKeysFile {}", place.path("authorized_keys")),
        "UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nMaxStartups 1000\nMaxSessions 1000"
            .into(),
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no".into(),
        "AllowTcpForwarding yes\nAllowStreamLocalForwarding yes\nGatewayPorts clientspecified".into(),
    ];
    fs::write(place.path("sshd_config"), lines.join("\n") + "\n").expect("write");
    let mut sshd = Sshd { place, port, program, peer: None };
    sshd.restart();
    sshd
}

impl Sshd {
    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user who may log in: the one who runs the tests.
    pub fn user(&self) -> String {
        User::from_uid(geteuid()).ok().flatten().expect("the user of the tests has a name").name
    }

    /// The private key that it lets in, in a file of OpenSSH's format, without a passphrase.
    pub fn identity(&self) -> PathBuf {
        self.place.dir().join("id_ed25519")
    }

    /// A `known_hosts` file with its host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.place.dir().join("known_hosts")
    }

    /// Its directory: `host_ed25519`, `id_ed25519`, `authorized_keys`, `known_hosts`, `sshd_config`.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Kills it (SIGKILL), with all sessions. Its connections are closed when this returns.
    pub fn kill(&mut self) {
        if let Some(mut peer) = self.peer.take() {
            peer.kill();
        }
    }

    /// Starts it again where it was.
    ///
    /// # Panics
    /// If it does not start: with all that it said.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        let mut command = ends_by("KILL");
        // It starts itself anew for each connection, and so wants to know where it is.
        command.arg(&self.program).args(["-D", "-e", "-f", &self.place.path("sshd_config")]);
        let mut peer = Peer::spawn(&mut command);
        peer.error_line("Server listening on");
        self.peer = Some(peer);
    }
}

/// Runs `ssh-keygen`, quietly: keys, certificates (`-s`), hashed hosts (`-H`).
///
/// # Panics
/// If it fails: with what it said.
#[track_caller]
pub fn keygen(arguments: &[&str]) {
    let mut command = super::command("ssh-keygen", "openssh-client");
    command.arg("-q").args(arguments);
    run(command, b"").code(0);
}

/// An `ssh-agent` of the test's own.
#[derive(Debug)]
pub struct SshAgent {
    place: Place,
    _peer: Peer,
}

/// An agent without keys.
///
/// # Panics
/// If it is not installed, or does not start.
#[track_caller]
pub fn ssh_agent() -> SshAgent {
    let place = Place::new();
    let mut command = super::command("ssh-agent", "openssh-client");
    command.args(["-D", "-a", &place.path("agent")]);
    let mut peer = Peer::spawn(&mut command);
    peer.line("SSH_AUTH_SOCK");
    SshAgent { place, _peer: peer }
}

impl SshAgent {
    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.place.dir().join("agent")
    }

    /// Gives it a private key, and the certificate that lies beside it.
    ///
    /// # Panics
    /// If it does not want it.
    #[track_caller]
    pub fn add(&self, key: &Path) {
        let mut command = super::command("ssh-add", "openssh-client");
        command.env("SSH_AUTH_SOCK", self.socket()).arg("-q").arg(key);
        run(command, b"").code(0);
    }
}

#[cfg(test)]
mod tests {
    use super::{ssh_agent, sshd};
    use crate::peers::{command, run};

    #[test]
    fn it_lets_us_in_by_its_key_also_after_it_was_killed() {
        let (mut sshd, agent) = (sshd(), ssh_agent());
        agent.add(&sshd.identity());
        for _ in 0..2 {
            let mut ssh = command("ssh", "openssh-client");
            ssh.args(["-F", "none", "-p", &sshd.port().to_string(), "-l", &sshd.user()]);
            ssh.arg(format!("-oUserKnownHostsFile={}", sshd.known_hosts().display()));
            ssh.env("SSH_AUTH_SOCK", agent.socket()).args(["-oBatchMode=yes", "127.0.0.1", "echo here"]);
            assert_eq!(run(ssh, b"").code(0).text(), "here\n");
            sshd.kill();
            sshd.restart();
        }
    }
}
