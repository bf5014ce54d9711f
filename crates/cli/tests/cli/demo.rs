//! The ping-pong of the tutorial, with itself and with others, either way round.

use crate::peers::{LINE_SERVER, Peer, Place, listening, peer, python, run, tuyau};

const LINES: &[u8] = b"ping\r\npong\nhello\r\n";
const ANSWERS: &str = "pong\r\nping\r\nhello\r\n";
const DIALOGUE: &str = "> ping\n<- pong\n> pong\n<- ping\n> hello\n<- hello\n";

/// The client on `uri`, which must get the right answers.
#[track_caller]
fn talks(uri: &str) {
    let ended = run(tuyau(["demo", "client", uri]), LINES).code(0);
    assert_eq!(ended.text(), DIALOGUE, "{uri}");
    let ended = run(tuyau(["demo", "client", uri, "-n", "50"]), b"").code(0);
    let (first, second) = ended.text().split_once('\n').expect("two lines");
    assert!(first.contains("50 pings, 50 pongs, connected in "), "{first}");
    let figures = second.trim_end().strip_prefix("rtt min/avg/median/max/mdev = ").expect(second);
    let figures: Vec<f64> =
        figures.trim_end_matches(" ms").split('/').map(|it| it.parse().unwrap()).collect();
    let [min, avg, median, max, _mdev] = figures[..] else { panic!("{second}") };
    assert!(0.0 < min && min <= avg && avg <= max && min <= median && median <= max, "{second}");
}

#[test]
fn with_itself() {
    let place = Place::new();
    let uris = [
        "tcp://127.0.0.1:0".into(),
        "tcp://localhost:0".into(),
        format!("unix:{}", place.path("socket")),
        format!("unix:@{}", place.name()),
        format!("fifo:{}", place.path("pipe")),
    ];
    for uri in uris {
        let (_server, uri) = listening(["demo", "server", &uri]);
        talks(&uri);
    }
    let program = env!("CARGO_BIN_EXE_tuyau");
    talks(&format!("exec:'{program}' demo server -"));
    talks(&format!("sh:'{program}' demo server - | cat"));
}

#[test]
fn our_server_with_nc_socat_and_python() {
    let place = Place::new();
    let (_tcp, tcp) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    let port = tcp.rsplit(':').next().expect("a port");
    let path = place.path("socket");
    let (_unix, _) = listening(["demo", "server", &format!("unix:{path}")]);
    let (_name, _) = listening(["demo", "server", &format!("unix:@{}", place.name())]);
    let in_python = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); \
        s.sendall(sys.stdin.buffer.read()); s.shutdown(socket.SHUT_WR); \
        [sys.stdout.buffer.write(chunk) for chunk in iter(lambda: s.recv(7), b'')]";
    let clients = [
        peer("nc", ["-N", "127.0.0.1", port]),
        peer("nc", ["-N", "-U", &path]),
        peer("socat", ["-t30", "-", &format!("TCP:127.0.0.1:{port}")]),
        peer("socat", ["-t30", "-", &format!("UNIX-CONNECT:{path}")]),
        peer("socat", ["-t30", "-", &format!("ABSTRACT-CONNECT:{}", place.name())]),
        peer("socat", ["-t30", "-", &format!("EXEC:{} demo server -", env!("CARGO_BIN_EXE_tuyau"))]),
        peer("python3", ["-c", in_python, port]),
    ];
    for client in clients {
        let name = format!("{client:?}");
        let ended = run(client, LINES).code(0);
        assert_eq!(ended.text(), ANSWERS, "{name}");
    }
}

#[test]
fn our_client_with_python() {
    let place = Place::new();
    let mut tcp = Peer::spawn(&mut python(&["tcp"]));
    talks(&format!("tcp://localhost:{}", tcp.line("")));
    let mut unix = Peer::spawn(&mut python(&["unix", &place.path("socket")]));
    talks(&format!("unix:{}", unix.line("/")));
    talks(&format!("exec:python3 {LINE_SERVER} stdio"));
}

