//! What the client does around a request.

use std::error::Error as _;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use bytes::Bytes;
use http::header::{
    self, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    USER_AGENT,
};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::time::Instant;
use tuyau_core::names::{HOST, PORT};
use tuyau_core::{ConnectErrorKind, Context, Flow};
use tuyau_http::{
    Body, BodyError, BodyErrorKind, Client, FinalUrl, Multipart, SCHEME, STACKS, Scheme, Server,
};
use tuyau_http::{Stacks, Stage, Versions, handshake};
use tuyau_tokio::{MEM, MEM_HUB, MEM_NAME, MemHub, TCP, derivations, duplex};

use crate::matrix::sent;
use crate::support::{MEMORY, Running, rest, router, run};

async fn world(router: Router) -> (Running, Client) {
    let running = run(MEMORY, Versions::All, Server::new(router)).await;
    let client = running.client();
    (running, client)
}

/// A client of a server that is a script: it is given each flow that is connected.
fn scripted<Fut>(server: impl Fn(Flow) -> Fut + Clone + Send + Sync + 'static) -> Client
where
    Fut: Future<Output = ()> + Send + 'static,
{
    Client::new(Context::from_fn(move || {
        let (ours, theirs) = duplex();
        tokio::spawn(server(theirs));
        async { Ok(ours) }
    }))
}

async fn head(flow: &mut Flow) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if flow.read(&mut byte).await.unwrap_or(0) == 0 {
            break;
        }
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn redirects_are_followed_by_the_rules() {
    let seen = |request: AxumRequest| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let secret = head.headers.contains_key(AUTHORIZATION);
        format!("{} {} {secret}", head.method, String::from_utf8_lossy(&body))
    };
    let router = Router::new()
        .route("/seen", any(seen))
        .route("/302", any(|| async { (StatusCode::FOUND, [("location", "/seen")]) }))
        .route("/303", any(|| async { Redirect::to("seen") }))
        .route("/307", any(|| async { Redirect::temporary("/seen") }))
        .route("/308", any(|| async { Redirect::permanent("/308-again") }))
        .route("/308-again", any(|| async { Redirect::permanent("/seen") }))
        .route("/elsewhere", any(|| async { Redirect::temporary("http://other.test/seen") }))
        .route("/loop", any(|| async { Redirect::temporary("/loop") }))
        .route("/file", any(|| async { Redirect::temporary("file:///etc/passwd") }));
    let (running, client) = world(router).await;
    for (method, path, text) in [
        (Method::POST, "/302", "GET  true"),
        (Method::PUT, "/302", "PUT body true"),
        (Method::POST, "/303", "GET  true"),
        (Method::POST, "/307", "POST body true"),
        (Method::DELETE, "/308", "DELETE body true"),
        (Method::POST, "/elsewhere", "POST body false"),
    ] {
        let request =
            client.method(method.clone(), running.url(path)).header(AUTHORIZATION, "secret").body("body");
        let response = request.send().await.unwrap();
        let FinalUrl(url) = response.extensions().get().cloned().unwrap();
        assert_eq!(url.path(), "/seen");
        assert_eq!(response.into_body().text().await.unwrap(), text, "{method} {path}");
    }
    // A body that can't be sent again: the redirect is the response.
    let (send, body) = sent();
    drop(send);
    assert_eq!(client.post(running.url("/307")).body(body).send().await.unwrap().status(), 307);
    let error = client.get(running.url("/loop")).send().await.unwrap_err();
    assert_eq!((error.stage(), error.url().map(Uri::path)), (Stage::Redirect, Some("/loop")));
    let error = client.get(running.url("/file")).send().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Redirect);
    // Whoever wants it is told each response on the way, and none but those.
    let two = client.clone().redirects(1);
    for (path, locations) in [
        ("/seen", [].as_slice()),
        ("/308", &["/308-again", "/seen"]),
        ("/loop", &["/loop", "/loop"]),
        ("/file", &["file:///etc/passwd"]),
    ] {
        let told = Arc::new(Mutex::new(Vec::new()));
        let noted = told.clone();
        let asking = two.get(running.url(path)).on_redirect(move |response| {
            noted.lock().unwrap().push(response.headers()["location"].clone());
        });
        assert_eq!(asking.send().await.is_ok(), locations.is_empty());
        assert_eq!(*told.lock().unwrap(), locations);
    }
    let response = client.redirects(0).get(running.url("/302")).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn compressed_responses_are_decoded() {
    // "hello hello hello\n", by gzip(1).
    const GZIP: &[u8] = &[
        0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8,
        0x40, 0x90, 0x5c, 0x00, 0x3b, 0x7c, 0x8a, 0xdf, 0x12, 0x00, 0x00, 0x00,
    ];
    let compressed = |headers: HeaderMap| async move {
        match headers.get(ACCEPT_ENCODING) {
            Some(accepted) if accepted.to_str().unwrap().contains("gzip") => {
                ([(CONTENT_ENCODING, "gzip")], Bytes::from_static(GZIP)).into_response()
            }
            _ => "plain".into_response(),
        }
    };
    let broken = || async { ([(CONTENT_ENCODING, "gzip")], "no gzip at all") };
    let router = Router::new().route("/", get(compressed)).route("/broken", get(broken));
    let (running, client) = world(router).await;
    let response = client.get(running.url("/")).send().await.unwrap();
    assert!(!response.headers().contains_key(CONTENT_ENCODING));
    assert_eq!(response.into_body().text().await.unwrap(), "hello hello hello\n");
    let error =
        client.get(running.url("/broken")).send().await.unwrap().into_body().bytes().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Body);
    let cause = error.source().and_then(|cause| cause.downcast_ref::<BodyError>()).unwrap();
    assert_eq!(cause.kind(), BodyErrorKind::Encoding);
    let plain = client.decompress(false).get(running.url("/")).send().await.unwrap();
    assert_eq!(plain.into_body().text().await.unwrap(), "plain");
}

