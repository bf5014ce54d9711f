//! What the access log of `serve` and `proxy` says of how it ended, and of whom.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::Signal;

use crate::ended::upstream_of_http2;
use crate::peers::{Place, listening, peer, run, tuyau};
use crate::proxy::{curl, proxy};
use crate::serve::Served;

/// A server that says this to each request, and hangs up then or stays silent.
fn saying(answer: &'static str, hangs_up: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            asked(&mut stream);
            // Whoever has enough may be gone.
            let _ = stream.write_all(answer.as_bytes());
            kept.extend((!hangs_up).then_some(stream));
        }
    });
    at
}

/// Reads a head.
fn asked(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
}

const TRAILERS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n5\r\nhello\r\n0\r\nX-T: yes\r\n\r\n";

#[test]
fn what_has_trailers_is_whole() {
    let at = saying(TRAILERS, false);
    let (mut reverse, front) = proxy(&["--to", &format!("http://{at}")]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for more in [&[][..], &["-H", "TE: trailers"]] {
            let url = format!("http://{front}/");
            assert_eq!(curl(&[&[version, &url], more].concat()), "hello");
            let line = reverse.error_line("\"GET / HTTP/");
            assert!(line.contains("\" 200 5 ") && !line.contains("broken off"), "{line}");
        }
    }
}

/// As gRPC has it, by HTTP/2 on both sides: also with a response that is trailers only.
#[test]
fn what_has_trailers_is_whole_by_http2() {
    let (_upstream, to) = upstream_of_http2(
        r#"
            start = [(":status", "200"), ("content-type", "application/grpc")]
            if path == "/only":
                c.send_headers(stream, start + [("grpc-status", "5")], end_stream=True)
            else:
                c.send_headers(stream, start)
                c.send_data(stream, b"hello")
                c.send_headers(stream, [("grpc-status", "0")], end_stream=True)
"#,
    );
    let (mut reverse, at) = proxy(&["--to", &to, "--http2"]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for (path, text) in [("/x", "hello"), ("/only", "")] {
            assert_eq!(curl(&[version, "-H", "TE: trailers", &format!("http://{at}{path}")]), text);
            let line = reverse.error_line(&format!("\"GET {path} HTTP/"));
            assert!(line.contains(&format!("\" 200 {} ", text.len())) && !line.contains("broken"), "{line}");
        }
    }
}

/// More than lies in all buffers on the way.
const BIG: u64 = 256 << 20;

/// A client that has begun to read what it asks for, and what it has of it.
fn reading(args: &[&str]) -> (Child, ChildStdout) {
    let mut curl = peer("curl", ["-sS", "--max-time", "60"].iter().chain(args));
    let mut curl = curl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl");
    let mut out = curl.stdout.take().expect("it is piped");
    out.read_exact(&mut [0; 1000]).expect("it begins");
    (curl, out)
}

#[test]
fn a_file_that_shrinks_meanwhile_breaks_off() {
    let (mut served, mut quiet) = (Served::new(false, &[]), Served::new(false, &["--quiet"]));
    // What can't be compressed.
    let (mut seed, mut noise) = (1_u64, Vec::new());
    while noise.len() < 32 << 20 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&seed.to_be_bytes()[..4]);
    }
    for (name, more) in [("big.bin", &[][..]), ("big.txt", &["-H", "Accept-Encoding: gzip"])] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for served in [&served, &quiet] {
                let path = served.place.path(&format!("www/{name}"));
                fs::write(&path, &noise).expect("a file");
                let url = format!("{}/{name}", served.url);
                let (mut curl, mut out) = reading(&[&[version, &url], more].concat());
                File::options().write(true).open(&path).and_then(|it| it.set_len(1000)).expect("it shrinks");
                out.read_to_end(&mut Vec::new()).expect("it ends");
                assert!(!curl.wait().expect("it ends").success(), "{name} {version}");
            }
            let line = served.server.error_line(&format!("GET /{name}"));
            let ends = format!(" of {} bytes", noise.len());
            assert!(line.contains(", broken off: what is sent ended after "), "{line}");
            assert!(line.ends_with(&ends), "{line}");
            let line = quiet.server.error_line(&format!("error: /{name}: broken off after "));
            assert!(line.contains(" bytes: what is sent ended after ") && line.ends_with(&ends), "{line}");
        }
    }
}

#[test]
fn why_a_body_broke_off_is_said() {
    let lengthy = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for (answer, hangs_up) in [(lengthy, true), (chunked, true), (lengthy, false), (chunked, false)] {
        let to = saying(answer, hangs_up);
        let why = match hangs_up {
            true => format!("the body ended before its end: {to} closed the connection"),
            false => "the body stalled for too long (--idle)".into(),
        };
        let (mut reverse, at) = proxy(&["--to", &format!("http://{to}"), "--idle", "0.2"]);
        let (mut forward, through) = proxy(&["--idle", "0.2"]);
        let (direct, through) = (format!("http://{at}/"), format!("http://{through}"));
        let broken = |args: &[&str]| {
            let ended = run(peer("curl", ["-sS", "--max-time", "30"].iter().chain(args)), b"");
            assert!(!ended.status.success(), "{}", ended.text());
        };
        broken(&[&direct]);
        broken(&["--http2-prior-knowledge", &direct]);
        broken(&["-x", &through, &format!("http://{to}/")]);
        for line in [
            reverse.error_line("GET / HTTP/1.1\" 200 5 "),
            reverse.error_line("GET / HTTP/2.0\" 200 5 "),
            forward.error_line("\" 200 5 "),
        ] {
            assert!(line.ends_with(&format!(", broken off: {why}")), "{line}");
        }
        // Whoever wants no requests logged is told as well.
        let (mut quiet, at) = proxy(&["--to", &format!("http://{to}"), "--idle", "0.2", "--quiet"]);
        broken(&[&format!("http://{at}/a?b")]);
        let line = quiet.error_line("error: ");
        assert!(line.ends_with(&format!(": /a?b: broken off after 5 bytes: {why}")), "{line}");
    }
}

