//! What proxies make of messages that want to be taken for something else, byte by byte.

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::routing::any;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tuyau_core::Context;
use tuyau_http::proxy::Forward;
use tuyau_http::{Body, Client, Protocol, Versions, handshake};
use tuyau_tokio::MemHub;

use crate::proxy::{failure, listen, noting, reverse, says, to};
use crate::support::router;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A body whose length nobody knows.
fn stream(frames: impl IntoIterator<Item = Frame<Bytes>>) -> Body {
    let frames: Vec<_> = frames.into_iter().map(Ok::<_, std::io::Error>).collect();
    Body::new(StreamBody::new(tokio_stream::iter(frames)))
}

/// The server says one thing, and its client is told another, or 502.
#[tokio::test]
async fn responses() {
    let passed = |fields: &str, rest: &str| format!("HTTP/1.1 200 OK {fields} {rest}");
    for (said, told) in [
        // Lengths that do not count, or are the same.
        (
            "200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            passed("", "ok"),
        ),
        (
            "200 OK\r\nContent-Length: 1\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nok\r\n0\r\n\r\n",
            passed("", "ok"),
        ),
        ("200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", passed("content-length: 2", "ok")),
        ("200 OK\r\nContent-Length: 2, 2\r\n\r\nok", passed("content-length: 2", "ok")),
        ("200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", passed("content-length: 2", "ok")),
        ("200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "502".into()),
        ("200 OK\r\nContent-Length: +2\r\n\r\nok", "502".into()),
        ("200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", passed("", "ok")),
        // A body that nobody could decode.
        ("200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", "502".into()),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502".into()),
        ("200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502".into()),
        // What was not asked for, and what is no response.
        ("101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "502".into()),
        (
            "103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            passed("content-length: 2", "ok"),
        ),
        ("200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "502".into()),
        ("200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", "502".into()),
        ("099 X\r\nContent-Length: 2\r\n\r\nok", "502".into()),
        ("204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 204 No Content  ".into()),
    ] {
        let said: &'static str = format!("HTTP/1.1 {said}").leak();
        let answer = says(reverse(noting(said).0), GET).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        let fields: Vec<_> =
            lines.filter(|line| line.starts_with("content-length") || line.starts_with("x")).collect();
        let body = match head.contains("transfer-encoding: chunked") {
            true => body.split("\r\n").nth(1).unwrap_or_default(),
            false => body,
        };
        let answer = match status.strip_prefix("HTTP/1.1 502 ") {
            Some(_) => "502".into(),
            None => format!("{status} {} {body}", fields.join(" ")),
        };
        assert_eq!(answer, told, "{said}");
    }
}

/// Why, a log is told.
#[tokio::test]
async fn what_was_not_asked_for_is_named() {
    for (said, why) in [
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "switched protocols",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", "encoded for transfer by `gzip`"),
    ] {
        let (status, error) = failure(reverse(noting(said).0), "http://a/", Body::empty()).await;
        let error = error.unwrap().to_string();
        assert!(status == StatusCode::BAD_GATEWAY && error.contains(why), "{status} {error}");
    }
}

#[tokio::test]
async fn trailers_frame_nothing_and_are_for_nobody_on_the_way() {
    let said = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nConnection: close\r\n\
                Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nKeep-Alive: x\r\n\r\n";
    let hub = MemHub::new();
    listen(&hub, "proxy", reverse(noting(said).0));
    let client = Client::new(to(&hub, "proxy")).versions(Versions::Http2);
    let body = client.get("http://a/").send().await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(
        body.trailers().unwrap(),
        &HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())])
    );
    assert_eq!(body.to_bytes(), "ok");
}