#[tokio::test]
async fn forms_queries_and_users() {
    let seen = |request: AxumRequest| async move {
        let (head, body) = request.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let field =
            |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        [head.uri.to_string(), field(CONTENT_TYPE), field(AUTHORIZATION), body].join("|")
    };
    let (running, client) = world(Router::new().fallback(seen)).await;
    let text = |request: tuyau_http::RequestBuilder| async {
        request.send().await.unwrap().into_body().text().await.unwrap()
    };
    assert_eq!(
        text(client.post(running.url("/")).form([("a", "1 2"), ("ü", "&")])).await,
        "/|application/x-www-form-urlencoded||a=1+2&%C3%BC=%26"
    );
    assert_eq!(text(client.get(running.url("/p?x=1#f")).query([("y", "a b")])).await, "/p?x=1&y=a+b|||");
    assert_eq!(
        text(client.get("http://Aladdin:open%20sesame@svc/")).await,
        "/||Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==|"
    );
    let request = http::Request::get("http://Aladdin:open%20sesame@svc/").body(Body::empty()).unwrap();
    assert_eq!(
        client.request(request).await.unwrap().into_body().text().await.unwrap(),
        "/||Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==|"
    );
    let form = Multipart::with_boundary("xx").text("a", "1").file("f\"", "a.txt", "text/plain", "hello");
    assert_eq!(
        text(client.post(running.url("/")).multipart(form)).await,
        "/|multipart/form-data; boundary=xx||--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n\
         --xx\r\nContent-Disposition: form-data; name=\"f%22\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\
         hello\r\n--xx--\r\n"
    );
}

