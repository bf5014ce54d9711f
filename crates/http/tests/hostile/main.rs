//! Hostile clients, each with the limit that ends it, in virtual time. The table of docs/hostile.md.

mod frames;
mod h1;
mod h2;
mod lines;
mod rules;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get};
use bytes::Bytes;
use http::HeaderMap;
use http::header::HOST;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tuyau_core::Flow;
use tuyau_http::{FlowServed, Http, Limit, Limits, ServeError, ServeErrorKind};
use tuyau_tokio::duplex;

/// One client of one connection.
struct Client {
    flow: Flow,
    served: JoinHandle<Result<FlowServed, ServeError>>,
    began: Instant,
}

/// Chunks of 16 KiB without end.
fn endless() -> Body {
    let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
    Body::new(StreamBody::new(Endless(chunk)))
}

struct Endless(Bytes);

impl futures_core::Stream for Endless {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(self.0.clone()))))
    }
}

/// As much, once the request has ended.
async fn large_after(body: Body) -> Vec<u8> {
    let _ = body.collect().await;
    vec![b'x'; 1 << 20]
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/host", get(|headers: HeaderMap| async move { headers[HOST].to_str().unwrap().to_owned() }))
        .route(
            "/length",
            any(|body: Body| async {
                match body.collect().await {
                    Ok(body) => format!("{}", body.to_bytes().len()),
                    Err(error) => format!("{}", error.into_inner()),
                }
            }),
        )
        .route("/endless", get(|| async { endless() }))
        .route("/large", get(|| async { vec![b'x'; 1 << 20] }).post(large_after))
        .route(
            "/silent",
            get(|| async {
                Body::new(StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>()))
            }),
        )
        .route("/wait", any(|| async { std::future::pending::<&str>().await }))
}

fn connect(limits: Limits) -> Client {
    let (flow, server) = duplex();
    let served = tokio::spawn(async move { Http::new().limits(limits).serve_flow(server, router()).await });
    Client { flow, served, began: Instant::now() }
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.flow.write_all(bytes.as_ref()).await.expect("the server still reads");
    }

    /// How it ended, and after how long. A day of virtual time is for ever.
    async fn end(self) -> (Result<FlowServed, ServeError>, Duration) {
        let served = timeout(Duration::from_secs(24 * 3600), self.served).await;
        (served.expect("open for ever").expect("no panic"), self.began.elapsed())
    }

    /// That it is cut off, by this limit, after so many seconds.
    #[track_caller]
    fn ends_cut_off(self, limit: Limit, seconds: u64) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let (served, took) = self.end().await;
            let error = served.expect_err("cut off");
            assert_eq!(*error.kind(), ServeErrorKind::Limit(limit), "{caller}");
            assert_eq!(took.as_secs(), seconds, "{caller}");
        }
    }

    /// All that the server sends until it ends.
    async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            match self.flow.read(&mut bytes).await {
                Ok(0) | Err(_) => return all,
                Ok(n) => all.extend_from_slice(&bytes[..n]),
            }
        }
    }

    async fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.rest().await).into_owned()
    }
}
