//! What the server does with connections, whatever the transport.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::service_fn;
use tuyau_core::{Flow, Listener, RawListener, Target};
use tuyau_http::{
    Body, Http, Incoming, Limit, Limits, ServeErrorKind, Server, Versions, handshake, serve_flow,
};
use tuyau_testing::{Calls, Counting};
use tuyau_tokio::{MemHub, duplex};

use crate::support::{hanging, rest, router, says};

#[tokio::test]
async fn alpn_says_which_version_and_an_unknown_one_is_refused() {
    for (alpn, first, answer) in [
        ("http/1.1", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK"),
        ("http/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
        ("h2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "\0\0"),
        // What it sends does not count.
        ("http/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", ""),
    ] {
        let (mut client, server) = duplex();
        let served = tokio::spawn(serve_flow(says(server, alpn), router()));
        client.write_all(first.as_bytes()).await.unwrap();
        let mut bytes = [0; 1024];
        let n = client.read(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes[..n]);
        assert!(text.starts_with(answer), "{alpn}: {text}");
        drop(client);
        let _ = served.await.unwrap();
    }
    let (_client, server) = duplex();
    let error = serve_flow(says(server, "spdy/3"), router()).await.unwrap_err();
    assert_eq!(*error.kind(), ServeErrorKind::UnknownProtocol(b"spdy/3".to_vec()));
    let (_client, server) = duplex();
    let http = Http::new().versions(Versions::Http1);
    let error = http.serve_flow(says(server, "h2"), router()).await.unwrap_err();
    assert_eq!(*error.kind(), ServeErrorKind::UnknownProtocol(b"h2".to_vec()));
}

#[tokio::test]
async fn http_1_0_ends_with_its_response_unless_it_is_kept() {
    let (mut client, server) = duplex();
    let served = tokio::spawn(serve_flow(server, router()));
    client
        .write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let text = rest(&mut client).await;
    assert_eq!(text.matches("hello").count(), 2, "{text}");
    assert_eq!(served.await.unwrap().unwrap().requests, 2);
}

#[tokio::test]
async fn the_first_bytes_tell_versions_apart_however_they_come() {
    let (mut client, server) = duplex();
    let served = tokio::spawn(serve_flow(server, router()));
    for byte in b"PUT /method HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(rest(&mut client).await.ends_with("PUT"));
    assert!(served.await.unwrap().is_ok());
}

async fn answer(request: &str, http: Http) -> String {
    let (mut client, server) = duplex();
    let served = tokio::spawn(async move { http.serve_flow(server, router()).await });
    client.write_all(request.as_bytes()).await.unwrap();
    let text = rest(&mut client).await;
    drop(client);
    let _ = served.await.unwrap();
    text
}

#[tokio::test]
async fn bad_requests_are_answered_by_the_error_handler() {
    let http = || {
        Http::new().on_error(|refused| {
            let mut response = Response::new(Bytes::from(format!("no: {}", refused.status().as_u16())));
            *response.status_mut() = refused.status();
            response.headers_mut().insert("x-by", "us".parse().unwrap());
            let head = refused.head().map(|head| head.uri.to_string());
            let why = format!("{refused}; {}", head.unwrap_or_default());
            response.headers_mut().insert("x-why", why.parse().unwrap());
            response
        })
    };
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000));
    let none = "it is not HTTP/1, or not by its rules; ";
    for (request, status, why) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nbad field\r\n\r\n", 400, none),
        ("GET / HTTP/1.1\r\n\r\n", 400, "it does not name one host; /"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "it does not name one host; /"),
        ("G@T / HTTP/9\r\n\r\n", 400, none),
        (&long, 431, "its head is too large; "),
    ] {
        let text = answer(request, http()).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(text.ends_with(&format!("no: {status}")) && text.contains("x-by: us"), "{text}");
        assert!(text.contains(&format!("x-why: a bad request: {}", why.trim_end())), "{text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
        assert!(text.to_lowercase().contains("date: "), "{text}");
        // Without one, an empty response.
        let text = answer(request, Http::new()).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.ends_with("\r\n\r\n"), "{text}");
    }
    // After a good one, whose response is not touched.
    let text = answer("GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\r\n\r\n", http()).await;
    assert!(text.contains("hello") && text.ends_with("no: 400"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_late_is_told_of_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let http = Http::new().on_error(move |refused| {
        noted.lock().unwrap().push(refused.status().as_u16());
        Response::builder().status(refused.status()).body("late".into()).unwrap()
    });
    let text = answer("GET / HTTP/1.1\r\n", http).await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.ends_with("late"), "{text}");
    assert_eq!(*told.lock().unwrap(), [408]);
}

#[tokio::test]
async fn a_service_that_fails_is_answered_for() {
    let service = service_fn(|_: Request<Incoming>| async { Err::<Response<Full<Bytes>>, _>("out of ink") });
    let seen = Arc::new(Mutex::new(String::new()));
    let noted = seen.clone();
    let http = Http::new().on_error(move |refused| {
        *noted.lock().unwrap() = refused.error().unwrap().to_string();
        Response::builder().status(refused.status()).body("sorry".into()).unwrap()
    });
    let (mut client, server) = duplex();
    let served = tokio::spawn(async move { http.serve_flow(server, service).await });
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let text = rest(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 500 ") && text.ends_with("sorry"), "{text}");
    assert_eq!(*seen.lock().unwrap(), "out of ink");
    assert!(served.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_only() {
    let hub = MemHub::new();
    let service = service_fn(|request: Request<Incoming>| async move {
        assert_ne!(request.uri().path(), "/panic", "as asked for by the test");
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("fine"))))
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server =
        Server::new(service).listen(hub.listen("s").unwrap()).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.serve());
    for (path, text) in [("/panic", ""), ("/", "fine")] {
        let mut client = hub.connect("s").await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(rest(&mut client).await.ends_with(text));
    }
    drop(stop);
    assert_eq!(serving.await.unwrap().connections.panicked, 1);
}

/// Streams begin in the connection's task where there is one thread, in tasks of their own where there are more.
async fn a_panic_over_http2() {
    let (client, server) = duplex();
    let service = service_fn(|request: Request<Incoming>| async move {
        assert_ne!(request.uri().path(), "/panic", "as asked for by the test");
        if request.uri().path() == "/later" {
            tokio::task::yield_now().await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("fine"))))
    });
    let served = tokio::spawn(serve_flow(server, service));
    let mut sender = handshake(client, Versions::Http2).await.unwrap();
    for (path, fine) in [("/panic", false), ("/", true), ("/later", true)] {
        let request = Request::get(format!("http://a{path}")).body(Body::empty()).unwrap();
        assert_eq!(sender.send(request).await.is_ok(), fine, "{path}");
    }
    drop(sender);
    assert_eq!(served.await.unwrap().unwrap().requests, 3);
}

