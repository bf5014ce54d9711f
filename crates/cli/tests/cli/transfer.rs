//! `connect` and `listen`: every byte, each end, and what breaks.

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;

use nix::sys::signal::Signal;

use crate::peers::{Peer, Place, listening, peer, run, tuyau};

const BLOCK: usize = 1 << 20;
const BLOCKS: u32 = 1 << 10;

/// A block that looks like noise, and like no other.
fn block(noise: &mut [u8], number: u32) -> &[u8] {
    for place in noise.chunks_exact_mut(BLOCK / 16) {
        place[..4].copy_from_slice(&number.to_le_bytes());
    }
    noise
}

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..BLOCK / 8).flat_map(|_| next()).collect()
}

fn write_gibibyte(mut to: impl Write) {
    let mut noise = noise();
    for number in 0..BLOCKS {
        to.write_all(block(&mut noise, number)).expect("all is taken");
    }
}

fn check_gibibyte(mut from: impl Read) {
    let mut noise = noise();
    let mut came = vec![0; BLOCK];
    for number in 0..BLOCKS {
        from.read_exact(&mut came).expect("all comes");
        assert!(came == block(&mut noise, number), "block {number} differs");
    }
    assert_eq!(from.read(&mut came).expect("the end"), 0);
}

/// 1 GiB into `connect`, out of `listen`; then the other way round.
fn carries_a_gibibyte(uri: &str) {
    for upwards in [true, false] {
        let mut listen = tuyau(["listen", uri]);
        let mut listening = listen
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = [0; 1];
        let mut uri = String::new();
        let stderr = listening.stderr.as_mut().expect("piped");
        while stderr.read(&mut said).expect("it says where") == 1 && said != *b"\n" {
            uri.push(said[0].into());
        }
        let uri = uri.strip_prefix("listening on ").expect("it says where");
        let mut connect = tuyau(["connect", uri]);
        let mut connecting = connect.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (from, to) =
            if upwards { (&mut connecting, &mut listening) } else { (&mut listening, &mut connecting) };
        // The other direction ends at once, which must not end this one.
        drop(to.stdin.take());
        let (source, drain) = (from.stdin.take().expect("piped"), to.stdout.take().expect("piped"));
        let writing = thread::spawn(move || write_gibibyte(source));
        check_gibibyte(drain);
        writing.join().expect("all was taken");
        assert!(connecting.wait().expect("it ends").success());
        assert!(listening.wait().expect("it ends").success());
    }
}

#[test]
fn a_gibibyte_by_tcp() {
    carries_a_gibibyte("tcp://127.0.0.1:0");
}

#[test]
fn a_gibibyte_by_unix_sockets() {
    let place = Place::new();
    carries_a_gibibyte(&format!("unix:{}", place.path("socket")));
    carries_a_gibibyte(&format!("unix:@{}", place.name()));
}

#[test]
fn a_gibibyte_by_fifos() {
    let place = Place::new();
    carries_a_gibibyte(&format!("fifo:{}", place.path("pipe")));
}

#[test]
fn a_gibibyte_through_programs_and_back() {
    for uri in ["exec:cat", "sh:cat | cat"] {
        let mut connect = tuyau(["connect", uri]);
        let mut connecting = connect.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (source, drain) =
            (connecting.stdin.take().expect("piped"), connecting.stdout.take().expect("piped"));
        let writing = thread::spawn(move || write_gibibyte(source));
        check_gibibyte(drain);
        writing.join().expect("all was taken");
        assert!(connecting.wait().expect("it ends").success());
    }
}

