//! `tuyau bridge` against `socat` and `ssh -L`: throughput in both directions and CPU time, in turns, over
//! connections that are new each round; and what a thousand idle connections take.
//!
//! `cargo bench -p tuyau-cli --bench bridge [ROUNDS [MEBIBYTES]]`

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tuyau_testing::peers::{Peer, Sshd, command, sshd};
use tuyau_testing::{Place, free_port};

const IDLE: usize = 1000;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (rounds, size) = (numbers.next().unwrap_or(15), numbers.next().unwrap_or(512) << 20);
    raise_open_files();
    let place = Place::new();
    let far = Far::start();
    let to = format!("tcp://127.0.0.1:{}", far.port);
    println!("{:38} {:>23}   {:>23}", "", "MiB/s (ratio)", "CPU s/GiB (ratio)");

    let (ours, near) = bridge(&["tcp://127.0.0.1:0", &to]);
    let port = free_port();
    let listen = format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork");
    let theirs = socat(&listen, far.port, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let end = |peer, port| End { peer, open: Box::new(move || Box::new(tcp(port))) };
    compare("tcp, socat -b 131072", rounds, size, &[end(&ours, port_of(&near)), end(&theirs, port)]);

    let (path, other) = (place.path("ours"), place.path("theirs"));
    let (ours, _) = bridge(&[&format!("unix:{path}"), &to]);
    let listen = format!("UNIX-LISTEN:{other},fork");
    let theirs = socat(&listen, far.port, || UnixStream::connect(&other).is_ok());
    let unix = |peer, path: &str| {
        let path = path.to_owned();
        End { peer, open: Box::new(move || Box::new(UnixStream::connect(&path).expect("it listens"))) }
    };
    compare("unix, socat -b 131072", rounds, size, &[unix(&ours, &path), unix(&theirs, &other)]);

    let sshd = sshd();
    let home = home(&sshd, &place);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuyau"));
    command.env("HOME", &home).env_remove("SSH_AUTH_SOCK");
    let (ours, near) =
        listening(command.args(["bridge", "tcp://127.0.0.1:0", &to, "--via", "ssh://bastion"]));
    let (port, config) = (free_port(), format!("{home}/.ssh/config"));
    let mut command = self::command("ssh", "openssh-client");
    let forward = format!("127.0.0.1:{port}:127.0.0.1:{}", far.port);
    let forwarding = command.args(["-N", "-F", &config, "-L", &forward, "bastion"]);
    let theirs = until(forwarding, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    compare("ssh, ssh -L", rounds, size / 2, &[end(&ours, port_of(&near)), end(&theirs, port)]);

    let (ours, near) = bridge(&["tcp://127.0.0.1:0", &to]);
    let (empty, before) = (resident(&ours), far.accepted());
    let mut idle = Vec::new();
    while idle.len() < IDLE {
        idle.push(tcp(port_of(&near)));
        // No more of them wait than a backlog holds: beyond it, one that says nothing is lost.
        while far.accepted() < before + idle.len() {
            thread::yield_now();
        }
    }
    println!("{} idle connections: {:.1} MB, of which the program {empty:.1}", idle.len(), resident(&ours));
}

/// One that relays.
struct End<'a> {
    peer: &'a Peer,
    open: Box<dyn Fn() -> Box<dyn Stream>>,
}

trait Stream: Read + Write {
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).expect("it is open");
    }
}

/// Ours and another's, in turns, so that none always comes after the other.
fn compare(what: &str, rounds: usize, size: usize, ends: &[End<'_>; 2]) {
    for (direction, transfer) in [("down", down as fn(&mut dyn Stream, usize)), ("up", up)] {
        let (mut times, mut used) = ([vec![], vec![]], [0.0; 2]);
        for round in 0..=rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let End { peer, open } = &ends[which];
                let (mut stream, before, began) = (open(), cpu(peer), Instant::now());
                transfer(&mut *stream, size);
                // The first time all is new to all.
                if round > 0 {
                    times[which].push(began.elapsed().as_secs_f64());
                    used[which] += cpu(peer) - before;
                }
            }
        }
        let rate = |times: &[f64]| (size >> 20) as f64 / median(times.iter().copied());
        let [ours, theirs] = &times;
        let ratio = median(theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours));
        let per = used.map(|used| used / rounds as f64 / size as f64 * f64::from(1 << 30));
        println!(
            "{what:30} {direction:>7} {:>7.0} {:>7.0} ({ratio:>5.2})   {:>7.3} {:>7.3} ({:>5.2})",
            rate(ours),
            rate(theirs),
            per[0],
            per[1],
            per[0] / per[1],
        );
    }
}

/// Reads so many bytes.
fn down(stream: &mut dyn Stream, size: usize) {
    stream.write_all(b"<").expect("it takes a byte");
    let (mut buffer, mut left) = (vec![0; 256 << 10], size);
    while left > 0 {
        match stream.read(&mut buffer).expect("it goes on") {
            0 => panic!("it ended early"),
            n => left = left.saturating_sub(n),
        }
    }
}

/// Writes so many bytes, and waits until all have come.
fn up(stream: &mut dyn Stream, size: usize) {
    let bytes = vec![b'>'; 256 << 10];
    for _ in 0..size / bytes.len() {
        stream.write_all(&bytes).expect("it goes on");
    }
    stream.end();
    assert_eq!(stream.read(&mut [0]).expect("it was read"), 1);
}

/// A server that pours, or drains and then says a byte, as whoever connects wants.
struct Far {
    port: u16,
    accepted: Arc<AtomicUsize>,
}

impl Far {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let accepted = Arc::<AtomicUsize>::default();
        let count = accepted.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = thread::Builder::new().stack_size(64 << 10).spawn(|| serve(stream));
                serving.expect("a thread");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream) {
    let mut bytes = vec![0; 256 << 10];
    let mut wanted = [0];
    match (stream.read(&mut wanted), wanted) {
        (Ok(1), [b'<']) => while stream.write_all(&bytes).is_ok() {},
        (Ok(1), [b'>']) => {
            while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
            let _ = stream.write_all(b".");
        }
        _ => {}
    }
}

/// The seconds that a process and its children have been running on a CPU.
fn cpu(peer: &Peer) -> f64 {
    let pid = peer.pid().to_string();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    // A child that has just gone is counted by its parent.
    let ticks = |pid: &str, fields: usize| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        // utime, stime, and those of children that were waited for.
        let fields = rest.split_whitespace().skip(11).take(fields);
        fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>()
    };
    let all = ticks(&pid, 4) + children.split_whitespace().map(|child| ticks(child, 2)).sum::<u64>();
    all as f64 / 100.0
}

/// Megabytes of memory.
fn resident(peer: &Peer) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0 / 1e6
}

/// Each connection takes two here.
fn raise_open_files() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the limit");
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