#[tokio::test]
async fn over_http2_a_handler_that_panics_ends_its_stream_only() {
    a_panic_over_http2().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_many_threads() {
    a_panic_over_http2().await;
}

#[tokio::test]
async fn what_http2_says_in_one_turn_is_written_at_once() {
    let (client, server) = tokio::io::duplex(1 << 20);
    let calls = Calls::default();
    let server = Flow::from_tokio(Counting::new(server, &calls));
    let service = service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; 64 * 1024]))))
    });
    tokio::spawn(serve_flow(server, service));
    let mut sender = handshake(Flow::from_tokio(client), Versions::Http2).await.unwrap();
    for _ in 0..4 {
        let request = Request::get("http://a/").body(Body::empty()).unwrap();
        let body = sender.send(request).await.unwrap().into_body().bytes().await.unwrap();
        assert_eq!(body.len(), 64 * 1024);
    }
    // Four responses of four frames each; there are settings and acknowledgements beside them.
    assert!(calls.plain() + calls.vectored() <= 8, "{calls:?}");
}

#[tokio::test]
async fn requests_know_by_which_listener_they_came_and_facts_that_were_kept() {
    static EXTRA: tuyau_core::Key<tuyau_core::Protection> = tuyau_core::Key::new("extra");
    let hub = MemHub::new();
    let service = service_fn(|request: Request<Incoming>| async move {
        let connection = request.extensions().get::<tuyau_http::Connection>().unwrap();
        assert_eq!(connection.fact(&EXTRA), None);
        let text = format!("{:?} {}", connection.listener(), connection.peer().unwrap());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
    });
    let server = Server::new(service)
        .listen(hub.listen("anonymous").unwrap())
        .listen_as("admin", hub.listen("named").unwrap())
        .fact(&EXTRA);
    let serving = tokio::spawn(server.serve());
    for (name, text) in
        [("anonymous", "None client of mem:anonymous"), ("named", "Some(\"admin\") client of mem:named")]
    {
        let mut client = hub.connect(name).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let got = rest(&mut client).await;
        assert!(got.ends_with(text), "{got}");
    }
    serving.abort();
}