#[test]
fn the_end_of_the_input_leaves_the_answer_whole() {
    let place = Place::new();
    // Answers only once all has come, in many pieces.
    let answers = "SYSTEM:'n=$(cat | wc -c); seq 1 100000; echo $n'";
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).chain(["1\n".into()]).collect();
    let path = place.path("socket");
    for listen in ["TCP-LISTEN:0,bind=127.0.0.1".into(), format!("UNIX-LISTEN:{path}")] {
        let mut server = Peer::spawn(&mut peer("socat", ["-d", "-d", "-t30", &listen, answers]));
        let line = server.error_line("listening on");
        let uri = match line.rsplit_once("127.0.0.1:") {
            Some((_, port)) => format!("tcp://127.0.0.1:{port}"),
            None => format!("unix:{path}"),
        };
        assert!(run(tuyau(["connect", &uri]), b"x").code(0).text() == expected, "{uri}");
    }
    let shell = "n=$(cat | wc -c); seq 1 100000; echo $n";
    let ended = run(tuyau(["connect", &format!("sh:{shell}")]), b"x").code(0);
    assert!(ended.text() == expected);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--exec", "sh", "-c", shell]);
    assert!(run(tuyau(["connect", &uri]), b"x").code(0).text() == expected);
}

#[test]
fn nc_on_either_side() {
    let mut nc = Peer::spawn(&mut peer("nc", ["-lvnN", "127.0.0.1", "0"]));
    let line = nc.error_line("Listening on");
    nc.stdin().write_all(b"from nc\0\xff\n").expect("nc reads");
    let uri = format!("tcp://127.0.0.1:{}", line.rsplit(' ').next().expect("a port"));
    assert_eq!(run(tuyau(["connect", &uri]), b"to nc\0\xfe").code(0).stdout, b"from nc\0\xff\n");
    assert_eq!(nc.end().code(0).stdout, b"to nc\0\xfe");

    let (mut listener, uri) = listening(["listen", "tcp://127.0.0.1:0"]);
    let port = uri.rsplit(':').next().expect("a port");
    listener.stdin().write_all(b"from us").expect("it reads");
    assert_eq!(run(peer("nc", ["-N", "127.0.0.1", port]), b"from nc").stdout, b"from us");
    assert_eq!(listener.end().code(0).stdout, b"from nc");
}