#[tokio::test]
async fn what_a_request_says_of_the_connection_is_right() {
    let asked = |fields: &str| GET.replace("Connection: close\r\n", fields);
    for (fields, here, not_here) in [
        ("Connection: close, te\r\nTE: trailers\r\n", "connection: te\r\n", "close"),
        ("Connection: close, upgrade\r\nUpgrade: h2c, shout\r\n", "upgrade: shout\r\n", "h2c"),
        ("Connection: close, upgrade\r\nUpgrade: h2c\r\n", "host: a\r\n", "upgrade"),
        ("Connection: close, upgrade\r\nUpgrade: h2c\r\nUpgrade: h2c\r\n", "host: a\r\n", "upgrade"),
        (
            "Connection: close\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
            "content-length: 0\r\n",
            "0\r\ncontent-length",
        ),
    ] {
        let (ctx, noted) = noting("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        says(reverse(ctx), &asked(fields)).await;
        let head = noted.lock().unwrap().remove(0).to_lowercase();
        assert!(head.contains(here) && !head.contains(not_here), "{fields}: {head}");
    }
}

/// Of a URL, and over HTTP/2 before a fragment, there may be no path.
#[tokio::test]
async fn a_target_begins_with_its_slash() {
    let hub = MemHub::new();
    listen(
        &hub,
        "server",
        Router::<()>::new()
            .fallback(any(|url: Uri| async move { format!("{}?{:?}", url.path(), url.query()) })),
    );
    for version in [Versions::Http1, Versions::Http2] {
        for (path, target) in [("#x", "/?None"), ("?q", "/?Some(\"q\")"), ("/x?q", "/x?Some(\"q\")")] {
            let mut sender = handshake(hub.connect("server").await.unwrap(), version).await.unwrap();
            let path: PathAndQuery = path.parse().unwrap();
            let url = Uri::builder().scheme("http").authority("a").path_and_query(path).build().unwrap();
            let response = sender.send(Request::get(url).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), target, "{version:?}");
        }
    }
}

/// A method that seldom has a body may have one; how long it is, nobody needs to know.
#[tokio::test]
async fn no_body_is_lost() {
    async fn told(request: AxumRequest) -> String {
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap();
        let trailers = body.trailers().map_or(0, HeaderMap::len);
        format!("{method} {} {trailers}", body.to_bytes().len())
    }
    let hub = MemHub::new();
    listen(&hub, "server", Router::<()>::new().fallback(any(told)));
    for (far, near) in [Versions::Http1, Versions::Http2]
        .map(|far| [(far, Versions::Http1), (far, Versions::Http2)])
        .concat()
    {
        let name = format!("{far:?} {near:?}");
        let client = Client::new(to(&hub, "server")).versions(far);
        listen(&hub, &name, tuyau_http::proxy::Reverse::new(client, "http://a".parse().unwrap()));
        for method in ["GET", "POST", "DELETE", "REPORT"] {
            let body = stream([Frame::data("abc".into()), Frame::data("de".into())]);
            let client = Client::new(to(&hub, &name)).versions(near);
            let response =
                client.method(method.parse().unwrap(), "http://a/").body(body).send().await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), format!("{method} 5 0"), "{name}");
        }
    }
}

/// RFC 8441: to a client of HTTP/2 any 2xx would be a WebSocket.
#[tokio::test]
async fn a_websocket_that_is_none_is_told_to_be_none() {
    let hub = MemHub::new();
    listen(&hub, "server", router());
    let forbidden = noting("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").0;
    for (ctx, status) in [(to(&hub, "server"), 502), (forbidden, 403)] {
        let name = format!("proxy {status}");
        listen(&hub, &name, reverse(ctx));
        let mut sender = handshake(hub.connect(&name).await.unwrap(), Versions::Http2).await.unwrap();
        let mut request = Request::connect("http://a/").body(Body::empty()).unwrap();
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        assert_eq!(sender.send(request).await.unwrap().status(), status);
    }
}

/// A forward proxy goes where the target says, whatever else is said.
#[tokio::test]
async fn whom_to_ask_is_said_once() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let forward = |ctx: Context| Forward::new(Client::new(ctx));
    let (ctx, noted) = noting(ok);
    says(forward(ctx), &GET.replace(" / ", " http://b/ ")).await;
    assert!(noted.lock().unwrap()[0].contains("host: b\r\n"), "{noted:?}");
    for target in ["http://u:p@b/", "http://b:x/", "http://b:99999/"] {
        let (ctx, noted) = noting(ok);
        let said = says(forward(ctx), &GET.replace(" / ", &format!(" {target} "))).await;
        assert!(said.starts_with("HTTP/1.1 400 ") && noted.lock().unwrap().is_empty(), "{target}: {said}");
    }
}
