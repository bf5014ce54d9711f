//! `tuyau bridge` against `socat` and `ssh -L`, alternating in one run: throughput towards the
//! client, over connections that are new each round.
//!
//! `cargo bench -p tuyau-cli --bench bridge [ROUNDS [MEBIBYTES]]`

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Instant;

use tuyau_testing::peers::{Peer, Sshd, command, sshd};
use tuyau_testing::{Place, free_port};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (rounds, size) = (numbers.next().unwrap_or(11), numbers.next().unwrap_or(512) << 20);
    let place = Place::new();
    let far = source();
    let to = format!("tcp://127.0.0.1:{far}");
    println!("{:34} {:>12} {:>12} {:>8}", "throughput, medians", "tuyau", "the other", "ratio");

    let (_ours, near) = bridge(&["tcp://127.0.0.1:0", &to]);
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork");
    let _theirs = socat(&listen, far, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let ours = || Box::new(tcp(port_of(&near))) as Box<dyn Read>;
    compare("tcp to tcp, socat -b 131072", rounds, size, &ours, &|| Box::new(tcp(port)));

    let (path, other) = (place.path("ours"), place.path("theirs"));
    let (_ours, _) = bridge(&[&format!("unix:{path}"), &to]);
    let _theirs = socat(&format!("UNIX-LISTEN:{other},fork"), far, || UnixStream::connect(&other).is_ok());
    let unix = |path: &str| Box::new(UnixStream::connect(path).expect("it listens")) as Box<dyn Read>;
    compare("unix to tcp, socat -b 131072", rounds, size, &|| unix(&path), &|| unix(&other));

    let sshd = sshd();
    let home = home(&sshd, &place);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuyau"));
    command.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
    let (_ours, near) =
        listening(command.args(["bridge", "tcp://127.0.0.1:0", &to, "--via", "ssh://bastion"]));
    let (port, config) = (free_port(), format!("{home}/.ssh/config"));
    let mut command = self::command("ssh", "openssh-client");
    let forward = format!("127.0.0.1:{port}:127.0.0.1:{far}");
    let forwarding = command.args(["-N", "-F", &config, "-L", &forward, "bastion"]);
    let _theirs = until(forwarding, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let ours = || Box::new(tcp(port_of(&near))) as Box<dyn Read>;
    compare("through ssh, ssh -L", rounds, size / 4, &ours, &|| Box::new(tcp(port)));
}

type Open<'a> = &'a dyn Fn() -> Box<dyn Read>;

fn compare(what: &str, rounds: usize, size: usize, ours: Open<'_>, theirs: Open<'_>) {
    let mut times = [vec![], vec![]];
    for round in 0..rounds {
        // In turns, so that none always comes after the other.
        for turn in 0..2 {
            let which = (round + turn) % 2;
            times[which].push(transfer([ours, theirs][which](), size));
        }
    }
    let [ours, theirs] = &times;
    let rate = |times: &[f64]| format!("{:.0} MiB/s", (size >> 20) as f64 / median(times.iter().copied()));
    let ratio = median(theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours));
    println!("{what:34} {:>12} {:>12} {ratio:>8.2}", rate(ours), rate(theirs));
}

/// How long it takes to read so many bytes that come without being asked for.
fn transfer(mut from: Box<dyn Read>, size: usize) -> f64 {
    let mut buffer = vec![0; 256 << 10];
    let mut left = size;
    let began = Instant::now();
    while left > 0 {
        match from.read(&mut buffer).expect("it goes on") {
            0 => panic!("it ended early"),
            n => left = left.saturating_sub(n),
        }
    }
    began.elapsed().as_secs_f64()
}

/// The port of a server that sends to whoever connects, until they go.
fn source() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let bytes = vec![7; 256 << 10];
                while stream.write_all(&bytes).is_ok() {}
            });
        }
    });
    port
}

fn tcp(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("it listens")
}

fn port_of(uri: &str) -> u16 {
    uri.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

/// The program as a bridge, and the URI that it listens on.
fn bridge(args: &[&str]) -> (Peer, String) {
    listening(Command::new(env!("CARGO_BIN_EXE_tuyau")).arg("bridge").args(args))
}

fn listening(command: &mut Command) -> (Peer, String) {
    let mut peer = Peer::spawn(command);
    let line = peer.error_line("listening on ");
    (peer, line.trim_start_matches("listening on ").to_owned())
}

fn socat(listen: &str, far: u16, ready: impl Fn() -> bool) -> Peer {
    let to = format!("TCP:127.0.0.1:{far}");
    until(command("socat", "socat").args(["-b", "131072", listen, &to]), ready)
}

fn until(command: &mut Command, ready: impl Fn() -> bool) -> Peer {
    let peer = Peer::spawn(command);
    while !ready() {
        thread::yield_now();
    }
    peer
}

/// A home directory whose `~/.ssh` knows the server as `bastion`; OpenSSH is given the file by name.
fn home(sshd: &Sshd, place: &Place) -> String {
    let home = place.path("home");
    let (port, user) = (sshd.port(), sshd.user());
    let (identity, known) = (sshd.identity(), sshd.known_hosts());
    fs::create_dir_all(format!("{home}/.ssh")).expect("a directory");
    let config = format!(
        "Host bastion\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {}\n  \
         UserKnownHostsFile {}\n",
        identity.display(),
        known.display(),
    );
    fs::write(format!("{home}/.ssh/config"), config).expect("a file");
    home
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
