//! The examples of the OCaml library that this one follows, in our form.

use std::future::ready;

use axum::Router;
use axum::routing::get;
use http::{Request, Version};
use tuyau_core::names::{ALPN, HOST, PORT};
use tuyau_core::{ConnectCx, Context, Net, Target};
use tuyau_http::{Body, Client, Http, Server, Versions, handshake, serve_flow};
use tuyau_testing::Place;
use tuyau_tls::Backend;
use tuyau_tokio::{Host, UNIX, UnixEndpoint, duplex, host};

use crate::support::{Below, Stack, reach, router, run, says};

/// An HTTP service: a port, a handler, an error handler, and `serve`.
#[tokio::test]
async fn an_http_service() {
    let service = Server::new(router()).on_error(|refused| {
        http::Response::builder().status(refused.status()).body("sorry".into()).expect("a response")
    });
    let running = run(Stack { below: Below::Tcp, tls: None }, Versions::Http1, service).await;
    let response = running.client().get(running.url("/")).send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "hello");
    assert_eq!(running.end().await.requests, 1);
}

/// An HTTPS service.
#[tokio::test]
async fn an_https_service() {
    let stack = Stack { below: Below::Tcp, tls: Some(Backend::Rustls) };
    let running = run(stack, Versions::Http1, Server::new(router())).await;
    let response = running.client().get(running.url("/facts")).send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "HTTP/1.1 Some(\"main\") encrypted http/1.1");
}

/// `Alpn.service`: one handler for HTTP/1.0, HTTP/1.1 and HTTP/2, chosen by what ALPN agreed on.
#[tokio::test]
async fn one_handler_for_whatever_alpn_agrees_on() {
    let stack = Stack { below: Below::Tcp, tls: Some(Backend::OpenSsl) };
    let running = run(stack, Versions::All, Server::new(router())).await;
    for (versions, text) in [
        (Versions::All, "HTTP/2.0 Some(\"main\") encrypted h2"),
        (Versions::Http1, "HTTP/1.1 Some(\"main\") encrypted http/1.1"),
        (Versions::Http2, "HTTP/2.0 Some(\"main\") encrypted h2"),
    ] {
        let client = running.client().versions(versions);
        let response = client.get(running.url("/facts")).send().await.unwrap();
        assert_eq!(response.into_body().text().await.unwrap(), text);
    }
}

/// A client over a Unix socket, by an endpoint as a value: `Mimic.add unix_domain_socket path Mimic.empty`.
#[tokio::test]
async fn a_client_over_a_unix_socket() {
    let place = Place::new();
    let target = Target::path(place.path("my_domain.sock"));
    let cx = ConnectCx::new(&Context::new()).unwrap();
    let listener = Host::new().listen(&target, &cx).await.unwrap();
    let serving = tokio::spawn(Server::new(router()).listen(listener).serve());
    let ctx = Context::new().with(&UNIX, UnixEndpoint { net: host(), target }).offer(&UNIX);
    let response = Client::new(ctx).get("http://my.domain/").send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "hello");
    serving.abort();
}

/// `Alpn.run`: a client on a flow that one has, of the version that ALPN agreed on; it dials nothing.
#[tokio::test]
async fn a_client_whose_alpn_picks_the_version() {
    for (alpn, version) in
        [("h2", Version::HTTP_2), ("http/1.1", Version::HTTP_11), ("http/1.0", Version::HTTP_11)]
    {
        let (ours, theirs) = duplex();
        let serving = tokio::spawn(serve_flow(says(theirs, alpn), router()));
        let mut sender = handshake(says(ours, alpn), Versions::All).await.unwrap();
        let request = Request::get("http://svc/").body(Body::empty()).unwrap();
        let response = sender.send(request).await.unwrap();
        assert_eq!((response.version(), sender.version()), (version, version));
        assert_eq!(response.into_body().text().await.unwrap(), "hello");
        drop(sender);
        assert_eq!(serving.await.unwrap().unwrap().requests, 1);
    }
    // As TLS agreed on it.
    for (backend, spoken, version) in [
        (Backend::Rustls, "h2", Version::HTTP_2),
        (Backend::Rustls, "http/1.1", Version::HTTP_11),
        (Backend::OpenSsl, "h2", Version::HTTP_2),
        (Backend::OpenSsl, "http/1.1", Version::HTTP_11),
    ] {
        let (listener, ctx, port) = reach(Stack { below: Below::Tcp, tls: Some(backend) }, &[spoken]).await;
        let serving = tokio::spawn(Server::new(router()).listen(listener).serve());
        let alpn: std::sync::Arc<[Vec<u8>]> = [b"h2".to_vec(), b"http/1.1".to_vec()].into();
        let ctx = ctx.with(&HOST, "127.0.0.1".into()).with(&PORT, port).with(&ALPN, alpn);
        let mut sender = handshake(ctx.resolve().await.unwrap().into_flow(), Versions::All).await.unwrap();
        let request = Request::get("https://svc.test/").body(Body::empty()).unwrap();
        let response = sender.send(request).await.unwrap();
        assert_eq!(response.version(), version, "{backend:?}");
        assert_eq!(response.into_body().text().await.unwrap(), "hello");
        serving.abort();
    }
    let (ours, _theirs) = duplex();
    let error = handshake(says(ours, "spdy/3"), Versions::All).await.unwrap_err();
    assert_eq!(error.stage(), tuyau_http::Stage::Handshake);
}

/// `ctx` of a flow that one makes oneself.
#[tokio::test]
async fn the_smallest_client_and_the_smallest_server() {
    let ctx = Context::from_fn(|| {
        let (ours, theirs) = duplex();
        let router = Router::<()>::new().route("/", get(|| ready("hi")));
        tokio::spawn(async move { Http::new().serve_flow(theirs, router).await });
        async { Ok(ours) }
    });
    let response = Client::new(ctx).get("http://anything/").send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "hi");
}

/// A client that sends nothing to a server that is not who it should be.
#[tokio::test]
async fn a_server_that_is_not_who_it_should_be() {
    let (listener, ctx, port) = reach(Stack { below: Below::Tcp, tls: Some(Backend::Rustls) }, &["h2"]).await;
    let serving = tokio::spawn(Server::new(router()).listen(listener).serve());
    let ctx = ctx.with(&tuyau_core::names::SERVER_NAME, "other.test".into());
    let error = Client::new(ctx).get(format!("https://127.0.0.1:{port}/")).send().await.unwrap_err();
    assert_eq!(error.resolution().unwrap().kind(), tuyau_core::ConnectErrorKind::Verification);
    serving.abort();
}