#[test]
fn a_client_that_left_is_no_failure() {
    let mut served = Served::new(false, &[]);
    let file = File::create(served.place.path("www/big.bin")).expect("a file");
    file.set_len(BIG).expect("a sparse file");
    let (mut reverse, at) = proxy(&["--to", &served.url]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (mut curl, _out) = reading(&[version, &format!("http://{at}/big.bin")]);
        curl.kill().expect("it runs");
        curl.wait().expect("it ends");
        // The proxy has left the server then.
        for server in [&mut reverse, &mut served.server] {
            let line = server.error_line("GET /big.bin");
            assert!(line.contains("\" 200 ") && line.ends_with(", broken off by the client"), "{line}");
        }
    }
}

/// Also by a second signal, which does not wait for `--drain`.
#[test]
fn what_the_end_cuts_off_says_so() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let tunnel = silent.local_addr().expect("an address").to_string();
    let to = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false);
    for (drain, signals) in [("0.1", 1), ("60", 2)] {
        let (mut forward, at) = proxy(&["--drain", drain]);
        let begin = |request: &str| {
            let mut stream = TcpStream::connect(&at).expect("it listens");
            stream.write_all(request.as_bytes()).expect("it reads");
            asked(&mut stream);
            stream
        };
        let _tunnel = begin(&format!("CONNECT {tunnel} HTTP/1.1\r\nHost: {tunnel}\r\n\r\n"));
        let mut response = begin(&format!("GET http://{to}/x HTTP/1.1\r\nHost: {to}\r\n\r\n"));
        response.read_exact(&mut [0; 5]).expect("the beginning");
        forward.signal(Signal::SIGTERM);
        if signals == 2 {
            // It listens no more once it has seen the first.
            while TcpStream::connect(&at).is_ok() {}
            forward.signal(Signal::SIGTERM);
        }
        let line = forward.error_line("/x HTTP/1.1\" 200 5 ");
        assert!(line.ends_with(", broken off at the end of the server"), "{line}");
        let line = forward.error_line("\"CONNECT ");
        assert!(line.ends_with(", broken off: it was cut off at the end of the proxy"), "{line}");
        forward.error_line("1 tunnel cut off");
        let _ = forward.end();
    }
}

#[test]
fn why_a_tunnel_ended_is_said() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = silent.local_addr().expect("an address").to_string();
    let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let answered = |at: &str| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(connect.as_bytes()).expect("it reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let (mut bounded, at) = proxy(&["--max-tunnels", "1"]);
    let (_stays, status) = answered(&at);
    assert_eq!(status, "HTTP/1.1 200");
    assert_eq!(answered(&at).1, "HTTP/1.1 503");
    let line = bounded.error_line("error: ");
    let why = format!("error: {to}: connect: as many tunnels are open as may be, 1 (--max-tunnels)");
    assert_eq!(line, why);
    bounded.error_line(&format!("\"CONNECT {to} HTTP/1.1\" 503 "));

    let (mut impatient, at) = proxy(&["--tunnel-idle", "0.2"]);
    let (mut stream, status) = answered(&at);
    assert_eq!(status, "HTTP/1.1 200");
    stream.read_to_end(&mut Vec::new()).expect("it is ended");
    let line = impatient.error_line("\"CONNECT ");
    assert!(line.ends_with(", broken off: nothing moved for 200ms (--tunnel-idle)"), "{line}");
}

#[test]
fn who_comes_by_a_unix_socket_is_one_word() {
    let place = Place::new();
    fs::write(place.path("a.txt"), "here").expect("a file");
    let socket = place.path("socket");
    let dir = place.dir().display().to_string();
    let (mut server, _) = listening(["serve", &dir, "--listen", &format!("unix:{socket}")]);
    assert_eq!(curl(&["--unix-socket", &socket, "http://a/a.txt"]), "here");
    let line = server.error_line("GET /a.txt");
    let who = line.split(" - - [").next().expect("a first field");
    assert!(
        who.starts_with("unix:pid=") && who.ends_with(&format!(",uid={}", nix::unistd::getuid())),
        "{line}"
    );
}

#[test]
fn get_says_who_broke_off_what() {
    let at = saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true);
    let url = format!("http://{at}/x");
    let said = run(tuyau(["get", &url]), b"").stderr;
    let why = format!(
        "error: {url}: the body ended before its end: {at} closed the connection: 5 bytes of 10 came"
    );
    assert_eq!(said.trim_end(), why);
}
