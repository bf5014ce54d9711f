//! Connections that stop being HTTP's.

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::{any, get};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tuyau_core::Context;
use tuyau_core::names::PEER;
use tuyau_http::{Body, Client, Incoming, Server, Versions, handshake, upgrade};
use tuyau_tokio::{MemHub, duplex};

use crate::support::{rest, router};

/// Answers CONNECT, and says back what it is sent, in capitals.
async fn tunnel(mut request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
    let mut response = Response::new(Body::empty());
    if request.method() != Method::CONNECT {
        if request.headers().get(UPGRADE).is_none() {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(response);
        }
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("shout"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    tokio::spawn(async move {
        let mut flow = upgrade(&mut request).await.unwrap();
        assert!(flow.fact(&PEER).is_some(), "the facts are the connection's");
        let mut bytes = [0; 1024];
        while let Ok(n @ 1..) = flow.read(&mut bytes).await {
            bytes[..n].make_ascii_uppercase();
            flow.write_all(&bytes[..n]).await.unwrap();
        }
        flow.shutdown().await.unwrap();
    });
    Ok(response)
}

#[tokio::test]
async fn connect_over_both_versions() {
    let hub = MemHub::new();
    let server = Server::new(tower::service_fn(tunnel)).listen(hub.listen("s").unwrap());
    let serving = tokio::spawn(server.serve());
    for versions in [Versions::Http1, Versions::Http2] {
        let mut sender = handshake(hub.connect("s").await.unwrap(), versions).await.unwrap();
        let request = Request::connect("far.test:443").body(Body::empty()).unwrap();
        let mut response = sender.send(request).await.unwrap();
        assert_eq!(response.status(), 200, "{versions:?}");
        let mut flow = upgrade(&mut response).await.unwrap();
        flow.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        flow.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HELLO");
        flow.shutdown().await.unwrap();
        assert_eq!(flow.read(&mut got).await.unwrap(), 0);
    }
    serving.abort();
}

#[tokio::test]
async fn an_upgrade_keeps_what_came_with_the_request() {
    let (mut client, server) = duplex();
    let served = tokio::spawn(tuyau_http::serve_flow(server, tower::service_fn(tunnel)));
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nearly ")
        .await
        .unwrap();
    client.write_all(b"late").await.unwrap();
    client.shutdown().await.unwrap();
    let text = rest(&mut client).await;
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("EARLY LATE"), "{text}");
    assert!(served.await.unwrap().unwrap().upgraded);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_was_taken_over_has_no_limits() {
    let hub = MemHub::new();
    let serving =
        tokio::spawn(Server::new(tower::service_fn(tunnel)).listen(hub.listen("s").unwrap()).serve());
    for versions in [Versions::Http1, Versions::Http2] {
        let mut sender = handshake(hub.connect("s").await.unwrap(), versions).await.unwrap();
        let request = Request::connect("far.test:443").body(Body::empty()).unwrap();
        let mut flow = upgrade(&mut sender.send(request).await.unwrap()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
        flow.write_all(b"x").await.unwrap();
        let mut got = [0; 1];
        flow.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"X", "{versions:?}");
    }
    serving.abort();
}

/// Nor does the client take the connection for idle.
#[tokio::test(start_paused = true)]
async fn a_tunnel_over_a_pooled_connection_is_use_of_it() {
    let ctx = Context::from_fn(|| {
        let (ours, theirs) = duplex();
        tokio::spawn(tuyau_http::serve_flow(theirs, tower::service_fn(tunnel)));
        async { Ok(ours) }
    });
    let client = Client::new(ctx).versions(Versions::Http2);
    let mut request = Request::connect("http://far.test/").body(Body::empty()).unwrap();
    request.extensions_mut().insert(tuyau_http::Protocol::from_static("shout"));
    // The server's settings come before its first response.
    assert_eq!(client.get("http://far.test/").send().await.unwrap().status(), 404);
    let mut response = client.request(request).await.unwrap();
    let mut flow = upgrade(&mut response).await.unwrap();
    drop(response);
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    flow.write_all(b"x").await.unwrap();
    let mut got = [0; 1];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"X");
}

pub(crate) fn chat() -> Router {
    let chat = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    };
    router().route("/chat", any(chat)).route("/plain", get(|| async { "plain" }))
}

#[tokio::test]
async fn websockets_of_axum_over_both_versions() {
    let hub = MemHub::new();
    let serving = tokio::spawn(Server::new(chat()).listen(hub.listen("s").unwrap()).serve());
    websockets(&hub, "s").await;
    serving.abort();
}

/// Over HTTP/1, and by a stream of HTTP/2 (RFC 8441), with whoever listens there.
pub(crate) async fn websockets(hub: &MemHub, name: &str) {
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};
    let flow = hub.connect(name).await.unwrap();
    let (socket, response) = tokio_tungstenite::client_async("ws://svc/chat", flow).await.unwrap();
    assert_eq!(response.status(), 101);
    websocket(socket, Message::text("hello")).await;

    let mut sender = handshake(hub.connect(name).await.unwrap(), Versions::Http2).await.unwrap();
    // The server's settings, that it allows them, come before its first response.
    let request = Request::get("http://svc/plain").body(Body::empty()).unwrap();
    assert_eq!(sender.send(request).await.unwrap().into_body().text().await.unwrap(), "plain");
    let mut request = Request::connect("http://svc/chat").body(Body::empty()).unwrap();
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    request.extensions_mut().insert(tuyau_http::Protocol::from_static("websocket"));
    let mut response = sender.send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let flow = upgrade(&mut response).await.unwrap();
    let socket = tokio_tungstenite::WebSocketStream::from_raw_socket(flow, Role::Client, None).await;
    websocket(socket, Message::text("hello")).await;
}

async fn websocket<S>(
    mut socket: tokio_tungstenite::WebSocketStream<S>,
    message: tokio_tungstenite::tungstenite::Message,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use std::pin::Pin;
    use tokio_stream::StreamExt;
    std::future::poll_fn(|cx| futures_sink::Sink::poll_ready(Pin::new(&mut socket), cx)).await.unwrap();
    futures_sink::Sink::start_send(Pin::new(&mut socket), message.clone()).unwrap();
    std::future::poll_fn(|cx| futures_sink::Sink::poll_flush(Pin::new(&mut socket), cx)).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), message);
}
