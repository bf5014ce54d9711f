//! Both kinds of proxies, between our client and our server or scripts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::{any, get};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tower::Service;
use tuyau_core::names::POLICY;
use tuyau_core::{ConnectError, ConnectErrorKind, Context, Flow, Policy};
use tuyau_http::proxy::{Carried, Forward, Reverse, Tunnel};
use tuyau_http::{Body, Client, Connector, Error, Incoming, Server, Stage, Versions, handshake, upgrade};
use tuyau_tls::Backend;
use tuyau_tokio::{MEM, MEM_HUB, MEM_NAME, MemHub, TCP, derivations, duplex};

use crate::connector::{calls, talk};
use crate::support::{Below, Stack, reach, rest, router, run};
use crate::upgrade::{chat, websockets};

/// Connects to whoever listens there, whatever is asked for.
pub(crate) fn to(hub: &MemHub, name: &str) -> Context {
    derivations(Context::new()).with(&MEM_HUB, hub.clone()).with(&MEM_NAME, name.into()).offer(&MEM)
}

/// Has this listen at `name`.
pub(crate) fn listen<S, B>(hub: &MemHub, name: &str, service: S)
where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tuyau_http::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tuyau_http::BoxError>,
{
    drop(tokio::spawn(Server::new(service).listen(hub.listen(name).unwrap()).serve()));
}

/// A server that answers each connection with `answer`, and notes what came until the end of a head.
pub(crate) fn noting(answer: &'static str) -> (Context, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = noted.clone();
    let ctx = Context::from_fn(move || {
        let (ours, mut theirs) = duplex();
        let notes = notes.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                theirs.read_exact(&mut byte).await?;
                head.extend(byte);
            }
            notes.lock().unwrap().push(String::from_utf8(head).unwrap());
            theirs.write_all(answer.as_bytes()).await?;
            theirs.shutdown().await
        });
        async { Ok(ours) }
    });
    (ctx, noted)
}

/// What a proxy answers on one connection until that ends; of a tunnel, the head.
pub(crate) async fn says<S, B>(proxy: S, bytes: &str) -> String
where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tuyau_http::BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tuyau_http::BoxError>,
{
    let (mut client, server) = duplex();
    tokio::spawn(tuyau_http::serve_flow(server, proxy));
    client.write_all(bytes.as_bytes()).await.unwrap();
    if bytes.starts_with("CONNECT ") {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).await.unwrap();
            head.extend(byte);
        }
        return String::from_utf8(head).unwrap();
    }
    rest(&mut client).await
}

pub(crate) fn reverse(ctx: Context) -> Reverse {
    Reverse::new(Client::new(ctx), "http://server.test".parse().unwrap())
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-End: 1\r\n\r\nok";

#[tokio::test]
async fn what_is_for_one_hop_is_not_passed_on() {
    let (ctx, noted) = noting(OK);
    let said = says(
        Forward::new(Client::new(ctx)).user("ada", "pass"),
        "GET http://far.test:81/x?y=1 HTTP/1.1\r\nHost: liar\r\nConnection: close, x-once\r\nX-Once: 1\r\nCookie: a=1\r\n\
         Proxy-Authorization: Basic YWRhOnBhc3M=\r\nVia: 1.0 before\r\nX-Stays: 1\r\n\r\n",
    )
    .await;
    let head = noted.lock().unwrap().remove(0).to_lowercase();
    let mut lines: Vec<_> = head.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "get /x?y=1 http/1.1");
    lines.sort_unstable();
    let via = lines.iter().position(|line| line.starts_with("via: 1.1 tuyau-")).expect("it says who it is");
    lines.remove(via);
    assert_eq!(lines, ["cookie: a=1", "host: far.test:81", "via: 1.0 before", "x-stays: 1"]);
    let said = said.to_lowercase();
    assert!(said.starts_with("http/1.1 200 ok\r\n") && said.ends_with("\r\n\r\nok"), "{said}");
    assert!(said.contains("via: 1.1 tuyau-") && said.contains("x-end: 1"), "{said}");
    assert!(!said.contains("keep-alive") && !said.contains("x-hop"), "{said}");
}