#[tokio::test]
async fn no_field_is_sent_that_was_given_in_another_way() {
    let seen = |request: AxumRequest| async move {
        let values = |name| {
            let values = request.headers().get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join(",")
        };
        [AUTHORIZATION, CONTENT_TYPE, EXPECT, COOKIE, USER_AGENT, header::HOST].map(values).join("|")
    };
    let (_running, client) = world(Router::new().fallback(seen)).await;
    let client =
        client.header(USER_AGENT, "client".parse().unwrap()).header(AUTHORIZATION, "client".parse().unwrap());
    #[cfg(feature = "cookies")]
    let client = {
        let jar = tuyau_http::Cookies::default();
        let url = url::Url::parse("http://svc/").unwrap();
        jar.with(|jar| drop(jar.parse("jar=1", &url).unwrap()));
        client.cookies(jar)
    };
    let own = |request: tuyau_http::RequestBuilder| {
        let request =
            request.header(AUTHORIZATION, "own").header(CONTENT_TYPE, "own").header(EXPECT, "100-continue");
        request.header(COOKIE, "own").header(USER_AGENT, "own").header(header::HOST, "own")
    };
    let told = |request: tuyau_http::RequestBuilder| request.form([("a", "1")]).expect_continue();
    for request in [own(told(client.post("http://u:p@svc/"))), told(own(client.post("http://u:p@svc/")))] {
        let response = request.send().await.unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), "own|own|100-continue|own|own|own");
    }
    let built = client.get("http://u:p@svc/").build().unwrap();
    let jar = if cfg!(feature = "cookies") { "jar=1" } else { "" };
    assert_eq!(
        client.request(built).await.unwrap().into_body().text().await.unwrap(),
        format!("Basic dTpw|||{jar}|client|svc")
    );
}

#[cfg(feature = "cookies")]
#[tokio::test]
async fn cookies_are_kept_and_sent() {
    use http::header::COOKIE;
    use tuyau_http::Cookies;
    let set = || async { ([("set-cookie", "a=1; Path=/")], Redirect::to("/get")) };
    let got = |headers: HeaderMap| async move {
        headers.get(COOKIE).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    let (_running, client) = world(Router::new().route("/set", get(set)).route("/get", get(got))).await;
    let client = client.cookies(Cookies::default());
    let text = |url: &'static str| {
        let client = client.clone();
        async move { client.get(url).send().await.unwrap().into_body().text().await.unwrap() }
    };
    assert_eq!(text("http://a.test/get").await, "");
    assert_eq!(text("http://a.test/set").await, "a=1");
    assert_eq!(text("http://a.test/get").await, "a=1");
    assert_eq!(text("http://b.test/get").await, "");
}

#[tokio::test]
async fn where_content_is_expected_none_has_a_length_too() {
    let seen = |headers: HeaderMap| async move { format!("{:?}", headers.get(CONTENT_LENGTH)) };
    for version in [Versions::Http1, Versions::Http2] {
        let running = run(MEMORY, version, Server::new(Router::new().fallback(seen))).await;
        let client = running.client().versions(version);
        let text = |request: tuyau_http::RequestBuilder| async {
            request.send().await.unwrap().into_body().text().await.unwrap()
        };
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            let asking = client.method(method.clone(), running.url("/"));
            assert_eq!(text(asking).await, "Some(\"0\")", "{version:?} {method}");
        }
        for method in [Method::GET, Method::DELETE] {
            let asking = client.method(method.clone(), running.url("/"));
            assert_eq!(text(asking).await, "None", "{version:?} {method}");
        }
        let upgrading =
            client.post(running.url("/")).header(header::UPGRADE, "x").header(header::CONNECTION, "upgrade");
        if version == Versions::Http1 {
            assert_eq!(text(upgrading).await, "None");
            assert_eq!(text(client.method(Method::OPTIONS, running.url("/"))).await, "None");
        }
    }
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_is_refused() {
    let nowhere = Client::new(Context::new());
    for (length, body, says) in [
        ("3", "abcdef", "Content-Length says 3, and the body has 6 bytes"),
        ("9", "abcdef", "Content-Length says 9, and the body has 6 bytes"),
        ("1", "", "Content-Length says 1, and the body has 0 bytes"),
        ("+6", "abcdef", "Content-Length says `+6`, which is no length"),
        ("", "", "Content-Length says ``, which is no length"),
        ("6, 6", "abcdef", "Content-Length says `6, 6`, which is no length"),
    ] {
        let asking = nowhere.post("http://svc/").header(CONTENT_LENGTH, length).body(body);
        let error = asking.send().await.unwrap_err();
        assert_eq!(error.to_string(), format!("http://svc/: bad request: {says}"));
        let (ours, mut theirs) = duplex();
        let mut sender = handshake(ours, Versions::Http1).await.unwrap();
        let request = http::Request::post("http://svc/").header(CONTENT_LENGTH, length);
        let error = sender.send(request.body(Body::from(body)).unwrap()).await.unwrap_err();
        assert_eq!((error.stage(), error.to_string().ends_with(says)), (Stage::Request, true), "{error}");
        drop(sender);
        assert_eq!(rest(&mut theirs).await, "");
    }
    let (running, client) = world(router()).await;
    let right = client.post(running.url("/length")).header(CONTENT_LENGTH, "006").body("abcdef");
    assert_eq!(right.send().await.unwrap().into_body().text().await.unwrap(), "6");
    // How long it is, only the field says.
    let (send, body) = sent();
    send.send(http_body::Frame::data(Bytes::from_static(b"abc"))).unwrap();
    drop(send);
    let stream = client.post(running.url("/length")).header(CONTENT_LENGTH, "3").body(body);
    assert_eq!(stream.send().await.unwrap().into_body().text().await.unwrap(), "3");
}

