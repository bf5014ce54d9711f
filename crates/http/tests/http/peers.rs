//! Real peers: curl, nghttp, h2load, nginx, python's h2.

use std::process::Command;

use http::Version;
use tokio::task::spawn_blocking;
use tuyau_core::Context;

use tuyau_http::{Client, Limit, Limits, ServeErrorKind, Server, Versions};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{self, Ended, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{Backend, ROOTS, Roots, TLS};
use tuyau_tokio::{TCP, derivations};

use crate::support::{Below, Stack, router, run};

const CLEAR: Stack = Stack { below: Below::Tcp, tls: None };

async fn finishes(command: Command) -> Ended {
    spawn_blocking(move || peers::run(command, b"")).await.unwrap()
}

fn curl(args: &[&str]) -> Command {
    let mut command = peers::command("curl", "curl");
    command.args(["--silent", "--show-error", "--max-time", "30"]).args(args);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_over_each_version() {
    let facts = "\n%{http_version}";
    for (tls, version, args, said) in [
        (None, Versions::All, &["--http1.1"][..], "HTTP/1.1 Some(\"main\") clear none\n1.1"),
        (None, Versions::All, &["--http1.0"], "HTTP/1.0 Some(\"main\") clear none\n1"),
        (None, Versions::All, &["--http2-prior-knowledge"], "HTTP/2.0 Some(\"main\") clear none\n2"),
        // It asks for an upgrade to h2c, which RFC 9113 does not have any more: HTTP/1.1 it stays.
        (None, Versions::All, &["--http2"], "HTTP/1.1 Some(\"main\") clear none\n1.1"),
        (Some(Backend::Rustls), Versions::All, &["-k"], "HTTP/2.0 Some(\"main\") encrypted h2\n2"),
        (Some(Backend::OpenSsl), Versions::All, &["-k"], "HTTP/2.0 Some(\"main\") encrypted h2\n2"),
        (
            Some(Backend::Rustls),
            Versions::All,
            &["-k", "--http1.1"],
            "HTTP/1.1 Some(\"main\") encrypted http/1.1\n1.1",
        ),
    ] {
        let running = run(Stack { below: Below::Tcp, tls }, version, Server::new(router())).await;
        let mut command = curl(args);
        command.args(["-w", facts, &running.url("/facts")]);
        let ended = finishes(command).await.code(0);
        assert_eq!(ended.text().trim_end(), said, "{args:?}");
        // A body with 100-continue (curl waits for it from 1 MiB on), and one in chunks.
        let place = Place::new();
        std::fs::write(place.path("large"), vec![b'x'; 2_000_000]).unwrap();
        for how in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
            if args == ["--http1.0"] && !how.is_empty() {
                continue; // which it does not have
            }
            let mut command = curl(args);
            command.args(how).args(["-H", "Expect: 100-continue", "--data-binary"]);
            command.arg(format!("@{}", place.path("large"))).arg(running.url("/length"));
            assert_eq!(finishes(command).await.code(0).text(), "2000000", "{args:?} {how:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_last_response_whole_and_keeps_connections() {
    let running = run(CLEAR, Versions::All, Server::new(router())).await;
    let mut command = curl(&["-w", "%{num_connects}\n", "-o", "/dev/null", "-o", "/dev/null"]);
    command.args([running.url("/"), running.url("/facts")]);
    assert_eq!(finishes(command).await.code(0).text(), "1\n0\n");
    let report = running.end().await;
    assert_eq!((report.connections.accepted, report.requests), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nghttp_and_h2load() {
    let running = run(CLEAR, Versions::All, Server::new(router())).await;
    let mut nghttp = peers::command("nghttp", "nghttp2-client");
    nghttp.args(["-v", &running.url("/facts")]);
    let ended = finishes(nghttp).await.code(0);
    assert!(ended.text().contains("HTTP/2.0 Some(\"main\") clear none"), "{}", ended.text());
    let mut load = peers::command("h2load", "nghttp2-client");
    load.args(["-n", "2000", "-c", "10", "-m", "20", &running.url("/")]);
    let ended = finishes(load).await.code(0);
    assert!(ended.text().contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{}", ended.text());
    let mut load = peers::command("h2load", "nghttp2-client");
    load.args(["--h1", "-n", "2000", "-c", "10", &running.url("/")]);
    let ended = finishes(load).await.code(0);
    assert!(ended.text().contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{}", ended.text());
    let report = running.end().await;
    assert_eq!((report.requests, report.failed, report.refused), (4001, 0, 0), "{report}");
}

/// Until then the requests come as fast as they can; none that was accepted is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_end_under_load_loses_no_response() {
    let running = run(CLEAR, Versions::All, Server::new(router())).await;
    let url = running.url("/");
    let mut load = peers::command("h2load", "nghttp2-client");
    load.args(["--h1", "-D", "2", "-c", "8", &url]);
    let loading = tokio::spawn(finishes(load));
    // It is under way as soon as it has connected.
    let client = running.client();
    while client.get(&url).send().await.unwrap().status() != 200 {}
    for _ in 0..200 {
        client.get(&url).send().await.unwrap().into_body().bytes().await.unwrap();
    }
    drop(client);
    let report = running.end().await;
    assert_eq!((report.connections.aborted, report.failed, report.refused), (0, 0, 0), "{report}");
    let _ = loading.await.unwrap();
}

/// With `/up/` in front of the port `up`; `more` are further servers.
fn nginx(place: &Place, port: u16, tls_port: u16, up: u16, more: &str) -> Peer {
    let ca = Ca::new("CA");
    ca.file(place, "ca.pem");
    let (chain, key) = ca.leaf(&["svc.test"]).files(place, "srv");
    std::fs::write(place.path("hello.txt"), "hello from nginx").unwrap();
    let dir = place.dir().display();
    let servers = format!(
        "client_max_body_size 0; gzip on; gzip_min_length 1; gzip_types text/plain;
         server {{
             listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl http2;
             ssl_certificate {chain}; ssl_certificate_key {key};
             root {dir};
             location /up/ {{ proxy_pass http://127.0.0.1:{up}/; proxy_http_version 1.1;
                 proxy_set_header Connection \"\"; proxy_request_buffering off; }}
             location /moved {{ return 301 /hello.txt; }}
         }}
         {more}"
    );
    peers::nginx(place, &servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_as_server_and_as_reverse_proxy_in_front() {
    let running = run(CLEAR, Versions::All, Server::new(router())).await;
    let up: u16 = running.url.rsplit(':').next().unwrap().parse().unwrap();
    let (place, port, tls_port) = (Place::new(), free_port(), free_port());
    let _nginx = nginx(&place, port, tls_port, up, "");
    let ctx = derivations(Context::new());
    let clear = Client::new(ctx.clone().offer(&TCP));
    let tls = tuyau_tls::over(ctx, &TLS, &TCP)
        .with(&ROOTS, Roots::File(place.path("ca.pem").into()))
        .with(&tuyau_core::names::SERVER_NAME, "svc.test".into())
        .offer(&TLS);
    let tls = Client::new(tls);
    for (client, base, version) in [
        (clear, format!("http://127.0.0.1:{port}"), Version::HTTP_11),
        (tls, format!("https://127.0.0.1:{tls_port}"), Version::HTTP_2),
    ] {
        let response = client.get(format!("{base}/hello.txt")).send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        assert_eq!(response.into_body().text().await.unwrap(), "hello from nginx", "decoded from gzip");
        let moved = client.get(format!("{base}/moved")).send().await.unwrap();
        assert_eq!(moved.status(), 200);
        for _ in 0..20 {
            let proxied = client
                .get(format!("{base}/up/facts"))
                .send()
                .await
                .unwrap()
                .into_body()
                .text()
                .await
                .unwrap();
            assert_eq!(proxied, "HTTP/1.1 Some(\"main\") clear none");
        }
        let large = vec![b'x'; 5_000_000];
        // One way after the other: nginx reads no answer while it has request left to send.
        let sent = client.post(format!("{base}/up/length")).body(large).send().await.unwrap();
        assert_eq!(sent.into_body().text().await.unwrap(), "5000000");
        let received = client.get(format!("{base}/up/large")).send().await.unwrap();
        assert_eq!(received.into_body().bytes().await.unwrap().len(), 5_000_000);
        let missing = client.get(format!("{base}/nothing")).send().await.unwrap();
        assert_eq!(missing.status(), 404);
    }
    assert_eq!(running.end().await.failed, 0);
}

/// What goes along when nginx sends elsewhere: cookies and credentials to whom they belong, bodies where the method stays.
#[cfg(feature = "cookies")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_leads_elsewhere() {
    let (place, port, tls_port) = (Place::new(), free_port(), free_port());
    let (here, there) = (free_port(), free_port());
    let told = "return 200 \"$request_method $http_authorization $http_cookie $http_expect $content_length\"";
    let servers = format!(
        "server {{ listen 127.0.0.1:{here}; location /told {{ {told}; }}
            location /set {{ add_header Set-Cookie \"a=1; Path=/\"; return 302 /told; }}
            location /away {{ return 307 http://localhost:{there}/told; }}
            location /see {{ return 303 /told; }} location /stay {{ return 308 /told; }} }}
         server {{ listen 127.0.0.1:{there}; location /told {{ {told}; }} }}"
    );
    let _nginx = nginx(&place, port, tls_port, 1, &servers);
    let client = Client::new(derivations(Context::new()).offer(&TCP)).cookies(tuyau_http::Cookies::default());
    let url = |path: &str| format!("http://ada:pass@127.0.0.1:{here}{path}");
    let said = async |request: tuyau_http::RequestBuilder| {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().text().await.unwrap()
    };
    assert_eq!(said(client.get(url("/set"))).await, "GET Basic YWRhOnBhc3M= a=1  ");
    assert_eq!(said(client.get(url("/away"))).await, "GET    ", "another origin");
    assert_eq!(said(client.post(url("/see")).body("body")).await, "GET Basic YWRhOnBhc3M= a=1  ");
    assert_eq!(said(client.post(url("/stay")).body("body")).await, "POST Basic YWRhOnBhc3M= a=1  4");
    // nginx wants no body where it returns at once, and says so.
    let expects = client.post(url("/told")).body("body").expect_continue();
    assert_eq!(said(expects).await, "POST Basic YWRhOnBhc3M= a=1 100-continue 4");
}

/// Forms, as Python's libraries read them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forms_that_python_reads() {
    let script = r#"
import email, http.server, urllib.parse
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        kind, length = self.headers["content-type"], self.headers["content-length"]
        if length is None:
            body = b""
            while (size := int(self.rfile.readline(), 16)):
                body += self.rfile.read(size)
                self.rfile.readline()
        else:
            body = self.rfile.read(int(length))
        if kind.startswith("multipart/"):
            parts = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body).get_payload()
            said = [(p.get_param("name", header="content-disposition"), p.get_filename(), p.get_payload(decode=True)) for p in parts]
        else:
            said = urllib.parse.parse_qsl(body.decode())
        said = repr(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", len(said))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port)
server.serve_forever()
"#;
    let mut python = Peer::spawn(&mut peers::python("email", "python3", script));
    let url = format!("http://127.0.0.1:{}/", python.line(""));
    let client = Client::new(derivations(Context::new()).offer(&TCP));
    let fields = [("name", "Ada & Bob"), ("umlaut", "ä=ö")];
    let response = client.post(&url).form(fields).send().await.unwrap();
    let said = response.into_body().text().await.unwrap();
    assert_eq!(said, "[('name', 'Ada & Bob'), ('umlaut', 'ä=ö')]");
    let form = tuyau_http::Multipart::new().text("name", "Ada").file(
        "file",
        "a b.bin",
        "application/octet-stream",
        vec![0, 255],
    );
    let response = client.post(&url).multipart(form).send().await.unwrap();
    let said = response.into_body().text().await.unwrap();
    assert_eq!(said, r"[('name', None, b'Ada'), ('file', 'a b.bin', b'\x00\xff')]");
}

/// A client that is not ours, with frames that are not by the rules.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_pythons_hyperframe() {
    peers::require("python3", "python3 python3-h2");
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let mut limits = Limits::default();
    limits.h2_idle = std::time::Duration::from_secs(1);
    // It does not answer the PING that goes with GOAWAY.
    limits.write_idle = std::time::Duration::from_secs(1);
    let server = Server::new(router()).limits(limits).on_failure(move |failure| drop(failed.send(failure)));
    let (listener, _, port) = crate::support::reach(CLEAR, &[]).await;
    let serving = tokio::spawn(server.listen(listener).serve());
    let script = r#"
import socket, sys
import h2.connection, h2.events, h2.config
from hyperframe.frame import *

def connected():
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    c = h2.connection.H2Connection()
    c.initiate_connection()
    s.sendall(c.data_to_send())
    return s, c

def request(s, c, path, body=None):
    stream = c.get_next_available_stream_id()
    method = "GET" if body is None else "POST"
    c.send_headers(stream, [(":method", method), (":path", path), (":scheme", "http"), (":authority", "a")], end_stream=body is None)
    s.sendall(c.data_to_send())
    if body is not None:
        for at in range(0, len(body), 10000):
            c.send_data(stream, body[at:at + 10000])
            s.sendall(c.data_to_send())
        c.end_stream(stream)
        s.sendall(c.data_to_send())
    return stream

def answer(s, c, stream):
    body = b""
    while True:
        data = s.recv(65536)
        assert data, "closed"
        for event in c.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                body += event.data
                c.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                s.sendall(c.data_to_send())
                return body
        s.sendall(c.data_to_send())

def end(s):
    frames = b""
    while True:
        try:
            data = s.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            break
        frames += data
    kinds = []
    while len(frames) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(frames[:9]))
        if len(frames) < 9 + length: break
        frame.parse_body(memoryview(frames[9:9 + length]))
        if isinstance(frame, GoAwayFrame): kinds.append(frame.error_code)
        frames = frames[9 + length:]
    return kinds

s, c = connected()
assert answer(s, c, request(s, c, "/")) == b"hello"
assert answer(s, c, request(s, c, "/length", b"x" * 60000)) == b"60000"
# Nothing more: GOAWAY, no error, after the idle time.
assert end(s)[-1] == 0
# A frame on a stream that was never opened.
s, c = connected()
s.sendall(WindowUpdateFrame(5, window_increment=1).serialize())
assert end(s)[-1] == 1
# Headers on an even stream; a window that overflows; a setting out of range; a PING of a stream.
import hpack
block = hpack.Encoder().encode([(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
for frame, code in [
    (HeadersFrame(2, block, flags=["END_HEADERS", "END_STREAM"]).serialize(), 1),
    (WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(), 3),
    # RFC 9113 section 6.5.2 has FLOW_CONTROL_ERROR for it; the h2 crate says PROTOCOL_ERROR.
    (SettingsFrame(0, settings={4: 2**31}).serialize(), 1),
    (b"\0\0\x08\x06\0\0\0\0\1" + b"x" * 8, 1),
    # And section 6.5 FRAME_SIZE_ERROR for this one.
    (b"\0\0\x05\x04\0\0\0\0\0" + b"x" * 5, 1),
    (b"\xff\xff\xff\0\0\0\0\0\1", 6),
]:
    s, c = connected()
    s.sendall(frame)
    got = end(s)
    assert got and got[-1] == code, (frame, got, code)
# A flood.
s, c = connected()
flood = PingFrame(0, b"x" * 8).serialize() * 1000
try:
    for _ in range(100): s.sendall(flood)
    got = end(s)
except ConnectionError:
    got = []
assert got in ([], [11]), got
print("done")
"#;
    let mut command = peers::command("/usr/bin/python3", "python3 python3-h2");
    command.args(["-c", script, &port.to_string()]);
    assert_eq!(finishes(command).await.code(0).text().trim_end(), "done");
    let mut limits = Vec::new();
    while let Ok(tuyau_http::Failure::Connection { error, .. }) = failures.try_recv() {
        limits.push(error.kind().clone());
    }
    assert!(limits.contains(&ServeErrorKind::Limit(Limit::H2ControlFrames)), "{limits:?}");
    assert!(limits.contains(&ServeErrorKind::Protocol), "{limits:?}");
    serving.abort();
}
