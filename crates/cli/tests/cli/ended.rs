//! Clients that end their side after their request, as `printf … | nc -N` does, and those that go.

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use tuyau_testing::peers::python;

use crate::peers::{Peer, listening, peer, run, tuyau};
use crate::serve::Served;

/// What comes back of `request` by `nc` and by `connect`, both of which end their side first.
fn asked(at: &str, request: &str) -> String {
    let (host, port) = at.rsplit_once(':').expect("a port");
    let by_nc = run(peer("nc", ["-N", host, port]), request.as_bytes()).code(0);
    let by_us = run(tuyau(["connect", &format!("tcp://{at}")]), request.as_bytes()).code(0);
    let body = |text: &str| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert!(by_nc.text().starts_with("HTTP/1.1 200 OK\r\n"), "{}", by_nc.text());
    assert_eq!(body(by_nc.text()), body(by_us.text()));
    body(by_nc.text()).expect("a head")
}

fn proxy(more: &[&str]) -> (Peer, String) {
    let (peer, uri) = listening(["proxy", "--listen", "tcp://127.0.0.1:0"].iter().chain(more));
    (peer, uri.trim_start_matches("tcp://").to_owned())
}

/// What it logged, after its end.
fn log(server: Peer) -> String {
    server.signal(Signal::SIGTERM);
    server.end().code(0).stderr
}

#[test]
fn whoever_has_asked_and_ended_is_answered() {
    let served = Served::new(false, &[]);
    served.write("a.txt", "hello");
    let big = File::create(served.place.path("www/big")).expect("a file");
    big.set_len(1 << 28).expect("a sparse file");
    let server = served.url.trim_start_matches("http://").to_owned();
    let (reverse, at_reverse) = proxy(&["--to", &served.url]);
    let (forward, at_forward) = proxy(&[]);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (at, target) in
        [(&server, "/a.txt"), (&at_reverse, "/a.txt"), (&at_forward, &format!("{}/a.txt", served.url))]
    {
        assert_eq!(asked(at, &get(target)), "hello");
    }
    let tunnel = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let (host, port) = at_forward.rsplit_once(':').expect("a port");
    let through = run(peer("nc", ["-N", host, port]), (tunnel + &get("/a.txt")).as_bytes()).code(0);
    assert!(through.text().ends_with("\r\n\r\nhello"), "{}", through.text());
    for at in [&server, &at_reverse] {
        let (host, port) = at.rsplit_once(':').expect("a port");
        let script =
            "printf 'GET /big HTTP/1.0\\r\\n\\r\\n' | nc -N \"$0\" \"$1\" | sed '1,/^\\r$/d' | wc -c";
        let got = run(peer("sh", ["-c", script, host, port]), b"").code(0);
        assert_eq!(got.text().trim(), (1 << 28).to_string(), "{at}");
    }
    for log in [served.log(), log(reverse), log(forward)] {
        assert!(!log.contains("broken off") && !log.contains("broke"), "{log}");
    }
}

/// Whom nobody waits for any more is not asked, and the log says that the client went.
#[test]
fn whoever_goes_before_the_response_is_logged() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", silent.local_addr().expect("an address"));
    let given_up = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = silent.accept().expect("a connection");
            let mut asked = String::new();
            stream.read_to_string(&mut asked).expect("it is ended");
            assert!(asked.starts_with("GET /x HTTP/1.1\r\n"), "{asked}");
        }
    });
    let (mut reverse, at_reverse) = proxy(&["--to", &to]);
    let (mut forward, at_forward) = proxy(&[]);
    let goes = |args: &[&str]| {
        let ended = run(peer("curl", ["-sS", "--max-time", "0.5"].iter().chain(args)), b"").code(28);
        assert!(ended.stderr.contains("timed out"), "{}", ended.stderr);
    };
    let url = format!("http://{at_reverse}/x");
    for (version, said) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2.0")] {
        goes(&[version, &url]);
        let line = reverse.error_line("GET /x");
        assert!(line.starts_with("127.0.0.1 - - [") && line.contains(&format!("{said}\" 499 0 ")), "{line}");
        assert!(line.ends_with(", broken off before the response"), "{line}");
    }
    goes(&["-x", &format!("http://{at_forward}"), &format!("{to}/x")]);
    forward.error_line(&format!("\"GET {to}/x HTTP/1.1\" 499 0 "));
    given_up.join().expect("they were given up");
}