#[tokio::test(start_paused = true)]
async fn each_stage_has_its_time_and_its_name() {
    let second = Duration::from_secs(1);
    let url = "http://svc/path?secret";
    let fails = |client: Client, seconds: u64| async move {
        let before = Instant::now();
        let error = client.get(url).send().await.unwrap_err();
        assert_eq!(before.elapsed().as_secs(), seconds, "{error}");
        assert!(error.to_string().starts_with("http://svc/path: "), "{error}");
        error
    };
    // Nothing to connect to, and nobody there.
    let error = fails(Client::new(Context::new()), 0).await;
    assert_eq!(error.stage(), Stage::Resolve);
    assert!(error.to_string().contains("bind `STACKS`"), "{error}");
    let nobody = Context::new().with(&MEM_HUB, MemHub::new()).with(&MEM_NAME, "x".into());
    let nobody = derivations(nobody).offer(&MEM);
    let error = fails(Client::new(nobody), 0).await;
    assert_eq!(error.stage(), Stage::Connect);
    assert_eq!(error.resolution().unwrap().kind(), ConnectErrorKind::Refused);
    assert!(format!("{error:?}").contains("nobody listens"), "{error:?}");
    // A connection that does not come about.
    let hanging = Client::new(Context::from_fn(std::future::pending));
    let error = fails(hanging.clone().connect_timeout(Some(5 * second)), 5).await;
    assert_eq!((error.stage(), error.is_timeout()), (Stage::Connect, true));
    assert!(fails(hanging.timeout(Some(3 * second)), 3).await.is_timeout());
    // A server that does not answer.
    let silent = scripted(|mut flow: Flow| async move { drop(rest(&mut flow).await) });
    let error = fails(silent.first_byte_timeout(Some(7 * second)), 7).await;
    assert_eq!((error.stage(), error.is_timeout()), (Stage::Wait, true));
    // One that hangs up.
    let gone = scripted(|mut flow: Flow| async move { drop(head(&mut flow).await) });
    assert_eq!(fails(gone, 0).await.stage(), Stage::Wait);
    // One that stalls in the middle of a body.
    let stalls = |mut flow: Flow| async move {
        head(&mut flow).await;
        flow.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
        std::future::pending().await
    };
    for (client, seconds) in [
        (scripted(stalls).idle_timeout(Some(4 * second)), 4),
        (scripted(stalls).timeout(Some(9 * second)), 9),
    ] {
        let before = Instant::now();
        let error = client.get(url).send().await.unwrap().into_body().bytes().await.unwrap_err();
        assert_eq!((error.stage(), before.elapsed().as_secs()), (Stage::Body, seconds));
    }
}

