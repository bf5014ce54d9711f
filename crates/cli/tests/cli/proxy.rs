//! `tuyau proxy`: curl, a browser, nginx and ourselves around it.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use nix::sys::signal::Signal;
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{self, python, sshd};
use tuyau_testing::{dead_port, free_port};

use crate::browser::{opened, page, trusting};
use crate::peers::{LIMIT, Peer, Place, listening, peer, run, tuyau};
use crate::serve::Served;

/// Starts one, and gives where it listens as `host:port`.
pub(crate) fn proxy(more: &[&str]) -> (Peer, String) {
    let (peer, uri) = listening(["proxy", "--listen", "tcp://127.0.0.1:0"].iter().chain(more));
    (peer, uri.trim_start_matches("tcp://").to_owned())
}

pub(crate) fn curl(args: &[&str]) -> String {
    let ended = run(peer("curl", ["-sS", "--max-time", "30"].iter().chain(args)), b"").code(0);
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn curl_goes_through_as_whom_it_should() {
    let (served, place) = (Served::new(true, &[]), Place::new());
    let clear = Served::new(false, &[]);
    served.write("a.txt", "by TLS");
    clear.write("a.txt", "in clear");
    fs::write(place.path("users"), "# who may\n\nada:s3cret:with a colon\n").expect("a file");
    let (mut proxy, at) = proxy(&["--user-file", &place.path("users"), "--auth", "bob:s3cret-too"]);
    let (clear_url, tls_url) = (format!("{}/a.txt?q=1", clear.url), format!("{}/a.txt", served.url));
    for user in ["ada:s3cret:with a colon", "bob:s3cret-too"] {
        let through = ["-x", &format!("http://{at}"), "--proxy-user", user, "--cacert", &served.cacert];
        let with = |more: &[&str]| curl(&[&through[..], more].concat());
        assert_eq!(with(&[&clear_url]), "in clear");
        assert_eq!(with(&["-p", &clear_url]), "in clear");
        assert_eq!(with(&["--http1.1", &tls_url]), "by TLS");
        assert_eq!(with(&[&tls_url, "-w", " %{http_version}"]), "by TLS 2");
    }
    let status = |more: &[&str]| {
        curl(&[&["-x", &format!("http://{at}"), "-o", "/dev/null", "-w", "%{http_code}"], more].concat())
    };
    assert_eq!(status(&[&clear_url]), "407");
    assert_eq!(status(&["--proxy-user", "ada:wrong", &clear_url]), "407");
    // Our own hop is a client of it as well.
    let via = format!("http://bob:s3cret-too@{at}");
    let get =
        |more: &[&str]| run(tuyau(["get", &tls_url, "--cacert", &served.cacert].iter().chain(more)), b"");
    assert_eq!(get(&["--via", &via]).code(0).text(), "by TLS");
    let refused = get(&["--via", &format!("http://{at}")]).code(1).stderr;
    assert!(refused.contains("407"), "{refused}");
    let line = proxy.error_line("\"GET http://localhost:");
    assert!(line.starts_with("127.0.0.1 - ada [") && line.contains("/a.txt?q=1 HTTP/1.1\" 200 8 "), "{line}");
    proxy.error_line(" - bob [");
    proxy.error_line("\"CONNECT localhost:");
    let line = proxy.error_line(" 407 ");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    proxy.signal(Signal::SIGTERM);
    let said = proxy.end().code(0).stderr;
    assert!(said.contains("served: ") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_browser_goes_through_by_http2_over_tls() {
    let (served, place) = (Served::new(false, &[]), Place::new());
    served.write("page.html", "<body>through</body>");
    let ca = Ca::new("CA of the test");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "proxy");
    let args = ["proxy", "--listen", "tls://localhost:0", "--tls-cert", &cert, "--tls-key", &key];
    let (mut proxy, uri) = listening(args);
    let at = format!("https://localhost:{}", uri.rsplit(':').next().expect("a port"));
    let (url, cacert) = (format!("{}/page.html", served.url), ca.file(&place, "ca.pem"));
    // Others have HTTP/1.1 with it.
    assert_eq!(curl(&["-p", "-x", &at, "--proxy-cacert", &cacert, &url]), "<body>through</body>");
    let via = format!("{at}?cacert={cacert}");
    assert_eq!(run(tuyau(["get", &url, "--via", &via]), b"").code(0).text(), "<body>through</body>");
    let through = format!("--proxy-server={at}");
    // Which it would not use for this machine otherwise.
    let flags = [&trusting(&cert), &through, "--proxy-bypass-list=<-loopback>"];
    let text = page(&url, &flags.map(|flag: &str| flag));
    assert!(text.contains("through"), "{text}");
    let line = proxy.error_line("/page.html");
    assert!(
        line.contains("\"GET http://localhost:") && line.contains("/page.html HTTP/2.0\" 200 "),
        "{line}"
    );
}

#[test]
fn what_may_be_reached_the_policy_says() {
    let served = Served::new(false, &[]);
    served.write("a.txt", "here");
    let (mut proxy, at) = proxy(&["--only-networks", "192.0.2.0/24", "-4"]);
    let url = format!("{}/a.txt", served.url);
    for how in [&[][..], &["-p"]] {
        let all =
            [&["-x", &format!("http://{at}"), "-o", "/dev/null", "-w", "%{http_connect} %{http_code}"], how];
        let ended = run(peer("curl", all.concat().iter().chain([&url.as_str()])), b"");
        assert!(ended.text().contains("403"), "{}", ended.text());
        let line = proxy.error_line("error: ");
        assert!(line.contains("127.0.0.1") && line.contains("polic"), "{line}");
    }
}

/// A server of one connection that gives what it was asked, and answers `answer`.
fn noting(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let noting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).expect("it reads");
        String::from_utf8(head).expect("text")
    });
    (port, noting)
}

