//! Handshakes that fail, and what one is told.

use tuyau_core::names::{HOST, PORT, RUNTIME};
use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, FlowErrorKind, Layer, Role};
use tuyau_tokio::{TCP, derivations, duplex, host, runtime};
use tuyau_ws::{HEADERS, PATH, Settings, WS, WSS, WsLayer, over};

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new().with(&RUNTIME, runtime())).expect("a context")
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.host = Some("test".into());
    settings.random = tuyau_ws::Random::new(|bytes| bytes.fill(7));
    settings
}

/// What `BwcHBwcHBwcHBwcHBwcHBw==`, the key of sixteen sevens, is to be answered with.
fn accept() -> String {
    tungstenite::handshake::derive_accept_key(b"BwcHBwcHBwcHBwcHBwcHBw==")
}

async fn read_head(flow: &mut Flow) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        flow.read_exact(&mut byte).await.expect("read");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// A client against a server that answers `response`: the request, and the result.
async fn client(settings: Settings, response: &[u8]) -> (String, Result<Flow, ConnectError>) {
    let (ours, mut theirs) = duplex();
    let layer = WsLayer::new(settings);
    let server = async {
        let request = read_head(&mut theirs).await;
        theirs.write_all(response).await.expect("write");
        theirs.shutdown().await.expect("shutdown");
        request
    };
    let cx = cx();
    let (result, request) = tokio::join!(layer.wrap(ours, Role::Client, &cx), server);
    (request, result)
}

/// A server against a client that sends `request`: the response, and the result.
async fn server(settings: Settings, request: &str) -> (String, Result<Flow, ConnectError>) {
    let (ours, mut theirs) = duplex();
    let layer = WsLayer::new(settings);
    let client = async {
        theirs.write_all(request.as_bytes()).await.expect("write");
        theirs.shutdown().await.expect("shutdown");
        let mut response = vec![0; 1000];
        let n = theirs.read(&mut response).await.unwrap_or(0);
        String::from_utf8_lossy(&response[..n]).into_owned()
    };
    let cx = cx();
    let (result, response) = tokio::join!(layer.wrap(ours, Role::Server, &cx), client);
    (response, result)
}

fn switching(headers: &str) -> Vec<u8> {
    format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n").into_bytes()
}

fn good(more: &str) -> Vec<u8> {
    switching(&format!(
        "upgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\nsec-websocket-accept: {}\r\n{more}",
        accept()
    ))
}