#[tokio::test]
async fn requests_know_the_certificate_of_their_client() {
    use tuyau_core::names::SERVER_NAME;
    use tuyau_testing::certs::Ca;
    use tuyau_tls::{
        BACKEND, Backend, ClientAuth, IDENTITY, Identity, ROOTS, Roots, ServerSettings, TLS, TlsServer,
    };
    use tuyau_tokio::{MEM, MEM_HUB, MEM_NAME};
    let (ca, people) = (Ca::new("CA"), Ca::new("CA of people"));
    let (leaf, ada) = (ca.leaf(&["svc.test"]), people.client("ada"));
    for backend in [Backend::Rustls, Backend::OpenSsl] {
        let shown = ada.chain()[0].clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let connection = request.extensions().get::<tuyau_http::Connection>().unwrap();
            let text =
                format!("{} {}", connection.certificates().len(), connection.certificates()[0] == shown);
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))))
        });
        let settings = ServerSettings::new(Identity::pem(leaf.chain_pem(), leaf.key_pem()))
            .backend(backend)
            .alpn(&[b"h2".to_vec(), b"http/1.1".to_vec()])
            .client_auth(ClientAuth::Required(Roots::Pem(people.pem().into_bytes().into())));
        let hub = MemHub::new();
        let listener = hub.listen("s").unwrap();
        let listener =
            listener.layered(TlsServer::new(settings).unwrap().layer(), &tuyau_core::Context::new());
        let serving = tokio::spawn(Server::new(service).listen(listener).serve());
        let ctx = tuyau_tokio::derivations(tuyau_core::Context::new())
            .with(&MEM_HUB, hub)
            .with(&MEM_NAME, "s".into())
            .with(&BACKEND, backend)
            .with(&ROOTS, Roots::Pem(ca.pem().into_bytes().into()))
            .with(&SERVER_NAME, "svc.test".into())
            .with(&IDENTITY, Identity::pem(ada.chain_pem(), ada.key_pem()));
        let ctx = tuyau_tls::over(ctx, &TLS, &MEM).offer(&TLS);
        for versions in [Versions::Http1, Versions::Http2] {
            let client = tuyau_http::Client::new(ctx.clone()).versions(versions);
            let response = client.get("https://svc.test/").send().await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), "1 true", "{backend:?} {versions:?}");
        }
        serving.abort();
    }
}

