//! Ctrl-C and SIGTERM.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use tuyau_testing::peers::Ended;

use crate::peers::{LIMIT, Peer, Place, listening, run, tuyau};

const ALL: [(Signal, i32); 3] = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)];

#[test]
fn servers_end_well_and_remove_their_files() {
    for (signal, _) in ALL {
        let place = Place::new();
        let unix = format!("unix:{}", place.path("socket"));
        let fifo = format!("fifo:{}", place.path("pipe"));
        for args in [
            vec!["demo", "server", &unix],
            vec!["listen", &unix, "--echo"],
            vec!["listen", &unix, "--exec", "cat"],
            vec!["listen", &unix, "--echo", "--once"],
            vec!["demo", "server", &fifo],
        ] {
            let (server, uri) = listening(&args);
            assert_ne!(place.entries(), [""; 0], "{args:?}");
            // One that has served, and has a connection still open.
            let mut client = Peer::spawn(&mut tuyau(["connect", &uri]));
            let mut input = client.stdin();
            input.write_all(b"hello\n").expect("it reads");
            client.line("hello");
            server.signal(signal);
            server.end().code(0);
            assert_eq!(place.entries(), [""; 0], "{args:?}");
        }
    }
}

#[test]
fn a_listener_for_one_ends_by_the_signal() {
    for (signal, code) in ALL {
        let place = Place::new();
        let (listener, _) = listening(["listen", &format!("unix:{}", place.path("socket"))]);
        listener.signal(signal);
        listener.end().code(code);
        assert_eq!(place.entries(), [""; 0]);
    }
}

#[test]
fn clients_end_by_the_signal_and_take_their_program_with_them() {
    for (signal, code) in ALL {
        for (command, code) in [
            ("connect", code),
            ("demo client", code),
            ("connect tls://h.test:1 --via", code),
            ("explain tls://h.test:1 --via", code),
            ("get http://h.test/ --via", code),
            ("get -m 1000 https://h.test/ --via", code),
            // Those sum up.
            ("load -c 1 http://h.test/ --via", 1),
            ("ping tls://h.test:1 --via", 1),
        ] {
            // It keeps nothing open that we wait for.
            let uri = "exec:sh -c 'echo $$ >&2; exec sleep 1000 2>&-'";
            let mut client = Peer::spawn(&mut tuyau(command.split(' ').chain([uri])));
            let pid = Pid::from_raw(client.error_line("").parse().expect("a pid"));
            // The input stays open, so that nothing else ends it.
            let input = client.stdin();
            client.signal(signal);
            client.end().code(code);
            drop(input);
            assert!(ends(pid), "{command} leaves {pid} behind");
        }
    }
}

#[test]
fn a_server_takes_with_it_what_its_programs_have_started() {
    for (signal, _) in ALL {
        let program = ["--exec", "sh", "-c", "sleep 1000 & echo $!; wait"];
        let (server, uri) = listening(["listen", "tcp://127.0.0.1:0"].iter().chain(&program));
        let mut client = Peer::spawn(&mut tuyau(["connect", &uri]));
        let pid = Pid::from_raw(client.line("").parse().expect("a pid"));
        server.signal(signal);
        server.end().code(0);
        assert!(ends(pid), "{signal} leaves {pid} behind");
    }
}

#[test]
fn a_tour_that_is_cut_short_leaves_nothing_behind() {
    let place = Place::new();
    let mut command = tuyau(["tour"]);
    command.env("TMPDIR", place.path(""));
    let mut tour = Peer::spawn(&mut command);
    tour.line("tcp v4");
    tour.signal(Signal::SIGINT);
    tour.end().code(130);
    assert_eq!(place.entries(), [""; 0]);
}

/// What `args` say when they are interrupted while the other side, which listens at the address in them, has read
/// something and says nothing.
fn interrupted_at(listener: &TcpListener, args: &[&str], signal: Signal, code: i32) -> Ended {
    let mut command = tuyau(args);
    command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
    let client = Peer::spawn(&mut command);
    let (mut silent, _) = listener.accept().expect("it comes");
    silent.read_exact(&mut [0]).expect("it says something");
    client.signal(signal);
    client.end().code(code)
}