#[test]
fn what_the_server_refuses_itself_is_logged() {
    let served = Served::new(false, &[]);
    let (proxy, at_proxy) = proxy(&[]);
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let requests = [
        ("GET /a HTTP/1.1\r\n\r\n", "\"GET /a HTTP/1.1\" 400 0 ", "it does not name one host"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "\"GET / HTTP/1.1\" 400 0 ", "its host is none"),
        (
            "GET http://ada:s3cret@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "\"GET http://a/ HTTP/1.1\" 400 0 ",
            "its host is none",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "\"POST / HTTP/1.1\" 501 0 ",
            "its transfer coding is not known",
        ),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "\"-\" 400 0 ", "it is not HTTP/1, or not by its rules"),
        (&large, "\"-\" 431 0 ", "its head is too large"),
    ];
    for at in [served.url.trim_start_matches("http://"), &at_proxy] {
        let (host, port) = at.rsplit_once(':').expect("a port");
        for (request, line, _) in requests {
            let said = run(peer("nc", ["-N", host, port]), request.as_bytes());
            let status = line.split(' ').nth_back(2).expect("a status");
            assert!(said.text().starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {}", said.text());
        }
    }
    for log in [served.log(), log(proxy)] {
        assert!(!log.contains("s3cret"), "{log}");
        for (_, line, why) in requests {
            // Nobody knows how long it took.
            let ends = format!(" 0 -, a bad request: {why}");
            let is_it = |said: &&str| {
                said.starts_with("127.0.0.1 - - [") && said.contains(line) && said.ends_with(&ends)
            };
            assert_eq!(log.lines().filter(is_it).count(), 1, "{line}{why}: {log}");
        }
    }
}

/// A server of HTTP/2 that answers by these lines of Python: with a connection `c`, a `stream` and a `path`.
pub(crate) fn upstream_of_http2(answer: &str) -> (Peer, String) {
    let script = format!(
        r#"
import socket, h2.config, h2.connection, h2.events
l = socket.create_server(("127.0.0.1", 0))
print(l.getsockname()[1], flush=True)
s, _ = l.accept()
c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
c.initiate_connection()
s.sendall(c.data_to_send())
while data := s.recv(65536):
    for event in c.receive_data(data):
        if isinstance(event, h2.events.RequestReceived):
            stream, path = event.stream_id, dict(event.headers)[":path"]
{answer}
    s.sendall(c.data_to_send())
"#
    );
    let mut upstream = Peer::spawn(&mut python("h2", "python3-h2", &script));
    let to = format!("http://127.0.0.1:{}", upstream.line(""));
    (upstream, to)
}

/// Over HTTP/2 the end of a body may come after its last byte: a client of HTTP/1 that knows the length has all by then.
#[test]
fn a_response_is_whole_with_its_last_byte() {
    let (_upstream, to) = upstream_of_http2(
        r#"
            if path == "/none":
                c.send_headers(stream, [(":status", "204")])
            else:
                c.send_headers(stream, [(":status", "200"), ("content-length", "5")])
                c.send_data(stream, b"hello")
"#,
    );
    let (mut reverse, at) = proxy(&["--to", &to, "--http2"]);
    for (path, text, said) in [("/", "hello", "200 5 "), ("/none", "", "204 0 "), ("/", "hello", "200 5 ")] {
        let url = format!("http://{at}{path}");
        let got = run(peer("curl", ["-sS", "--max-time", "30", "--http1.1", &url]), b"").code(0);
        assert_eq!(got.text(), text);
        let line = reverse.error_line("GET /");
        assert!(line.contains(&format!("\"GET {path} HTTP/1.1\" {said}")), "{line}");
        assert!(!line.contains("broken off"), "{line}");
    }
}