#[tokio::test]
async fn whose_fault_a_bad_answer_is_shows() {
    for (answer, says) in [
        ("HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", "answered against the rules of HTTP"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "answered against the rules of HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "closed the connection before the end of its answer"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", "closed the connection"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc", "closed the connection"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "sent it against the rules of HTTP",
        ),
    ] {
        let client = scripted(move |mut flow: Flow| async move {
            head(&mut flow).await;
            flow.write_all(answer.as_bytes()).await.unwrap();
            flow.shutdown().await.unwrap();
        });
        let told = match client.get("http://svc/").send().await {
            Err(error) => format!("{error:?}"),
            Ok(response) => format!("{:?}", response.into_body().bytes().await.unwrap_err()),
        };
        assert!(told.contains(&format!(": memory {says}")), "{answer:?}: {told}");
    }
}

#[tokio::test]
async fn who_answers_before_the_end_of_the_request_and_goes_is_heard() {
    const TIMES: usize = 20;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // In a thread of its own: it goes while the client is writing.
    let server = std::thread::spawn(move || {
        for time in 0..=TIMES {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 1024]).unwrap();
            if time < TIMES {
                stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig").unwrap();
            }
            // Closed with the rest of the request unread, it is reset.
        }
    });
    let client = Client::new(derivations(Context::new()).offer(&TCP));
    let post = || client.post(&url).body(vec![b'x'; 20 << 20]).send();
    for _ in 0..TIMES {
        let response = post().await.unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.into_body().text().await.unwrap(), "big");
    }
    // And whoever says nothing.
    let error = format!("{:?}", post().await.unwrap_err());
    assert!(error.contains("hung up without an answer"), "{error}");
    server.join().unwrap();
}