#[tokio::test]
async fn each_refusal_of_a_server_is_told_with_what_to_do() {
    let cases: &[(&str, ConnectErrorKind, &str, &str)] = &[
        (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"",
            ConnectErrorKind::Authentication,
            "401 Unauthorized",
            "Authorization",
        ),
        ("403 Forbidden", ConnectErrorKind::Refused, "403 Forbidden", "ORIGIN"),
        ("404 Not Found", ConnectErrorKind::NotFound, "404 Not Found", "PATH"),
        (
            "302 Found\r\nLocation: https://b.test/\u{1b}[2J",
            ConnectErrorKind::Protocol,
            "the peer's HTTP is broken",
            "WebSocket peer",
        ),
        (
            "302 Found\r\nLocation: https://b.test/ws",
            ConnectErrorKind::Refused,
            "302 Found",
            "redirects to https://b.test/ws, which is not followed",
        ),
        ("200 OK", ConnectErrorKind::Protocol, "200 OK", "not a WebSocket endpoint"),
        ("426 Upgrade Required", ConnectErrorKind::Protocol, "426", "version"),
        ("502 Bad Gateway", ConnectErrorKind::Unreachable, "502 Bad Gateway", "does not reach"),
        ("500 Internal Server Error", ConnectErrorKind::Refused, "500", "log"),
    ];
    for (status, kind, what, hint) in cases {
        let (_, result) = client(settings(), format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
        let error = result.expect_err(status);
        assert_eq!(error.kind(), *kind, "{status}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(error.hint().is_some_and(|text| text.contains(hint)), "{status}: {:?}", error.hint());
    }
}

#[tokio::test]
async fn a_server_that_gets_it_wrong_is_told_from_one_that_refuses() {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let cases: &[(Vec<u8>, &str)] = &[
        (switching("Upgrade: h2c\r\nConnection: Upgrade\r\n"), "but not to WebSocket"),
        (switching("Upgrade: websocket\r\n"), "but not to WebSocket"),
        (switching(upgrade), "Sec-WebSocket-Accept is wrong"),
        (switching(&format!("{upgrade}Sec-WebSocket-Accept: AAAA\r\n")), "Sec-WebSocket-Accept is wrong"),
        (good("Sec-WebSocket-Protocol: chat\r\n"), "chose the subprotocol `chat`, we asked for none"),
        (good("Sec-WebSocket-Extensions: permessage-deflate\r\n"), "extension `permessage-deflate`"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "does not speak HTTP: it says \"SSH-2.0-OpenSSH_9.2\""),
        (vec![0x15, 3, 3, 0, 2, 2, 70], "the peer speaks TLS"),
        (b"HTTP/1.1 nonsense\r\n\r\n".to_vec(), "the peer's HTTP is broken"),
        (
            [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(4000)].concat(),
            "a head of more than 16384 bytes",
        ),
    ];
    for (response, what) in cases {
        let (_, result) = client(settings(), response).await;
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ConnectErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(what), "{error}, not {what}");
        assert!(error.hint().is_some(), "{error}");
    }
    for (response, what) in [(&b""[..], "hung up instead of answering"), (b"HTTP/1.1 1", "in the middle")] {
        let (_, result) = client(settings(), response).await;
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ConnectErrorKind::Closed);
        assert!(error.to_string().contains(what), "{error}");
    }
    let mut asking = settings();
    asking.subprotocol = Some("binary".into());
    let (_, result) = client(asking, &good("")).await;
    let error = result.expect_err("it is silent about the subprotocol");
    assert!(error.to_string().contains("chose the subprotocol none, we asked for `binary`"), "{error}");
}

#[tokio::test]
async fn the_request_is_as_the_settings_say() {
    let mut settings = settings();
    settings.path = Some("/ws?token=1".into());
    settings.origin = Some("https://a.test".into());
    settings.headers = [("Authorization".to_owned(), "Bearer x".to_owned())].into();
    settings.subprotocol = Some("binary".into());
    let (request, result) = client(settings, &good("Sec-WebSocket-Protocol: binary\r\n")).await;
    result.expect("handshake");
    assert_eq!(
        request,
        "GET /ws?token=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw==\r\nSec-WebSocket-Version: 13\r\n\
         Origin: https://a.test\r\nSec-WebSocket-Protocol: binary\r\nAuthorization: Bearer x\r\n\r\n"
    );
}

#[tokio::test]
async fn bytes_behind_the_handshake_are_read() {
    let mut response = good("");
    response.extend_from_slice(&[0x82, 3]);
    response.extend_from_slice(b"abc");
    response.extend_from_slice(&[0x88, 0]);
    let (_, result) = client(settings(), &response).await;
    let mut flow = result.expect("handshake");
    let mut all = [0; 8];
    assert_eq!(flow.read(&mut all).await.expect("read"), 3);
    assert_eq!(&all[..3], b"abc");
    assert_eq!(flow.read(&mut all).await.expect("read"), 0);
}