#[tokio::test]
async fn connections_of_one_address_are_bounded() {
    let (listener, ctx, port) =
        crate::support::reach(crate::support::Stack { below: crate::support::Below::Tcp, tls: None }, &[])
            .await;
    let ctx = ctx.with(&tuyau_core::names::HOST, "127.0.0.1".into()).with(&tuyau_core::names::PORT, port);
    let mut limits = Limits::default();
    limits.connections_per_address = 2;
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new(router()).listen(listener).limits(limits).on_failure(move |failure| {
        let _ = failed.send(failure);
    });
    let serving = tokio::spawn(server.serve());
    let hello = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut flow = ctx.resolve().await.unwrap().into_flow();
        flow.write_all(hello).await.unwrap();
        assert!(flow.read(&mut [0; 1024]).await.unwrap() > 0);
        kept.push(flow);
    }
    let mut third = ctx.resolve().await.unwrap().into_flow();
    assert_eq!(rest(&mut third).await, "");
    let failure = failures.recv().await.unwrap();
    let tuyau_http::Failure::Connection { error, .. } = failure else { panic!("{failure:?}") };
    assert_eq!(*error.kind(), ServeErrorKind::Limit(Limit::ConnectionsPerAddress));
    // As soon as one goes, there is room again.
    drop(kept.pop());
    loop {
        let mut flow = ctx.resolve().await.unwrap().into_flow();
        flow.write_all(hello).await.unwrap();
        if flow.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {
            break;
        }
    }
    serving.abort();
}

/// Those that never say anything, so that their handshake never ends, count as well.
#[tokio::test]
async fn connections_of_one_address_count_from_the_moment_they_are_accepted() {
    use crate::support::{Below, Stack, reach};
    let (listener, ctx, port) =
        reach(Stack { below: Below::Tcp, tls: Some(tuyau_tls::Backend::Rustls) }, &["h2"]).await;
    let mut limits = Limits::default();
    limits.connections_per_address = 2;
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new(router()).listen_as("main", listener).limits(limits);
    let serving = tokio::spawn(server.on_failure(move |failure| drop(failed.send(failure))).serve());
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let url = format!("https://127.0.0.1:{port}/");
    let refused = tuyau_http::Client::new(ctx.clone()).get(&url).send().await.unwrap_err();
    assert_eq!(refused.stage(), tuyau_http::Stage::Connect, "{refused:?}");
    let failure = failures.recv().await.unwrap();
    let tuyau_http::Failure::Connection { peer, error } = failure else { panic!("{failure:?}") };
    assert_eq!(*error.kind(), ServeErrorKind::Limit(Limit::ConnectionsPerAddress));
    assert!(peer.and_then(|peer| peer.ip()).is_some_and(|ip| ip.is_loopback()));
    drop(silent);
    // Their handshakes fail now, and their places are free.
    while tuyau_http::Client::new(ctx.clone()).get(&url).send().await.is_err() {}
    serving.abort();
}

/// Hangs in each handshake.
struct Hanging;

impl RawListener for Hanging {
    fn poll_accept(
        &mut self,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<tuyau_core::Accepted, tuyau_core::AcceptError>> {
        std::task::Poll::Ready(Ok(hanging()))
    }
    fn local(&self) -> Target {
        Target::Described("hanging".into())
    }
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_bounded_in_number_and_time() {
    let mut limits = Limits::default();
    limits.handshakes = 3;
    limits.handshake_time = Duration::from_secs(5);
    let hub = MemHub::new();
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new(router())
        .listen(Listener::new(Hanging))
        .listen(hub.listen("s").unwrap())
        .limits(limits)
        .on_failure(move |failure| drop(failed.send(failure)));
    let serving = tokio::spawn(server.serve());
    let before = tokio::time::Instant::now();
    for _ in 0..6 {
        let failure = failures.recv().await.unwrap();
        assert!(
            matches!(failure, tuyau_http::Failure::Accept(tuyau_tokio::Failure::Handshake(_))),
            "{failure:?}"
        );
    }
    assert_eq!(before.elapsed().as_secs(), 10, "three at a time, five seconds each");
    serving.abort();
}