#[test]
fn a_program_for_each_connection() {
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--exec", "tr", "a-z", "A-Z"]);
    for _ in 0..3 {
        assert_eq!(run(tuyau(["connect", &uri]), b"shout").code(0).text(), "SHOUT");
    }
    let (mut server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--exec", "no-such-program"]);
    assert_eq!(run(tuyau(["connect", &uri]), b"").code(0).text(), "");
    server.error_line("no program `no-such-program`");
}

#[test]
fn a_program_that_reads_little_is_answered_for_in_full() {
    let (_server, uri) =
        listening(["listen", "tcp://127.0.0.1:0", "--exec", "sh", "-c", "head -c 1; echo enough"]);
    let ended = run(tuyau(["connect", &uri]), &vec![b'x'; 1 << 22]);
    assert_eq!(ended.text(), "xenough\n", "{}", ended.stderr);
}

#[test]
fn once_is_once() {
    let (server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo", "--once"]);
    assert_eq!(run(tuyau(["connect", &uri]), b"echo").code(0).text(), "echo");
    server.end().code(0);
    let ended = run(tuyau(["connect", &uri]), b"").code(1);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
}

#[test]
fn no_more_than_the_maximum_at_a_time() {
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo", "--max", "1"]);
    let mut first = Peer::spawn(&mut tuyau(["connect", &uri]));
    let mut input = first.stdin();
    input.write_all(b"first\n").expect("it reads");
    first.line("first");
    let mut second = Peer::spawn(&mut tuyau(["connect", &uri]));
    second.stdin().write_all(b"second\n").expect("it reads");
    input.write_all(b"still first\n").expect("it reads");
    first.line("still first");
    drop(input);
    first.end().code(0);
    assert_eq!(second.end().code(0).text(), "second\n");
}

/// Sends without end into `connect`, once the peer has had some of it.
fn pour_into(uri: &str) -> (Peer, thread::JoinHandle<()>) {
    let mut connect = Peer::spawn(&mut tuyau(["connect", uri]));
    let mut input = connect.stdin();
    let pouring = thread::spawn(move || while input.write_all(b"x\n").is_ok() {});
    (connect, pouring)
}

#[test]
fn a_peer_that_is_killed_while_it_receives() {
    let place = Place::new();
    for uri in [
        "tcp://127.0.0.1:0".into(),
        format!("unix:{}", place.path("socket")),
        format!("fifo:{}", place.path("pipe")),
    ] {
        let (mut listener, uri) = listening(["listen", &uri]);
        let (connect, pouring) = pour_into(&uri);
        listener.line("x");
        listener.signal(Signal::SIGKILL);
        let ended = connect.end().code(3);
        let said = &ended.stderr;
        assert!(
            said.contains(" broke off: connection reset") || said.contains(" stopped reading: broken pipe"),
            "{said}"
        );
        assert!(said.contains("bytes sent, 0 received"), "{said}");
        pouring.join().expect("it ends");
    }
}

#[test]
fn a_peer_that_resets_while_it_sends() {
    let reset = "import socket, struct; l = socket.create_server(('127.0.0.1', 0)); \
        print(l.getsockname()[1], flush=True); s, _ = l.accept(); s.sendall(b'half'); s.recv(1); \
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()";
    let mut server = Peer::spawn(&mut peer("python3", ["-c", reset]));
    let uri = format!("tcp://127.0.0.1:{}", server.line(""));
    let mut connect = Peer::spawn(&mut tuyau(["connect", &uri]));
    let mut input = connect.stdin();
    input.write_all(b"x").expect("it reads");
    let ended = connect.end().code(3);
    assert_eq!(ended.text(), "half");
    assert!(
        ended.stderr.contains(" broke off: connection reset by peer (1 bytes sent, 4 received)"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_program_that_fails_is_named_with_its_status() {
    let ended = run(tuyau(["connect", "exec:sh -c 'cat; exit 3'"]), b"x").code(3);
    assert_eq!(ended.text(), "x");
    assert!(ended.stderr.contains("ended with exit status: 3"), "{}", ended.stderr);
    let ended = run(tuyau(["connect", "exec:sh -c 'kill -9 $$'"]), b"").code(3);
    assert!(ended.stderr.contains("ended with signal: 9 (SIGKILL)"), "{}", ended.stderr);
}

#[test]
fn a_program_that_has_ended_is_not_waited_for() {
    let mut connect = Peer::spawn(&mut tuyau(["connect", "exec:echo done"]));
    // Open until after the end.
    let input = connect.stdin();
    assert_eq!(connect.end().code(0).text(), "done\n");
    drop(input);
    // Nor is what it leaves unread, if it ends well.
    let ended = run(tuyau(["connect", "exec:head -c 1"]), &vec![b'x'; 1 << 20]).code(0);
    assert_eq!(ended.text(), "x");
}

#[test]
fn a_peer_that_ends_first_still_gets_what_comes() {
    let late = "import socket; l = socket.create_server(('127.0.0.1', 0)); print(l.getsockname()[1], flush=True); \
        s, _ = l.accept(); s.sendall(b'first\\n'); s.shutdown(socket.SHUT_WR); \
        print(s.makefile('rb').read(), flush=True)";
    let mut server = Peer::spawn(&mut peer("python3", ["-c", late]));
    let mut connect = Peer::spawn(&mut tuyau(["connect", &format!("tcp://127.0.0.1:{}", server.line(""))]));
    let mut input = connect.stdin();
    connect.line("first");
    input.write_all(b"late").expect("it reads");
    drop(input);
    server.line("b'late'");
    connect.end().code(0);
}

#[test]
fn an_output_that_nobody_reads_ends_it_quietly() {
    let mut connect = tuyau(["connect", "exec:yes"]);
    let mut connecting = connect
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut some = [0; 4];
    connecting.stdout.take().expect("piped").read_exact(&mut some).expect("there is more");
    let output = connecting.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}