#[tokio::test]
async fn tunnels_over_both_versions_end_one_way_at_a_time() {
    let ctx = Context::from_fn(|| {
        let (ours, mut theirs) = duplex();
        tokio::spawn(async move {
            let mut said = Vec::new();
            let mut bytes = [0; 64];
            while let Ok(n @ 1..) = theirs.read(&mut bytes).await {
                said.extend_from_slice(&bytes[..n]);
            }
            // After the end of the other way.
            theirs.write_all(&said.to_ascii_uppercase()).await?;
            theirs.shutdown().await
        });
        async { Ok(ours) }
    });
    let proxy = Forward::new(Client::new(ctx));
    let tunnels = proxy.tunnels();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = tower::service_fn(move |request| {
        let (mut proxy, tell) = (proxy.clone(), tell.clone());
        async move {
            let response = proxy.call(request).await;
            response.inspect(|response| {
                let _ = tell.send(response.extensions().get::<Tunnel>().cloned().expect("a tunnel"));
            })
        }
    });
    let hub = MemHub::new();
    listen(&hub, "proxy", service);
    for versions in [Versions::Http1, Versions::Http2] {
        let mut sender = handshake(hub.connect("proxy").await.unwrap(), versions).await.unwrap();
        let request = Request::connect("far.test:443").body(Body::empty()).unwrap();
        let mut response = sender.send(request).await.unwrap();
        assert_eq!(response.status(), 200, "{versions:?}");
        let mut flow = upgrade(&mut response).await.unwrap();
        flow.write_all(b"hello").await.unwrap();
        flow.shutdown().await.unwrap();
        assert_eq!(rest(&mut flow).await, "HELLO");
        let Carried { sent, received, cut, .. } = told.recv().await.unwrap().ended().await;
        assert_eq!((sent, received, cut), (5, 5, None));
    }
    tunnels.ended().await;
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_bounded_in_number_and_silence() {
    let ctx = Context::from_fn(|| {
        let (ours, theirs) = duplex();
        tokio::spawn(async move {
            let _silent = theirs;
            std::future::pending::<()>().await;
        });
        async { Ok(ours) }
    });
    let proxy = Forward::new(Client::new(ctx)).limit_tunnels(1, Duration::from_secs(60));
    let tunnels = proxy.tunnels();
    let connect = "CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\n";
    let (mut first, server) = duplex();
    tokio::spawn(tuyau_http::serve_flow(server, proxy.clone()));
    first.write_all(connect.as_bytes()).await.unwrap();
    let mut answer = [0; 17];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n");
    assert!(says(proxy, connect).await.starts_with("HTTP/1.1 503 "));
    let began = tokio::time::Instant::now();
    tunnels.ended().await;
    assert_eq!(began.elapsed().as_secs(), 60);
    rest(&mut first).await;
}

#[tokio::test]
async fn only_who_has_a_password_is_let_in() {
    let (ctx, noted) = noting(OK);
    let proxy = Forward::new(Client::new(ctx)).user("ada", "s3cret").user("bob", "also");
    assert!(!format!("{proxy:?}").contains("s3cret"));
    let asked = |authorization: &str| {
        let authorization = match authorization {
            "" => String::new(),
            value => format!("Proxy-Authorization: {value}\r\n"),
        };
        let proxy = proxy.clone();
        async move {
            let get = format!(
                "GET http://far.test/ HTTP/1.1\r\nHost: far.test\r\nConnection: close\r\n{authorization}\r\n"
            );
            let connect = format!("CONNECT far.test:1 HTTP/1.1\r\nHost: far.test:1\r\n{authorization}\r\n");
            (says(proxy.clone(), &get).await, says(proxy, &connect).await)
        }
    };
    for wrong in
        ["", "Basic", "Basic !", "Basic YWRhOnMzY3JldA", "Basic YWRhOnMzY3Jl", "Bearer YWRhOnMzY3JldA=="]
    {
        let (get, connect) = asked(wrong).await;
        for said in [get, connect] {
            assert!(said.starts_with("HTTP/1.1 407 "), "{wrong}: {said}");
            assert!(said.contains("proxy-authenticate: Basic realm="), "{said}");
        }
    }
    assert_eq!(noted.lock().unwrap().len(), 0, "nothing was asked for");
    for right in ["Basic YWRhOnMzY3JldA==", "basic  Ym9iOmFsc28="] {
        let (get, connect) = asked(right).await;
        assert!(
            get.starts_with("HTTP/1.1 200 ") && connect.starts_with("HTTP/1.1 200 "),
            "{right}: {get} {connect}"
        );
    }
}

#[tokio::test]
async fn what_leads_back_is_refused() {
    let hub = MemHub::new();
    // It asks itself for everything.
    listen(&hub, "loop", reverse(to(&hub, "loop")));
    let get = Client::new(to(&hub, "loop")).get("http://svc/").send().await.unwrap();
    assert_eq!(get.status(), StatusCode::LOOP_DETECTED);
    // And two of them each other.
    listen(&hub, "one", reverse(to(&hub, "two")));
    listen(&hub, "two", reverse(to(&hub, "one")));
    let get = Client::new(to(&hub, "one")).get("http://svc/").send().await.unwrap();
    assert_eq!(get.status(), StatusCode::LOOP_DETECTED);

    let proxy = Forward::new(Client::new(derivations(Context::new()).offer(&TCP)));
    let (listener, ctx, port) = reach(Stack { below: Below::Tcp, tls: None }, &[]).await;
    let serving = tokio::spawn(Server::new(proxy).listen(listener).serve());
    let flow = ctx.with(&tuyau_core::names::HOST, "127.0.0.1".into()).with(&tuyau_core::names::PORT, port);
    let mut sender = handshake(flow.resolve().await.unwrap().into_flow(), Versions::Http1).await.unwrap();
    let request = Request::connect(format!("127.0.0.1:{port}")).body(Body::empty()).unwrap();
    assert_eq!(sender.send(request).await.unwrap().status(), StatusCode::LOOP_DETECTED);
    serving.abort();
}

#[tokio::test]
async fn what_is_not_for_a_proxy_is_refused() {
    let (ctx, noted) = noting(OK);
    let forward = Forward::new(Client::new(ctx.clone()));
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("GET https://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "400"),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("CONNECT a:0 HTTP/1.1\r\nHost: a:0\r\n\r\n", "400"),
        ("CONNECT u@a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "400"),
        ("TRACE http://a/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"),
        ("OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n", "200"),
    ] {
        let said = says(forward.clone(), request).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
    }
    for (request, status) in [
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"),
    ] {
        let said = says(reverse(ctx.clone()), request).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {said}");
    }
    assert_eq!(noted.lock().unwrap().len(), 0);
    says(reverse(ctx), "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 2\r\nConnection: close\r\n\r\n").await;
    let head = noted.lock().unwrap().remove(0);
    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n") && head.contains("max-forwards: 1\r\n"), "{head}");
}

#[tokio::test]
async fn the_server_is_told_who_asks_for_what() {
    let asked = "GET /x HTTP/1.1\r\nHost: site.test:8080\r\nX-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n\
                 Connection: close, x-forwarded-host\r\n\r\n";
    let (ctx, noted) = noting(OK);
    says(reverse(ctx.clone()), asked).await;
    says(reverse(ctx.clone()).believe(true).host(&"inner.test".parse().unwrap()), asked).await;
    let noted = noted.lock().unwrap();
    let fields = "host: site.test:8080\r\n";
    assert!(noted[0].starts_with("GET /x HTTP/1.1\r\n") && noted[0].contains(fields), "{}", noted[0]);
    assert!(
        noted[0].contains("forwarded: for=unknown;host=\"site.test:8080\";proto=http\r\n"),
        "{}",
        noted[0]
    );
    assert!(noted[0].contains("x-forwarded-host: site.test:8080\r\n"), "{}", noted[0]);
    assert!(noted[0].contains("x-forwarded-proto: http\r\n"), "{}", noted[0]);
    assert!(!noted[0].contains("203.0.113.9") && !noted[0].contains("x-forwarded-for"), "{}", noted[0]);
    assert!(noted[1].contains("host: inner.test\r\n"), "{}", noted[1]);
    let forwarded = "forwarded: for=203.0.113.9, for=unknown;host=\"site.test:8080\";proto=http\r\n";
    assert!(noted[1].contains(forwarded), "{}", noted[1]);
    assert!(noted[1].contains("x-forwarded-for: 203.0.113.9\r\n"), "{}", noted[1]);
}

/// By every pair of versions, over TLS as well: who asks for it and how, as the server sees it.
#[tokio::test]
async fn hosts_addresses_and_versions() {
    async fn told(request: axum::extract::Request) -> String {
        let host = request.uri().authority().map(|authority| authority.to_string());
        let field = |name: &str| {
            request.headers().get(name).map_or("none", |value| value.to_str().unwrap()).to_owned()
        };
        let names = ["x-forwarded-host", "x-forwarded-for", "x-forwarded-proto", "forwarded"];
        let host = host.unwrap_or_else(|| field("host"));
        format!("{:?} {host} {}", request.version(), names.map(field).join(" "))
    }
    let tls = Stack { below: Below::Tcp, tls: Some(Backend::Rustls) };
    for (server, spoken) in [(Versions::Http1, "HTTP/1.1"), (Versions::Http2, "HTTP/2.0")] {
        let server = run(tls, server, Server::new(Router::new().route("/", get(told)))).await;
        let proxy = Reverse::new(Client::new(server.ctx.clone()), server.url("/x").parse().unwrap());
        for near in [Versions::Http1, Versions::Http2] {
            let (listener, ctx, port) = reach(tls, &["h2", "http/1.1"]).await;
            let serving = tokio::spawn(Server::new(proxy.clone()).listen(listener).serve());
            let client = Client::new(ctx).versions(near);
            let response = client.get(format!("https://127.0.0.1:{port}/")).send().await.unwrap();
            let host = format!("127.0.0.1:{port}");
            let forwarded = format!("for=127.0.0.1;host=\"{host}\";proto=https");
            let text = format!("{spoken} {host} {host} 127.0.0.1 https {forwarded}");
            assert_eq!(response.into_body().text().await.unwrap(), text, "{near:?}");
            serving.abort();
        }
        server.end().await;
    }
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways_as_they_come() {
    let hub = MemHub::new();
    listen(&hub, "server", Router::<()>::new().route("/echo", any(|body: AxumBody| async { body })));
    for (far, near) in [(Versions::Http1, Versions::Http1), (Versions::Http2, Versions::Http2)] {
        let name = format!("{far:?}");
        let client = Client::new(to(&hub, "server")).versions(far);
        listen(&hub, &name, Reverse::new(client, "http://svc".parse().unwrap()));
        let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, std::io::Error>>();
        let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receive);
        let body = Body::new(http_body_util::StreamBody::new(stream));
        let client = Client::new(to(&hub, &name)).versions(near);
        let request = client.post("http://svc/echo").body(body);
        let request = request.header(http::header::TRAILER, "x-sum").header(http::header::TE, "trailers");
        send.send(Ok(Frame::data("first".into()))).unwrap();
        let mut body = request.send().await.unwrap().into_body();
        // Each comes back before the next is sent.
        for word in ["first", "second", "third"] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.data_ref().unwrap(), word, "{name}");
            let next = if word == "first" { "second" } else { "third" };
            if word != "third" {
                send.send(Ok(Frame::data(next.into()))).unwrap();
            }
        }
        if far == Versions::Http2 {
            let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
            send.send(Ok(Frame::trailers(trailers))).unwrap();
            drop(send);
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.trailers_ref().unwrap()["x-sum"], "7");
        } else {
            drop(send);
        }
        assert!(body.frame().await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn websockets_pass() {
    let hub = MemHub::new();
    listen(&hub, "server", chat());
    let proxy = reverse(to(&hub, "server"));
    let tunnels = proxy.tunnels();
    listen(&hub, "reverse", proxy);
    websockets(&hub, "reverse").await;
    tunnels.ended().await;
    listen(&hub, "forward", Forward::new(Client::new(to(&hub, "server"))));
    let mut sender = handshake(hub.connect("forward").await.unwrap(), Versions::Http2).await.unwrap();
    let request = Request::connect("svc:80").body(Body::empty()).unwrap();
    let mut tunnel = upgrade(&mut sender.send(request).await.unwrap()).await.unwrap();
    tunnel.write_all(b"GET /plain HTTP/1.0\r\n\r\n").await.unwrap();
    assert!(rest(&mut tunnel).await.ends_with("plain"));
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_a_response() {
    let hub = MemHub::new();
    listen(&hub, "server", router());
    let asked = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: shout\r\nConnection: upgrade, close\r\n\r\n";
    let proxy = reverse(to(&hub, "server"));
    let said = says(proxy.clone(), asked).await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("hello"), "{said}");
    proxy.tunnels().ended().await;
}

#[tokio::test]
async fn grpc_through_a_reverse_proxy() {
    let hub = MemHub::new();
    listen(&hub, "server", talk());
    let client = Client::new(to(&hub, "server")).versions(Versions::Http2);
    listen(&hub, "proxy", Reverse::new(client, "http://svc".parse().unwrap()));
    calls("http://svc", Connector::new(to(&hub, "proxy")).versions(Versions::Http2)).await;
}

/// A response's status, and why it is that, as a log sees it.
pub(crate) async fn failure<S, B>(proxy: S, url: &str, body: Body) -> (StatusCode, Option<Error>)
where
    S: Service<Request<Incoming>, Response = http::Response<B>, Error = std::convert::Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tuyau_http::BoxError>,
{
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = tower::service_fn(move |request| {
        let (answering, tell) = (proxy.clone().call(request), tell.clone());
        async move {
            let response = answering.await;
            let _ = tell.send(
                response.as_ref().ok().and_then(|response| response.extensions().get::<Error>().cloned()),
            );
            response
        }
    });
    let hub = MemHub::new();
    listen(&hub, "proxy", service);
    // By HTTP/2, whose URLs are whole for both kinds.
    let client = Client::new(to(&hub, "proxy")).versions(Versions::Http2).first_byte_timeout(None);
    let response = client.post(url).body(body).send().await.unwrap();
    let status = response.status();
    let text = response.into_body().text().await.unwrap();
    assert_eq!(text, format!("{status}\n"), "no more is told");
    (status, told.recv().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn why_it_failed_is_for_the_log() {
    let url = "http://far.test/";
    let refuses = || {
        Context::from_fn(|| async {
            Err::<Flow, _>(ConnectError::new(ConnectErrorKind::Refused, "connect to the secret place"))
        })
    };
    let (status, error) = failure(reverse(refuses()), url, Body::empty()).await;
    let error = error.unwrap();
    assert_eq!((status, error.stage()), (StatusCode::BAD_GATEWAY, Stage::Connect));
    assert!(format!("{error:?}").contains("connect to the secret place"), "{error:?}");

    // It accepts, and says nothing.
    let silent = Context::from_fn(|| {
        let (ours, theirs) = duplex();
        tokio::spawn(async move {
            let _theirs = theirs;
            std::future::pending::<()>().await;
        });
        async { Ok(ours) }
    });
    let (status, error) = failure(reverse(silent), url, Body::empty()).await;
    assert_eq!((status, error.unwrap().stage()), (StatusCode::GATEWAY_TIMEOUT, Stage::Wait));
    // It does not even accept.
    let hangs = Context::from_fn(std::future::pending::<Result<Flow, ConnectError>>);
    let (status, error) = failure(Forward::new(Client::new(hangs)), url, Body::empty()).await;
    assert_eq!((status, error.unwrap().stage()), (StatusCode::GATEWAY_TIMEOUT, Stage::Connect));
    // It is no HTTP.
    let (status, error) = failure(reverse(noting("SSH-2.0-x\r\n").0), url, Body::empty()).await;
    assert_eq!((status, error.unwrap().stage()), (StatusCode::BAD_GATEWAY, Stage::Wait));

    let forbidden = derivations(Context::new())
        .with(&POLICY, Policy::new().only_networks(["192.0.2.0/24".parse().unwrap()]))
        .offer(&TCP);
    let url = "http://127.0.0.1:1/";
    let (status, error) = failure(Forward::new(Client::new(forbidden.clone())), url, Body::empty()).await;
    assert_eq!((status, error.unwrap().stage()), (StatusCode::FORBIDDEN, Stage::Connect));
    let proxy = Reverse::new(Client::new(forbidden), url.parse().unwrap());
    assert_eq!(failure(proxy, url, Body::empty()).await.0, StatusCode::BAD_GATEWAY, "its policy is its own");
}

/// What is the client's fault is not the server's.
#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_told_so() {
    let hub = MemHub::new();
    listen(&hub, "server", router());
    for version in [Versions::Http1, Versions::Http2] {
        let stalls = Body::new(http_body_util::StreamBody::new(tokio_stream::pending::<
            Result<Frame<Bytes>, std::io::Error>,
        >()));
        let client = Client::new(to(&hub, "server")).versions(version);
        let proxy = Reverse::new(client, "http://svc".parse().unwrap());
        let (status, error) = failure(proxy, "http://svc/length", stalls).await;
        let told = (status, error.unwrap().is_timeout());
        assert_eq!(told, (StatusCode::REQUEST_TIMEOUT, false), "{version:?}");
    }
}

/// A server that wants no body gets none, nor does the proxy.
#[tokio::test]
async fn whether_a_body_is_wanted_the_server_says() {
    let (ctx, noted) = noting("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    let (mut client, server) = duplex();
    tokio::spawn(tuyau_http::serve_flow(server, reverse(ctx)));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let said = rest(&mut client).await;
    assert!(said.starts_with("HTTP/1.1 417 "), "{said}");
    assert!(noted.lock().unwrap()[0].contains("expect: 100-continue\r\n"), "{noted:?}");

    let hub = MemHub::new();
    listen(&hub, "server", router());
    let said = says(reverse(to(&hub, "server")), &(head.replace("/ ", "/length ") + "hello")).await;
    assert!(
        said.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") && said.ends_with('5'),
        "{said}"
    );
}
