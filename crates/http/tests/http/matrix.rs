//! The same handlers and the same checks, per version, transport and TLS backend.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, Version};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tuyau_http::{Body, Server, Versions};

use crate::support::{Stack, router, run, stacks};

/// A body of what a test sends.
pub(crate) struct Sent(pub(crate) mpsc::UnboundedReceiver<Frame<Bytes>>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

pub(crate) fn sent() -> (mpsc::UnboundedSender<Frame<Bytes>>, Body) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Body::new(Sent(receive)))
}

async fn checks(stack: Stack, version: Versions) {
    let running = run(stack, version, Server::new(router())).await;
    let client = running.client().versions(version);
    let url = |path: &str| running.url(path);
    let spoken = if version == Versions::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };

    // A response with a length, of the version, over what the facts say.
    let response = client.get(url("/")).send().await.unwrap();
    assert_eq!((response.status(), response.version()), (StatusCode::OK, spoken));
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(response.into_body().text().await.unwrap(), "hello");
    let facts = client.get(url("/facts")).send().await.unwrap().into_body().text().await.unwrap();
    let (security, alpn) = match (stack.tls, version) {
        (None, _) => ("clear", "none"),
        (Some(_), Versions::Http2) => ("encrypted", "h2"),
        (Some(_), _) => ("encrypted", "http/1.1"),
    };
    assert_eq!(facts, format!("{spoken:?} Some(\"main\") {security} {alpn}"));

    // No body where there must be none; what is not there.
    let response = client.head(url("/")).send().await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert_eq!(response.into_body().bytes().await.unwrap(), "");
    assert_eq!(client.get(url("/nowhere")).send().await.unwrap().status(), 404);

    // Large, both ways.
    let large: Bytes = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let response = client.post(url("/echo")).body(large.clone()).send().await.unwrap();
    assert!(response.into_body().bytes().await.unwrap() == large);

    // Piece by piece, both ways, and trailers.
    let (send, body) = sent();
    send.send(Frame::data("one".into())).unwrap();
    let trailers = HeaderName::from_static("trailer");
    let te = HeaderName::from_static("te");
    let request = client.post(url("/echo")).header(trailers, "x-sum").header(te, "trailers").body(body);
    let mut response = request.send().await.unwrap().into_body();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    send.send(Frame::data("two".into())).unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    let sum = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), "6".parse().unwrap())]);
    send.send(Frame::trailers(sum)).unwrap();
    drop(send);
    if version == Versions::Http2 {
        let trailers = response.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["x-sum"], "6");
    }
    assert!(response.frame().await.is_none());

    // Many at once.
    let many = (0..20).map(|i| {
        let request = client.post(url("/echo")).body(format!("{i}"));
        tokio::spawn(async move { request.send().await.unwrap().into_body().text().await.unwrap() })
    });
    for (i, text) in many.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(text.await.unwrap(), format!("{i}"));
    }
    drop(client);
    let report = running.end().await;
    assert_eq!((report.connections.aborted, report.failed, report.refused), (0, 0, 0), "{report}");
    assert_eq!(report.requests, 26, "{report}");
}

#[tokio::test]
async fn http1_over_everything() {
    for stack in stacks() {
        println!("{stack:?}");
        checks(stack, Versions::Http1).await;
    }
}

#[tokio::test]
async fn http2_over_everything() {
    for stack in stacks() {
        println!("{stack:?}");
        checks(stack, Versions::Http2).await;
    }
}