const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn a_server_answers_what_it_does_not_take() {
    let mut strict = settings();
    strict.path = Some("/ws".into());
    strict.origin = Some("https://a.test".into());
    strict.subprotocol = Some("binary".into());
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
    let cases = [
        (format!("POST /ws HTTP/1.1\r\n{UPGRADE}\r\n"), "405 "),
        (get("/other", UPGRADE), "404 "),
        (get("/ws", "Host: a\r\n"), "426 "),
        (get("/ws", &UPGRADE.replace("13", "8")), "426 "),
        (get("/ws", &UPGRADE.replace("dGhl", "")), "400 "),
        (get("/ws", &format!("{UPGRADE}Origin: https://evil.test\r\n")), "403 "),
        (get("/ws", &format!("{UPGRADE}Sec-WebSocket-Protocol: chat, soap\r\n")), "400 "),
    ];
    for (request, status) in cases {
        let (response, result) = server(strict.clone(), &request).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}")), "{response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
        let error = result.expect_err(status);
        assert!(error.to_string().contains("the client was refused"), "{error}");
    }
    let request =
        get("/ws", &format!("{UPGRADE}Origin: https://a.test\r\nSec-WebSocket-Protocol: chat, binary\r\n"));
    let (response, result) = server(strict, &request).await;
    result.expect("handshake");
    assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
    assert!(response.contains("Sec-WebSocket-Protocol: binary\r\n"), "{response}");
}