#[test]
fn every_stack_is_one_to_go_on_by() {
    let (clear, tls, sshd) = (Served::new(false, &[]), Served::new(true, &[]), sshd());
    for served in [&clear, &tls] {
        served.write("a.txt", "served");
    }
    let socket = format!("unix:{}", clear.place.path("socket"));
    let www = clear.place.path("www");
    let (_unix, _) = listening(["serve", &www, "--listen", &socket]);
    let via = format!(
        "ssh://{}@127.0.0.1:{}?identity={}&known-hosts={}",
        sshd.user(),
        sshd.port(),
        sshd.identity().display(),
        sshd.known_hosts().display()
    );
    let tcp = clear.url.replace("http:", "tcp:");
    for more in [
        &["--to", &clear.url][..],
        &["--to", &clear.url, "--http2"],
        &["--to", &tcp, "--via", &via],
        &["--to", &socket],
        &["--to", &tls.url, "--cacert", &tls.cacert],
        &["--to", &tls.url.replace("https:", "tls:"), "--cacert", &tls.cacert, "--http1.1"],
    ] {
        let (_proxy, at) = proxy(more);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert_eq!(curl(&[version, &format!("http://{at}/a.txt")]), "served", "{more:?}");
        }
        assert_eq!(curl(&["-r", "1-2", &format!("http://{at}/a.txt")]), "er", "{more:?}");
    }
    // By ALPN, as the server's log has it.
    let log = tls.log();
    assert!(log.contains("GET /a.txt HTTP/2.0\" 200") && log.contains("GET /a.txt HTTP/1.1\" 200"), "{log}");
}

