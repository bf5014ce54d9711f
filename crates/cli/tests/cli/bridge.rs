//! `bridge`: what goes in at one end comes out at the other, and a failure costs its connection only.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use tuyau_testing::certs::Ca;

use crate::peers::{Peer, Place, listening, peer, run, tuyau};

fn port(uri: &str) -> u16 {
    uri.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}

#[test]
fn each_direction_ends_by_itself() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("tcp://{}", server.local_addr().expect("an address"));
    let place = Place::new();
    let unix = format!("unix:{}", place.path("s"));
    let (bridge, _) = listening(["bridge", &unix, &to]);
    let mut near = UnixStream::connect(place.path("s")).expect("it listens");
    let (mut far, _) = server.accept().expect("it connects");
    near.write_all(b"question").expect("it reads");
    near.shutdown(Shutdown::Write).expect("it is open");
    let mut came = String::new();
    far.read_to_string(&mut came).expect("the question, and its end");
    assert_eq!(came, "question");
    far.write_all(b"answer").expect("the other direction is open");
    drop(far);
    came.clear();
    near.read_to_string(&mut came).expect("the answer, and its end");
    assert_eq!(came, "answer");
    bridge.signal(Signal::SIGTERM);
    bridge.end().code(0);
    assert_eq!(place.entries(), [""; 0], "the socket file is removed");
}

#[test]
fn a_failed_dial_is_told_in_a_line_and_resets_its_connection_only() {
    let place = Place::new();
    let to = format!("unix:{}", place.path("far"));
    let (mut bridge, near) = listening(["bridge", "tcp://127.0.0.1:0", &to]);
    let mut refused = TcpStream::connect(("127.0.0.1", port(&near))).expect("it listens");
    let line = bridge.error_line("error: ");
    assert!(line.contains(&to) && line.contains("No such file"), "{line}");
    let error = refused.read(&mut [0]).expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (_far, _) = listening(["listen", &to, "--echo"]);
    let ended = run(tuyau(["connect", &near]), b"x").code(0);
    assert_eq!(ended.text(), "x", "the next one is served");
}

#[test]
fn a_reset_is_passed_on_as_one() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("tcp://{}", server.local_addr().expect("an address"));
    let (_bridge, near) = listening(["bridge", "tcp://127.0.0.1:0", &to]);
    let mut near = TcpStream::connect(("127.0.0.1", port(&near))).expect("it listens");
    let (far, _) = server.accept().expect("it connects");
    near.write_all(b"x").expect("it reads");
    // Closed with a byte that was not read: a reset.
    far.peek(&mut [0]).expect("it comes");
    drop(far);
    assert_eq!(near.read(&mut [0]).expect_err("no clean end").kind(), ErrorKind::ConnectionReset);
}

/// Many TLS servers end without `close_notify`: whoever reads slowly has all that came, and then no clean end.
#[test]
fn what_came_before_it_broke_off_is_all_delivered() {
    const SERVER: &str = "
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(*sys.argv[1:])
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
stream = context.wrap_socket(listener.accept()[0], server_side=True)
stream.sendall(b'x' * 1000000)
stream.close()";
    let place = Place::new();
    let ca = Ca::new("CA of the test");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
    let mut server = Peer::spawn(&mut peer("python3", ["-c", SERVER, &cert, &key]));
    let far = format!("tls://localhost:{}", server.line(""));
    let cacert = ca.file(&place, "ca.pem");
    let (mut bridge, at) = listening(["bridge", "tcp://127.0.0.1:0", &far, "--cacert", &cacert, "-4"]);
    // Little of it fits in here.
    let near = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    near.set_recv_buffer_size(4096).expect("it may be small");
    near.connect(&SocketAddr::from(([127, 0, 0, 1], port(&at))).into()).expect("it listens");
    let line = bridge.error_line("error: ");
    assert!(line.contains("without close_notify: bytes may be missing"), "{line}");
    let mut came = Vec::new();
    let error = TcpStream::from(near).read_to_end(&mut came).expect_err("no clean end");
    assert_eq!((came.len(), error.kind()), (1_000_000, ErrorKind::ConnectionReset));
}

#[test]
fn unmodified_programs_go_through() {
    let redis = tuyau_testing::peers::redis();
    let place = Place::new();
    let (_bridge, _) = listening([
        "bridge",
        &format!("unix:{}", place.path("redis")),
        &format!("tcp://127.0.0.1:{}", redis.port()),
        "-v",
    ]);
    let ended = run(peer("redis-cli", ["-s", &place.path("redis"), "set", "key", "value"]), b"").code(0);
    assert_eq!(ended.text(), "OK\n");
    let ended = run(peer("redis-cli", ["-s", &place.path("redis"), "get", "key"]), b"").code(0);
    assert_eq!(ended.text(), "value\n");
}

#[test]
fn a_thousand_idle_connections_take_less_than_30_megabytes() {
    let (_server, far) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let (bridge, near) = listening(["bridge", "tcp://127.0.0.1:0", &far]);
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is one");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("we may");
    let connections: Vec<_> = (0..1000)
        .map(|_| {
            let mut connection = TcpStream::connect(("127.0.0.1", port(&near))).expect("it listens");
            // Carried there and back: it is no longer being connected.
            connection.write_all(b"x").and_then(|()| connection.read_exact(&mut [0])).expect("an echo");
            connection
        })
        .collect();
    let status = std::fs::read_to_string(format!("/proc/{}/status", bridge.pid())).expect("it runs");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes <= 30_000, "{kilobytes} kB for {} connections", connections.len());
}