#[test]
fn whoever_gives_up_is_told_what_was_being_tried() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let (tls, hop) = (format!("tls://{address}"), format!("ssh://ops@{address}?known-hosts=/dev/null"));
    let proxy = format!("socks5h://{address}");
    for (signal, code) in ALL {
        let ended = interrupted_at(&silent, &["connect", &tls], signal, code);
        for part in [
            "error: could not connect: ",
            &format!("TLS handshake with {address}: the peer said nothing"),
            &format!("1. tcp {address}: ok ("),
            "2. tls 127.0.0.1: failed (",
            "note: interrupted",
        ] {
            assert!(ended.stderr.contains(part), "no `{part}` in: {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("deadline"), "{}", ended.stderr);
    }
    let (signal, code) = ALL[0];
    for args in [
        &["connect", "tcp://db.test:1", "--via", &hop][..],
        &["demo", "client", "tcp://db.test:1", "--via", &hop, "--deadline", "1000"],
        &["connect", "tcp://db.test:1", "--via", &hop, "--deadline", "1000"],
        &["connect", "tcp://db.test:1", "--via", &hop, "--via", &proxy],
        &["get", "http://db.test:1", "--via", &hop],
    ] {
        let ended = interrupted_at(&silent, args, signal, code);
        let hop = format!("ssh ops@{address}");
        assert!(ended.stderr.contains(&hop) && ended.stderr.contains("interrupted"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("deadline"), "{}", ended.stderr);
    }
    let ended = interrupted_at(&silent, &["connect", "tcp://db.test:1", "--via", &proxy], signal, code);
    let hop = format!("2. socks5h {address} to db.test:1, looked up there: under way");
    assert!(ended.stderr.contains(&hop), "no `{hop}` in {}", ended.stderr);
    let ended = interrupted_at(&silent, &["explain", "tcp://db.test:1", "--via", &proxy], signal, code);
    assert!(ended.text().contains(&hop) && ended.text().contains("interrupted"), "{}", ended.text());
    let ended = interrupted_at(&silent, &["ping", &tls], signal, 1);
    let handshake = format!("TLS handshake with {address}: the peer said nothing");
    assert!(ended.stderr.contains(&handshake), "{}", ended.stderr);
    assert!(ended.text().ends_with("1 tried, 0 connected, 1 interrupted\n"), "{}", ended.text());
}

#[test]
fn a_bridge_that_is_stopped_tells_what_it_was_connecting() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let (bridge, near) = listening(["bridge", "tcp://127.0.0.1:0", &format!("tls://{address}")]);
    let _near = TcpStream::connect(near.trim_start_matches("tcp://")).expect("it listens");
    let (mut dialled, _) = silent.accept().expect("it comes");
    dialled.read_exact(&mut [0]).expect("it says something");
    bridge.signal(Signal::SIGTERM);
    let ended = bridge.end().code(0);
    let handshake = format!("TLS handshake with {address}: the peer said nothing");
    assert!(ended.stderr.contains(&handshake), "{}", ended.stderr);
}

#[test]
fn ping_sums_up_when_interrupted() {
    let (_server, uri) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    let mut ping = Peer::spawn(&mut tuyau(["ping", &uri, "-i", "1000"]));
    ping.line("seq=1");
    ping.signal(Signal::SIGINT);
    let ended = ping.end().code(0);
    assert!(ended.text().contains("1 tried, 1 connected, 0% failed"), "{}", ended.text());
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let place = Place::new();
    let uri = format!("unix:{}", place.path("socket"));
    let (server, _) = listening(["demo", "server", &uri]);
    server.signal(Signal::SIGKILL);
    assert_eq!(server.end().status.code(), None);
    assert_ne!(place.entries(), [""; 0]);
    let (_server, _) = listening(["demo", "server", &uri]);
    let ended = run(tuyau(["demo", "server", &uri]), b"").code(1);
    assert!(ended.stderr.contains("another process listens there"), "{}", ended.stderr);
}

/// Whether the process is gone, or is about to be.
fn ends(pid: Pid) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        // A process that nobody has waited for yet is still there, as a zombie.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'));
        if zombie || kill(pid, None) == Err(Errno::ESRCH) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}