#[tokio::test]
async fn garbage_is_not_answered_by_a_server() {
    let tls = String::from_utf8(vec![0x16, 3, 1, 2, 0]).expect("text");
    for (garbage, what) in [
        (tls.as_str(), "the client speaks TLS"),
        ("EHLO a\r\n\r\n", "is broken"),
        ("\u{0}\u{1}", "does not speak HTTP"),
    ] {
        let (response, result) = server(settings(), garbage).await;
        assert_eq!(response, "");
        let error = result.expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// Frames that a server sends, and how reading ends.
async fn reading(frames: &[u8]) -> (Vec<u8>, Option<(FlowErrorKind, String)>) {
    let mut response = good("");
    response.extend_from_slice(frames);
    let (_, result) = client(settings(), &response).await;
    let mut flow = result.expect("handshake");
    let (mut all, mut part) = (Vec::new(), [0; 100]);
    loop {
        match flow.read(&mut part).await {
            Ok(0) => return (all, None),
            Ok(n) => all.extend_from_slice(&part[..n]),
            Err(error) => {
                let again = flow.read(&mut part).await.expect_err("an error stays");
                assert_eq!(again.kind(), error.kind());
                return (all, Some((error.kind(), format!("{error:?}"))));
            }
        }
    }
}

#[tokio::test]
async fn what_breaks_the_protocol_is_an_error_of_its_own() {
    use FlowErrorKind::{InvalidData, Reset, UnexpectedEof};
    let close = |code: u16, reason: &str| {
        [&[0x88, 2 + reason.len() as u8][..], &code.to_be_bytes(), reason.as_bytes()].concat()
    };
    let cases: Vec<(Vec<u8>, FlowErrorKind, &str)> = vec![
        (vec![0x81, 1, b'a'], InvalidData, "text frames"),
        (vec![0xc2, 1, b'a'], InvalidData, "extension"),
        (vec![0x82, 0x81, 0, 0, 0, 0, b'a'], InvalidData, "masked"),
        (vec![0x80, 1, b'a'], InvalidData, "had not begun"),
        (vec![0x02, 0, 0x82, 0], InvalidData, "in the middle of another"),
        (vec![0x09, 0], InvalidData, "in pieces"),
        (vec![0x89, 126, 0, 126], InvalidData, "too long"),
        (vec![0x83, 0], InvalidData, "WebSocket"),
        (vec![0x8b, 0], InvalidData, "WebSocket"),
        (vec![0x88, 1, 3], InvalidData, "half a status code"),
        (close(1005, ""), InvalidData, "status code 1005"),
        (close(999, ""), InvalidData, "status code 999"),
        (vec![0x88, 3, 3, 0xe8, 0xff], InvalidData, "no text"),
        (close(1011, "out of\u{1b} order"), Reset, "1011 (it failed): out of\\u{1b} order"),
        (close(1008, ""), Reset, "against its policy"),
        (close(4001, "bye"), Reset, "4001"),
        (vec![0x82, 5, b'a'], UnexpectedEof, "without a WebSocket Close"),
        (vec![0x82], UnexpectedEof, "without a WebSocket Close"),
        (vec![], UnexpectedEof, "without a WebSocket Close"),
    ];
    for (frames, kind, what) in cases {
        let (_, end) = reading(&frames).await;
        let (its_kind, text) = end.unwrap_or_else(|| panic!("{frames:x?} ends well"));
        assert_eq!(its_kind, kind, "{frames:x?}: {text}");
        assert!(text.contains(what), "{text}, not {what}");
    }
    // In fragments, with control frames between, and empty ones: that is allowed.
    let frames =
        [&[0x02, 1, b'a', 0x89, 1, b'p', 0x00, 0, 0x8a, 0, 0x80, 1, b'b', 0x82, 0][..], &close(1001, "away")]
            .concat();
    assert_eq!(reading(&frames).await, (b"ab".to_vec(), None));
}

#[tokio::test]
async fn pings_are_answered_and_several_slices_are_one_frame_in_one_write() {
    let (ours, mut theirs) = duplex();
    let layer = WsLayer::new(settings());
    let cx = cx();
    let peer = async {
        read_head(&mut theirs).await;
        theirs.write_all(&good("")).await.expect("write");
        theirs.write_all(&[0x89, 2, b'h', b'i', 0x82, 1, b'x']).await.expect("write");
        theirs
    };
    let (flow, mut theirs) = tokio::join!(layer.wrap(ours, Role::Client, &cx), peer);
    let mut flow = flow.expect("handshake");
    assert_eq!(flow.read(&mut [0; 9]).await.expect("read"), 1);
    let mut pong = [0; 8];
    theirs.read_exact(&mut pong).await.expect("read");
    assert_eq!(pong, [0x8a, 0x82, 7, 7, 7, 7, b'h' ^ 7, b'i' ^ 7]);

    let n = std::future::poll_fn(|cx| flow.poll_write(cx, &[b"ab", b"", b"cd"])).await.expect("write");
    assert_eq!(n, 4);
    let mut frame = [0; 30];
    let n = theirs.read(&mut frame).await.expect("read");
    assert_eq!(frame[..n], [0x82, 0x84, 7, 7, 7, 7, b'a' ^ 7, b'b' ^ 7, b'c' ^ 7, b'd' ^ 7]);
}

/// A reader that answers pings waits for the same as a writer of another task: neither may be forgotten.
#[tokio::test]
async fn a_pong_that_waits_does_not_take_the_writers_turn() {
    let (ours, mut theirs) = duplex();
    let layer = WsLayer::new(settings());
    let cx = cx();
    let peer = async {
        read_head(&mut theirs).await;
        theirs.write_all(&good("")).await.expect("write");
        theirs
    };
    let (flow, mut theirs) = tokio::join!(layer.wrap(ours, Role::Client, &cx), peer);
    let (mut read, mut write) = tokio::io::split(flow.expect("handshake"));
    const N: usize = 2_000_000;
    let writer = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        write.write_all(&vec![1; N]).await.expect("write");
        write.flush().await.expect("flush");
    });
    // Nobody reads: the writer is stuck soon.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!writer.is_finished());
    let reader = tokio::spawn(async move {
        use tokio::io::AsyncReadExt;
        read.read_u8().await.expect("read")
    });
    theirs.write_all(&[0x89, 1, b'a', 0x89, 1, b'b']).await.expect("write");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let drain = async {
        let (mut payload, mut pongs) = (0, Vec::new());
        while payload < N || pongs.last() != Some(&(b'b' ^ 7)) {
            let mut header = [0; 2];
            theirs.read_exact(&mut header).await.expect("read");
            let mut length = usize::from(header[1] & 0x7f);
            if length >= 126 {
                let mut longer = vec![0; if length == 126 { 2 } else { 8 }];
                theirs.read_exact(&mut longer).await.expect("read");
                length = longer.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            }
            let mut rest = vec![0; 4 + length];
            theirs.read_exact(&mut rest).await.expect("read");
            match header[0] {
                0x82 => payload += length,
                0x8a => pongs.extend_from_slice(&rest[4..]),
                other => panic!("{other:x}"),
            }
        }
        theirs.write_all(&[0x82, 1, 9]).await.expect("write");
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), drain).await.expect("somebody was forgotten");
    writer.await.expect("writer");
    assert_eq!(reader.await.expect("reader"), 9);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_silent_is_asked_and_then_given_up() {
    let mut settings = settings();
    settings.ping = Some(std::time::Duration::from_secs(20));
    let (ours, mut theirs) = duplex();
    let layer = WsLayer::new(settings);
    let cx = cx();
    let peer = async {
        read_head(&mut theirs).await;
        theirs.write_all(&good("")).await.expect("write");
        theirs
    };
    let (flow, mut theirs) = tokio::join!(layer.wrap(ours, Role::Client, &cx), peer);
    let mut flow = flow.expect("handshake");
    let started = tokio::time::Instant::now();
    let reader = tokio::spawn(async move { flow.read(&mut [0; 9]).await });
    for _ in 0..3 {
        let mut ping = [0; 6];
        theirs.read_exact(&mut ping).await.expect("a ping");
        assert_eq!(ping[..2], [0x89, 0x80]);
        theirs.write_all(&[0x8a, 0]).await.expect("a pong");
    }
    assert_eq!(started.elapsed().as_secs(), 60);
    let error = reader.await.expect("reader").expect_err("nobody is there");
    assert_eq!(error.kind(), FlowErrorKind::TimedOut);
    assert_eq!(started.elapsed().as_secs(), 100);
}