#[test]
fn nginx_behind_and_in_front() {
    let place = Place::new();
    let (front, behind) = (free_port(), free_port());
    let dir = place.dir().display();
    let (_proxy, at) = proxy(&["--to", &format!("http://127.0.0.1:{behind}"), "--trust-forwarded"]);
    let servers = format!(
        "client_max_body_size 0;
         server {{ listen 127.0.0.1:{behind}; root {dir}/www;
            location /told {{ return 200 \"$host $http_x_forwarded_for $http_x_forwarded_proto $http_forwarded\"; }} }}
         server {{ listen 127.0.0.1:{front};
            location / {{ proxy_pass http://{at}; proxy_http_version 1.1; proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For 203.0.113.9; proxy_set_header X-Forwarded-Proto https; }} }}"
    );
    fs::create_dir(place.path("www")).expect("a directory");
    let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(place.path("www/file"), &content).expect("a file");
    let _nginx = peers::nginx(&place, &servers);
    for port in [at.as_str(), &format!("127.0.0.1:{front}")] {
        let got = run(peer("curl", ["-sS", &format!("http://{port}/file")]), b"").code(0).stdout;
        assert!(got == content, "{port}");
    }
    let told = curl(&["-H", "Host: site.test", &format!("http://127.0.0.1:{front}/told")]);
    let forwarded = "for=203.0.113.9;proto=https, for=127.0.0.1;host=\"site.test\";proto=http";
    assert_eq!(told, format!("site.test 203.0.113.9, 127.0.0.1 https {forwarded}"));
}

#[test]
fn websockets_and_what_the_server_is_told() {
    let (_echo, ws) = listening(["listen", "ws://127.0.0.1:0/chat", "--echo"]);
    let to = ws.replace("ws://", "http://").replace("/chat", "");
    let (_proxy, at) = proxy(&["--to", &to]);
    let script = "
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        await socket.send(b'hello')
        print((await socket.recv()).decode())
asyncio.run(main())
";
    let mut client = python("websockets", "python3-websockets", script);
    client.arg(format!("ws://{at}/chat"));
    assert_eq!(run(client, b"").code(0).text(), "hello\n");
    let ended = run(tuyau(["connect", &format!("ws://{at}/chat")]), b"hello").code(0);
    assert_eq!(ended.text(), "hello");

    let (port, noted) = noting("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    let (_proxy, at) = proxy(&["--to", &format!("http://127.0.0.1:{port}"), "--host", "inner.test"]);
    assert_eq!(curl(&["-H", "X-Forwarded-For: 203.0.113.9", &format!("http://{at}/x")]), "ok");
    let head = noted.join().expect("it was asked");
    for line in [
        "host: inner.test",
        "x-forwarded-for: 127.0.0.1",
        &format!("x-forwarded-host: {at}"),
        "via: 1.1 tuyau-",
    ] {
        assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
    }
    for (said, told) in [
        (
            &["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https"][..],
            "forwarded: for=6.6.6.6;proto=https, for=127.0.0.1;host=",
        ),
        (&["Forwarded: for=6.6.6.6;proto=https"], "x-forwarded-for: 6.6.6.6, 127.0.0.1\r\n"),
        (&["Forwarded: for=6.6.6.6;proto=https"], "x-forwarded-proto: https\r\n"),
    ] {
        let (port, noted) = noting("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        let (_proxy, at) = proxy(&["--to", &format!("http://127.0.0.1:{port}"), "--trust-forwarded"]);
        let fields: Vec<&str> = said.iter().flat_map(|field| ["-H", field]).collect();
        assert_eq!(curl(&[&fields[..], &[&format!("http://{at}/")]].concat()), "ok");
        let head = noted.join().expect("it was asked");
        assert!(head.contains(told), "{told}: {head}");
    }
}

/// RFC 8441, as browsers do it where there is a connection of HTTP/2 already; the server behind knows HTTP/1.1 only.
#[test]
fn a_browser_has_its_websockets_by_http2() {
    let (_echo, ws) = listening(["listen", "ws://127.0.0.1:0/chat", "--echo"]);
    let (to, place) = (ws.replace("ws://", "http://").replace("/chat", ""), Place::new());
    let (cert, key) = Ca::new("CA of the test").leaf(&["localhost"]).files(&place, "proxy");
    let args = ["--listen", "tls://localhost:0", "--tls-cert", &cert, "--tls-key", &key, "--to", &to];
    let (mut proxy, uri) = listening(["proxy"].iter().chain(&args));
    let at = format!("localhost:{}", uri.rsplit(':').next().expect("a port"));
    let script = format!(
        "fetch('https://{at}/', {{ mode: 'no-cors', credentials: 'include' }}).catch(() => 0).then(() => {{
            const socket = new WebSocket('wss://{at}/chat');
            socket.onopen = () => socket.send(new Uint8Array([104, 105]));
            socket.onmessage = () => socket.close();
        }})"
    );
    fs::write(place.path("page.html"), format!("<script>{script}</script>")).expect("a file");
    let url = format!("file://{}", place.path("page.html"));
    let _browser = opened(&url, &[&trusting(&cert)]);
    let line = proxy.error_line("/chat");
    // What came back: a frame of two bytes, and the one that closes.
    assert!(line.contains("\"CONNECT /chat HTTP/2.0\" 200 "), "{line}");
    let bytes: usize =
        line.split("\" 200 ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()).expect("a count");
    assert!(bytes >= 4, "{line}");
}

#[test]
fn why_it_failed_is_in_the_log_only() {
    let dead = format!("http://127.0.0.1:{}", dead_port());
    let (mut proxy_of_none, at) = proxy(&["--to", &dead]);
    assert_eq!(curl(&[&format!("http://{at}/x")]), "502 Bad Gateway\n");
    let line = proxy_of_none.error_line("error: ");
    assert!(line.contains(&dead) && line.contains("Connection refused"), "{line}");
    // What a tunnel is asked for to is no URL.
    let (mut forward, through) = proxy(&[]);
    run(peer("curl", ["-sS", "-p", "-x", &format!("http://{through}"), &dead]), b"").code(56);
    let line = forward.error_line("error: ");
    let host = dead.trim_start_matches("http://");
    assert!(line.starts_with(&format!("error: {host}: ")) && line.contains("Connection refused"), "{line}");
    forward.error_line(&format!("\"CONNECT {host} HTTP/1.1\" 502 "));
    // A hop that is not there is never left out.
    let served = Served::new(false, &[]);
    let (mut lost, at) = proxy(&["--to", &served.url, "--via", &dead]);
    assert_eq!(curl(&[&format!("http://{at}/")]), "502 Bad Gateway\n");
    let line = lost.error_line("error: ");
    assert!(
        line.contains(dead.trim_start_matches("http://")) && line.contains("Connection refused"),
        "{line}"
    );
    // One that accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = format!("http://{}", silent.local_addr().expect("an address"));
    let (mut proxy_of_silence, at) = proxy(&["--to", &to, "--idle", "0.2"]);
    assert_eq!(curl(&[&format!("http://{at}/")]), "504 Gateway Timeout\n");
    let line = proxy_of_silence.error_line("error: ");
    assert!(line.contains("wait for the response: took more than 200ms (--idle)"), "{line}");
}

#[test]
fn the_end_waits_for_tunnels() {
    let (_echo, echo) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let echo = echo.trim_start_matches("tcp://").to_owned();
    let (proxy_that_waits, at) = proxy(&[]);
    let tunnel = |at: &str| {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream
            .write_all(format!("CONNECT {echo} HTTP/1.1\r\nHost: {echo}\r\n\r\n").as_bytes())
            .expect("it reads");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", head.escape_ascii());
        stream
    };
    let says = |stream: &mut TcpStream| {
        let mut said = [0; 5];
        stream.write_all(b"hello").expect("it reads");
        stream.read_exact(&mut said).expect("an echo");
        assert_eq!(&said, b"hello");
    };
    let mut stream = tunnel(&at);
    says(&mut stream);
    let mut proxy_that_waits = proxy_that_waits;
    proxy_that_waits.signal(Signal::SIGTERM);
    proxy_that_waits.error_line("served: ");
    says(&mut stream);
    drop(stream);
    let said = proxy_that_waits.end().code(0).stderr;
    assert!(said.contains("\" 200 10 ") && !said.contains("cut off"), "{said}");

    let (stuck, at) = proxy(&["--drain", "0.1"]);
    let mut stream = tunnel(&at);
    says(&mut stream);
    stuck.signal(Signal::SIGTERM);
    let said = stuck.end().code(0).stderr;
    assert!(said.contains("1 tunnel cut off"), "{said}");
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn what_makes_no_sense_is_an_error() {
    let place = Place::new();
    fs::write(place.path("bad"), "ada:s3cret\ns3cret").expect("a file");
    fs::write(place.path("empty"), "# nobody\n").expect("a file");
    let hashed = run(peer("openssl", ["passwd", "-apr1", "-salt", "s3cret", "pass"]), b"").code(0);
    fs::write(place.path("hashed"), format!("# who may\nada:x\nbob:{}", hashed.text())).expect("a file");
    let port = free_port();
    let (itself, hop) = (format!("tcp://127.0.0.1:{port}"), format!("http://localhost:{port}"));
    let v6 = format!("tcp://[::1]:{port}");
    for (args, code, says) in [
        (&["--auth", "s3cret"][..], 2, "--auth is to be USER:PASSWORD"),
        (&["--user-file", &place.path("bad")], 1, "line 2 is not USER:PASSWORD"),
        (&["--user-file", &place.path("empty")], 1, "has no user"),
        (&["--user-file", &place.path("none")], 1, "No such file"),
        (
            &["--user-file", &place.path("hashed")],
            1,
            "line 3 has a hash (MD5, $apr1$) in place of the password",
        ),
        (&["--to", "http://a/x"], 2, "to no other"),
        (&["--to", "tpc://a:1"], 2, "unknown scheme"),
        (&["--host", "a"], 2, "--to <URI>"),
        (&["--to", "tcp://a:1", "--auth", "a:b"], 2, "cannot be used with"),
        (&["--listen", "tcp://127.0.0.1:0", "--tls-cert", "x"], 2, "--tls-cert has no use"),
        (&["--cacert", "x"], 2, "--cacert has no use"),
        (&["--listen", &itself, "--via", &hop], 2, "it would go on to itself"),
        (&["--listen", &itself, "--to", &hop], 2, "it would go on to itself"),
        (&["--listen", &format!("tcp://localhost:{port}"), "--to", &itself], 2, "it would go on to itself"),
        (&["--listen", &format!("tcp://localhost:{port}"), "--to", &v6], 2, "it would go on to itself"),
    ] {
        let ended = run(tuyau(["proxy"].iter().chain(args)), b"").code(code);
        assert!(
            ended.stderr.contains(says) && !ended.stderr.contains("s3cret"),
            "{args:?}: {}",
            ended.stderr
        );
    }
}

/// Whatever comes, the answer is a refusal or the end, and the next client is served.
#[test]
fn bytes_that_are_no_requests_do_no_harm() {
    let served = Served::new(false, &[]);
    served.write("a.txt", "still here");
    let (forward, at) = proxy(&[]);
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // A generator of little quality: what it makes is nothing in particular.
    let mut seed = 1_u32;
    let mut noise = |len: usize| -> Vec<u8> {
        let next = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        };
        (0..len).map(next).collect()
    };
    let starts: [&[u8]; 10] = [
        b"",
        b"\x05\x01\x00",
        b"\x16\x03\x01\x02\x00\x01",
        b"CONNECT ",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n",
        b"GET http://",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: ",
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        preface,
        &[preface, b"\0\0\0\x04\0\0\0\0\0"].concat(),
    ];
    for start in starts {
        for len in [0, 1, 9, 100, 20_000] {
            let bytes = [start, &noise(len)].concat();
            let mut stream = TcpStream::connect(&at).expect("it listens");
            stream.set_read_timeout(Some(LIMIT)).expect("a time");
            // It may be cut off before the last of it.
            let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
            let ended = stream.read_to_end(&mut Vec::new());
            let hangs = ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
            assert!(!hangs, "{}", start.escape_ascii());
        }
    }
    let url = format!("{}/a.txt", served.url);
    assert_eq!(curl(&["-x", &format!("http://{at}"), &url]), "still here");
    forward.signal(Signal::SIGTERM);
    let said = forward.end().code(0).stderr;
    assert!(!said.contains("panic"), "{said}");
}