#[tokio::test]
async fn a_request_that_comes_too_late_for_its_connection() {
    for (versions, goodbye) in [
        (Versions::Http1, &b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"[..]),
        // SETTINGS, and GOAWAY.
        (Versions::Http2, b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ] {
        let (ours, mut theirs) = duplex();
        theirs.write_all(goodbye).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut sender = handshake(ours, versions).await.unwrap();
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
        let error =
            sender.send(http::Request::get("http://svc/").body(Body::empty()).unwrap()).await.unwrap_err();
        assert_eq!(error.stage(), Stage::Send, "{versions:?}");
        assert!(format!("{error:?}").contains("was closed before the request was sent"), "{error:?}");
    }
}

#[tokio::test]
async fn what_main_returns_tells_each_cause_once() {
    let port = tuyau_testing::dead_port();
    let error = Client::new(derivations(Context::new()).offer(&TCP)).get(format!("http://127.0.0.1:{port}/"));
    let printed = format!("{:?}", error.send().await.expect_err("nobody is there"));
    assert_eq!(printed.matches("os error").count(), 1, "{printed}");
}

#[tokio::test]
async fn what_is_no_url_of_http_is_refused() {
    let client = Client::new(Context::new());
    for url in ["", "svc", "ftp://svc/", "http://", "/path"] {
        let error = client.get(url).send().await.unwrap_err();
        assert_eq!(error.stage(), Stage::Request, "{url}: {error}");
    }
    // What was parsed by others, who are less strict: it must not be taken for port 80.
    for url in ["http://svc:b/", "http://u@svc:99999/", "http://[::1]:x/"] {
        let request = http::Request::get(url).body(Body::empty()).unwrap();
        let error = client.request(request).await.unwrap_err();
        assert_eq!(error.stage(), Stage::Request, "{url}: {error}");
    }
    for url in ["http://svc:/", "http://u@[::1]:80/", "http://u:p@svc/"] {
        let request = http::Request::get(url).body(Body::empty()).unwrap();
        assert_eq!(client.request(request).await.unwrap_err().stage(), Stage::Resolve, "{url}");
    }
}

#[tokio::test]
async fn https_is_never_sent_in_clear() {
    let (running, client) = world(router()).await;
    let error = client.get("https://svc/").send().await.unwrap_err();
    assert_eq!(error.stage(), Stage::Resolve);
    assert_eq!(error.resolution().unwrap().kind(), ConnectErrorKind::Policy);
    // Nor is it by a redirect from what may be.
    let from = Router::new().route("/", get(|| async { Redirect::temporary("https://svc/") }));
    let (_running, client) = world(from).await;
    assert!(client.get("http://svc/").send().await.is_err());
    assert_eq!(running.end().await.requests, 0);
}

#[tokio::test]
async fn a_url_becomes_values_of_the_context_and_a_hook_chooses_the_stack() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let ctx = derivations(Context::new()).with(
        &STACKS,
        Stacks::new(move |scheme, ctx| {
            noted.lock().unwrap().push(scheme);
            ctx.offer(&TCP)
        }),
    );
    let plan = |ctx: &Context| ctx.plan().to_string();
    assert!(!plan(&ctx).contains("tcp"));
    let client = Client::new(ctx.clone());
    let error = client.get("http://127.0.0.1:1/").send().await.unwrap_err();
    assert_eq!(
        (error.stage(), error.resolution().unwrap().kind()),
        (Stage::Connect, ConnectErrorKind::Refused)
    );
    assert!(client.get("https://[::1]:1/").send().await.is_err());
    assert_eq!(*asked.lock().unwrap(), [Scheme::Http, Scheme::Https]);
    // As values, for derivations.
    static SAID: tuyau_core::Key<String> = tuyau_core::Key::new("said");
    let said = Arc::new(Mutex::new(None));
    let heard = said.clone();
    let ctx = Context::new()
        .derive(
            &MEM,
            (tuyau_core::req(&HOST), tuyau_core::req(&PORT), tuyau_core::is(&SCHEME, Scheme::Http)),
            move |(host, port, ())| {
                *heard.lock().unwrap() = Some(format!("{host} {port}"));
                async { Err::<tuyau_tokio::MemEndpoint, _>(tuyau_core::decline("only asking")) }
            },
        )
        .with(&SAID, String::new())
        .offer(&MEM);
    assert!(Client::new(ctx).get("http://[::1]/").send().await.is_err());
    assert_eq!(said.lock().unwrap().as_deref(), Some("::1 80"));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_held_back_until_it_is_wanted() {
    let wants = scripted(|mut flow: Flow| async move {
        assert!(head(&mut flow).await.contains("expect: 100-continue"));
        flow.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            .await
            .unwrap();
        let mut body = [0; 4];
        flow.read_exact(&mut body).await.unwrap();
        flow.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
        flow.write_all(&body).await.unwrap();
    });
    let before = Instant::now();
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = told.clone();
    let request = wants.post("http://svc/").body("body").expect_continue();
    let request = request.on_informational(move |status, headers| {
        noted.lock().unwrap().push((status.as_u16(), headers.len()));
    });
    let text = request.send().await.unwrap().into_body().text().await.unwrap();
    assert_eq!((text.as_str(), before.elapsed()), ("body", Duration::ZERO));
    assert_eq!(*told.lock().unwrap(), [(103, 1), (100, 0)]);
    // Whoever does not know of it gets it after a second, whoever refuses does not.
    let (running, client) = world(router()).await;
    let response = client.post(running.url("/length")).body("body").expect_continue().send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "4");
    let refuses = scripted(|mut flow: Flow| async move {
        head(&mut flow).await;
        flow.write_all(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(rest(&mut flow).await, "");
    });
    let response = refuses.post("http://svc/").body("body").expect_continue().send().await.unwrap();
    assert_eq!(response.status(), 417);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_a_slow_answer() {
    let (running, client) = world(router()).await;
    let client = client.first_byte_timeout(Some(Duration::from_secs(10)));
    let (send, body) = sent();
    let uploading = tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(8)).await;
            send.send(http_body::Frame::data(Bytes::from_static(&[0; 8192]))).unwrap();
        }
    });
    let response = client.post(running.url("/length")).body(body).send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "40960");
    uploading.await.unwrap();
}

#[tokio::test]
async fn a_request_of_ones_own_is_sent_as_it_is() {
    let (running, client) = world(router()).await;
    let request = http::Request::post(running.url("/echo")).body(String::from("mine")).unwrap();
    assert_eq!(client.request(request).await.unwrap().into_body().text().await.unwrap(), "mine");
    let same = Body::new(Body::from("x"));
    assert!(same.try_clone().is_some(), "it is still known to be bytes");
}