#[test]
fn our_client_with_socat() {
    let place = Place::new();
    let served = format!("EXEC:python3 {LINE_SERVER} stdio");
    let mut tcp = Peer::spawn(&mut peer("socat", ["-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1,fork", &served]));
    let line = tcp.error_line("listening on AF=2");
    talks(&format!("tcp://127.0.0.1:{}", line.rsplit(':').next().expect("a port")));
    let path = place.path("socket");
    let listen = format!("UNIX-LISTEN:{path},fork");
    let mut unix = Peer::spawn(&mut peer("socat", ["-d", "-d", &listen, &served]));
    unix.error_line("listening on AF=1");
    talks(&format!("unix:{path}"));
}

#[test]
fn our_client_with_nc() {
    use std::io::Write;
    let mut nc = Peer::spawn(&mut peer("nc", ["-lvnN", "127.0.0.1", "0"]));
    let line = nc.error_line("Listening on");
    let uri = format!("tcp://127.0.0.1:{}", line.rsplit(' ').next().expect("a port"));
    nc.stdin().write_all(b"pong\nping\r\nhello\n").expect("nc reads");
    let ended = run(tuyau(["demo", "client", &uri]), LINES).code(0);
    assert_eq!(ended.text(), DIALOGUE);
    assert_eq!(nc.end().text(), "ping\r\npong\r\nhello\r\n");
}

#[test]
fn a_last_line_needs_no_end() {
    let (_server, uri) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    assert_eq!(run(tuyau(["demo", "client", &uri]), b"ping").code(0).text(), "> ping\n<- pong\n");
    assert_eq!(run(tuyau(["connect", &uri]), b"\nping").code(0).text(), "\r\npong\r\n");
}

#[test]
fn lines_are_printed_as_they_are() {
    let (_server, uri) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    let ended = run(tuyau(["demo", "client", &uri]), b"\x1b[1m\xff\n").code(0);
    assert_eq!(ended.stdout, b"> \x1b[1m\xff\n<- \x1b[1m\xff\n");
}

#[test]
fn the_port_has_a_default_of_the_protocols_own() {
    let ended =
        run(tuyau(["demo", "client", "tcp://localhost", "--resolve", "localhost:4343:192.0.2.1", "-6"]), b"");
    assert!(ended.code(1).stderr.contains("`localhost` has no IPv6 address"));
}

#[test]
fn a_line_without_end_is_refused_and_the_server_goes_on() {
    let (mut server, uri) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    run(tuyau(["connect", &uri]), &vec![b'a'; 1 << 20]);
    assert!(server.error_line("error: 127.0.0.1:").contains("a line of more than 65536 bytes"));
    talks(&uri);
    let ended = run(tuyau(["demo", "client", &uri]), &vec![b'a'; 1 << 20]);
    assert!(ended.code(1).stderr.contains("standard input: a line of more than 65536 bytes"));
    let longest = vec![b'a'; 1 << 16];
    let ended = run(tuyau(["demo", "client", &uri]), &longest).code(0);
    assert_eq!(ended.stdout.len(), 2 * longest.len() + "> \n<- \n".len());
}

#[test]
fn a_server_that_does_not_speak_the_protocol() {
    let (_echo, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let ended = run(tuyau(["demo", "client", &uri, "-n", "3"]), b"").code(3);
    let said = format!(
        "error: {uri}: that is not the answer\n  does it speak ping-pong, as `tuyau demo server` does?\n"
    );
    assert_eq!(ended.stderr, said);
    assert!(ended.text().contains("1 ping, 0 pongs"), "{}", ended.text());
    let ended = run(tuyau(["demo", "client", "exec:sh -c 'printf po; read line'"]), b"ping\n").code(3);
    assert!(ended.stderr.contains("in the middle of an answer"), "{}", ended.stderr);
    let ended = run(tuyau(["demo", "client", "exec:sh -c 'read line; exit 7'"]), b"ping\n").code(3);
    assert!(ended.stderr.contains("exit status: 7"), "{}", ended.stderr);
    let ended = run(tuyau(["demo", "client", "exec:sh -c 'read line'"]), b"ping\n").code(3);
    assert!(ended.stderr.contains("the server ended and did not answer"), "{}", ended.stderr);
}

#[test]
fn memory_is_of_one_process_and_the_error_says_so() {
    let ended = run(tuyau(["demo", "client", "mem:nobody"]), b"").code(1);
    assert!(ended.stderr.contains("nobody listens on that name"), "{}", ended.stderr);
}