#[tokio::test]
async fn pings_want_a_clock_and_a_client_wants_a_name() {
    let mut with_pings = settings();
    with_pings.ping = Some(std::time::Duration::from_secs(20));
    let cx = ConnectCx::new(&Context::new()).expect("a context");
    let (ours, _theirs) = duplex();
    let error = WsLayer::new(with_pings).wrap(ours, Role::Client, &cx).await.expect_err("no clock");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    let (ours, _theirs) = duplex();
    let error = WsLayer::new(Settings::default()).wrap(ours, Role::Client, &cx).await.expect_err("no name");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test]
async fn a_bad_setting_sends_no_packet_and_shows_no_secret() {
    let cx = cx();
    let mut listener =
        host().listen(&tuyau_core::Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let tuyau_core::Target::Addr(at) = listener.local() else { panic!("an address") };
    let ctx = derivations(Context::new()).with(&HOST, "127.0.0.1".into()).with(&PORT, at.port());
    let ctx = ctx.with(&PATH, "/ws?token=hunter2".into());
    let bad = ctx.clone().with(&HEADERS, [("Cookie".to_owned(), "hunter2\n".to_owned())].into());
    let error = over(bad, &WS, &TCP).offer(&WS).resolve().await.expect_err("taken");
    assert!(format!("{error:#}").contains("the header `Cookie` of a WebSocket"), "{error:#}");
    assert!(!format!("{error:#} {error:?}").contains("hunter2"));

    // And over what is clear, `wss` does not begin: the peer sees a connection, and not a byte.
    let wss = over(ctx, &WSS, &TCP).offer(&WSS);
    let (result, accepted) = tokio::join!(wss.resolve(), listener.accept());
    let error = result.expect_err("in clear text");
    assert!(format!("{error:#}").contains("not encrypted and authenticated"), "{error:#}");
    assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    let mut flow = accepted.expect("accept").finish().await.expect("a flow");
    assert_eq!(flow.read(&mut [0; 9]).await.expect("read"), 0, "it was the one connection, and empty");
}
