//! The HTTP CONNECT server, by its own client, by curl, and by those who don't behave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tuyau_core::names::{PEER, POLICY};
use tuyau_core::{ConnectErrorKind, Context, Policy};
use tuyau_proxy::{Credentials, HttpConnect, HttpConnectServer, Socks5};
use tuyau_testing::dead_port;
use tuyau_testing::peers::{Ended, command, microsocks, run};
use tuyau_tokio::{TCP, derivations, duplex, serve};

use crate::support::{all, answers, assert_echoes, echoing, embedded, listening, local, text, to, web};

fn server() -> HttpConnectServer {
    HttpConnectServer::new(derivations(Context::new()).offer(&TCP)).expect("a runtime")
}

fn me() -> Credentials {
    Credentials::new("me", "se:cret")
}

fn curl(proxy: &str, port: u16) -> Ended {
    let mut curl = command("curl", "curl");
    let url = format!("http://localhost:{port}/");
    curl.args(["-sS", "--noproxy", "", "--proxytunnel", "-x", proxy, &url]);
    run(curl, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_it() {
    let (listener, port) = listening().await;
    tokio::spawn(serve(listener, web).into_future());
    let open = embedded(server()).await;
    let closed = embedded(server().with_user(Credentials::new("other", "x")).with_user(me())).await;
    let nobody = dead_port();
    tokio::task::spawn_blocking(move || {
        for proxy in [format!("http://127.0.0.1:{open}"), format!("http://me:se%3Acret@127.0.0.1:{closed}")] {
            assert_eq!(curl(&proxy, port).code(0).text(), "hello\n");
        }
        // CURLE_COULDNT_CONNECT or CURLE_RECV_ERROR, by version; which status it was is said in all.
        for (proxy, port, status) in [
            (format!("http://127.0.0.1:{open}"), nobody, "502"),
            (format!("http://127.0.0.1:{closed}"), port, "407"),
            (format!("http://me:wrong@127.0.0.1:{closed}"), port, "407"),
        ] {
            let ended = curl(&proxy, port);
            assert!(ended.stderr.contains(status), "{}", ended.stderr);
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn it_connects_through_any_net() {
    let (proxy, port) = (microsocks(None), echoing().await);
    let ctx = local(proxy.port()).via(Box::new(Socks5::new()));
    let embedded = embedded(HttpConnectServer::new(ctx).unwrap()).await;
    let ctx = to(local(embedded).via(Box::new(HttpConnect::new())), "localhost", port);
    assert_echoes(&mut ctx.resolve().await.unwrap().into_flow()).await;
}

#[tokio::test]
async fn what_it_does_not_do_it_refuses_by_status() {
    use ConnectErrorKind::{Closed, NotFound, Policy as Forbidden, Protocol, Refused, Unsupported};
    let refused = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", dead_port());
    let long = format!("CONNECT a:1 HTTP/1.1\r\nA: {}", "a".repeat(20_000));
    let many = format!("CONNECT a:1 HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(129));
    for (says, answer, kind) in [
        (&refused[..], "502 Bad Gateway", Refused),
        ("CONNECT no-such-name-at.invalid:80 HTTP/1.1\r\nHost: x\r\n\r\n", "502 Bad Gateway", NotFound),
        ("CONNECT 127.0.0.2:80 HTTP/1.1\r\n\r\n", "403 Forbidden", Forbidden),
        ("CONNECT a_b:65536 HTTP/1.1\r\n\r\n", "400 Bad Request", Protocol),
        ("CONNECT a_b:+1 HTTP/1.1\r\n\r\n", "400 Bad Request", Protocol),
        ("CONNECT :1 HTTP/1.1\r\n\r\n", "400 Bad Request", Protocol),
        ("CONNECT name HTTP/1.1\r\n\r\n", "400 Bad Request", Protocol),
        ("CONNECT http://a:1/ HTTP/1.1\r\n\r\n", "400 Bad Request", Protocol),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "405 Method Not Allowed", Unsupported),
        ("\x05\x01\x00", "400 Bad Request", Protocol),
        ("SSH-2.0-x\r\n", "400 Bad Request", Protocol),
        (&long, "431 Request Header Fields Too Large", Protocol),
        (&many, "400 Bad Request", Protocol),
        ("CONNECT a:1 HTTP/1.1\r\n", "", Closed),
        ("", "", Closed),
    ] {
        let server = server().allow(|target| target.to_string() != "127.0.0.2:80");
        let (got, got_kind, text) = answers(server, says.as_bytes()).await;
        let starts = if answer.is_empty() { String::new() } else { format!("HTTP/1.1 {answer}\\r\\n") };
        assert!(got.starts_with(&starts) && got.is_empty() == answer.is_empty(), "{got}: {text}");
        assert_eq!(got_kind, kind, "{text}");
    }
}

#[tokio::test]
async fn it_lets_in_only_whom_it_knows() {
    let basic = |plain: &str| format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(plain));
    for line in [
        String::new(),
        basic("me:wrong"),
        basic("me:se:creT"),
        basic("Me:se:cret"),
        basic("me"),
        "Proxy-Authorization: Basic !\r\n".into(),
        format!("Proxy-Authorization: Digest {}\r\n", STANDARD.encode("me:se:cret")),
        // That is for whom the tunnel leads to.
        format!("Authorization: Basic {}\r\n", STANDARD.encode("me:se:cret")),
    ] {
        let says = format!("CONNECT localhost:1 HTTP/1.1\r\n{line}\r\n");
        let (got, kind, text) = answers(server().with_user(me()), says.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 407 ") && got.contains("Proxy-Authenticate: Basic"), "{got}");
        assert_eq!(kind, ConnectErrorKind::Authentication);
        assert!(!text.to_lowercase().contains("cret"), "{text}");
    }
    assert!(!format!("{:?}", server().with_user(me())).contains("cret"));
    let port = embedded(server().with_user(me())).await;
    let hop = HttpConnect::new().with_credentials(me());
    let echo = echoing().await;
    let ctx = to(local(port).via(Box::new(hop)), "127.0.0.1", echo);
    let mut flow = ctx.resolve().await.unwrap().into_flow();
    assert_echoes(&mut flow).await;
    assert_eq!(flow.fact(&PEER).map(|peer| peer.to_string()), Some(format!("127.0.0.1:{echo}")));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped_in_time() {
    for says in [&b""[..], b"C", b"CONNECT a:1 HTTP/1.1\r\n"] {
        let (mut client, theirs) = duplex();
        client.write_all(says).await.unwrap();
        let before = tokio::time::Instant::now();
        let error = server().handshake_timeout(Duration::from_secs(3)).serve(theirs).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
        // And one second in which it might read why.
        assert_eq!(before.elapsed().as_secs(), 4);
    }
    let without = HttpConnectServer::new(Context::new()).unwrap_err();
    assert_eq!(without.kind(), ConnectErrorKind::Misuse, "{}", text(&without));
}

#[tokio::test]
async fn its_context_says_how_far_clients_get() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = seen.clone();
    let elsewhere = Policy::new().only_networks(["192.0.2.0/24".parse().unwrap()]);
    let ctx = derivations(Context::new()).offer(&TCP).with(&POLICY, elsewhere);
    let server = HttpConnectServer::new(ctx).unwrap().allow(move |target| {
        asked.lock().unwrap().push(target.to_string());
        true
    });
    let port = embedded(server).await;
    let ctx = to(local(port).via(Box::new(HttpConnect::new())), "localhost", 80);
    let error = ctx.resolve().await.unwrap_err();
    assert!(format!("{error:#}").contains("403"), "{error:#}");
    assert_eq!(*seen.lock().unwrap(), ["localhost:80"]);
}

#[tokio::test]
async fn what_a_client_sends_before_the_answer_is_passed_on() {
    let port = echoing().await;
    let (mut client, theirs) = duplex();
    let serving = tokio::spawn(async move { server().serve(theirs).await });
    client.write_all(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nearly").as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let got = all(&mut client).await;
    assert!(got.starts_with(b"HTTP/1.1 200 ") && got.ends_with(b"\r\n\r\nearly"), "{}", got.escape_ascii());
    assert_eq!(serving.await.unwrap().unwrap(), (5, 5));
}
