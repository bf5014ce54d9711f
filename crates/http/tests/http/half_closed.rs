//! Clients that end their side after their request, and wait for the response. Those that are gone look the same.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::any;
use bytes::Bytes;
use http_body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tuyau_core::Flow;
use tuyau_core::names::{HOST, PORT};
use tuyau_http::proxy::Reverse;
use tuyau_http::{
    Client, FlowServed, Http, Limit, Limits, ServeError, ServeErrorKind, Server, Versions, serve_flow,
};
use tuyau_tokio::{MemHub, duplex};

use crate::matrix::sent;
use crate::proxy::{listen, to};
use crate::support::{Below, Stack, rest, router, run, stacks};

const WAIT: &str = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";

fn post(path: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{more}")
}

/// Asks for this, and for nothing more.
async fn ask(flow: &mut Flow, request: &str) {
    flow.write_all(request.as_bytes()).await.unwrap();
    flow.shutdown().await.unwrap();
}

/// With a client that has asked before anybody listens.
async fn asked(request: &str, limits: Limits, router: Router) -> (Flow, Served) {
    let (mut client, server) = duplex();
    ask(&mut client, request).await;
    (client, tokio::spawn(async move { Http::new().limits(limits).serve_flow(server, router).await }))
}

type Served = JoinHandle<Result<FlowServed, ServeError>>;

async fn ends_cut_off(served: Served) {
    let error = served.await.unwrap().unwrap_err();
    assert_eq!(*error.kind(), ServeErrorKind::Limit(Limit::HalfClosed), "{error}");
}

/// Answers after so many seconds.
fn late(seconds: u64) -> Router {
    router().route(
        "/wait",
        any(async move || {
            sleep(Duration::from_secs(seconds)).await;
            "late"
        }),
    )
}

#[tokio::test]
async fn they_are_answered_over_everything() {
    // So that there is time to notice the end before there is a response.
    let later = |body: AxumBody| async {
        for _ in 0..100 {
            yield_now().await;
        }
        body
    };
    let slow = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";
    let large = "GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for stack in stacks() {
        let server = Server::new(router().route("/later", any(later)));
        let running = run(stack, Versions::Http1, server).await;
        let port = running.url.rsplit(':').next().unwrap().parse().unwrap();
        let ctx = running.ctx.clone().with(&HOST, "127.0.0.1".into()).with(&PORT, port);
        for (request, answers, end) in [
            (slow, 1, "\r\n\r\n".to_owned()),
            (&slow.repeat(3), 3, "\r\n\r\n".to_owned()),
            (&slow.replace("1.1", "1.0"), 1, "\r\n\r\n".to_owned()),
            (&post("/later", "Content-Length: 5\r\n\r\nhello"), 1, "\r\n\r\nhello".to_owned()),
            (
                &post("/length", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
                1,
                "5".to_owned(),
            ),
            (large, 1, "x".repeat(5_000_000)),
        ] {
            let mut flow = ctx.resolve().await.unwrap().into_flow();
            ask(&mut flow, request).await;
            let text = rest(&mut flow).await;
            let count = text.matches("HTTP/1.").count();
            let (ok, all) = (text.matches(" 200 OK\r\n").count(), text.ends_with(&end));
            assert_eq!((count, ok, all), (answers, answers, true), "{stack:?}: {request}");
        }
        let report = running.end().await;
        assert_eq!((report.failed, report.refused), (0, 0), "{stack:?}: {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn for_a_while_they_are_waited_with() {
    let (mut client, served) = asked(WAIT, Limits::default(), late(4)).await;
    assert!(rest(&mut client).await.ends_with("late"));
    assert_eq!(served.await.unwrap().unwrap().requests, 1);

    let began = Instant::now();
    let (mut client, served) = asked(WAIT, Limits::default(), late(6)).await;
    assert_eq!(rest(&mut client).await, "");
    assert_eq!(began.elapsed().as_secs(), 5);
    ends_cut_off(served).await;

    let mut limits = Limits::default();
    limits.half_closed = Duration::ZERO;
    let began = Instant::now();
    let (mut client, _served) = asked(WAIT, limits.clone(), late(1)).await;
    assert_eq!(rest(&mut client).await, "");
    assert!(began.elapsed().is_zero());

    limits.half_closed = Duration::MAX;
    let (mut client, _served) = asked(WAIT, limits, late(1_000_000)).await;
    assert!(rest(&mut client).await.ends_with("late"));
}

/// `/wait` tells that it was asked for, and holds what the receiver then waits for, for ever.
fn holding() -> (Router, mpsc::UnboundedReceiver<oneshot::Receiver<()>>) {
    let (asked, told) = mpsc::unbounded_channel();
    let hold = move || {
        let (held, gone) = oneshot::channel::<()>();
        asked.send(gone).unwrap();
        async move {
            std::future::pending::<()>().await;
            drop(held);
        }
    };
    (Router::new().route("/wait", any(hold)), told)
}

/// What a handler holds is gone with it.
#[tokio::test(start_paused = true)]
async fn who_is_gone_is_noticed() {
    let (router, mut told) = holding();
    let began = Instant::now();
    let (client, served) = asked(WAIT, Limits::default(), router).await;
    drop(client);
    assert!(told.recv().await.unwrap().await.is_err());
    assert_eq!(began.elapsed().as_secs(), 5);
    ends_cut_off(served).await;
}

#[tokio::test]
async fn who_resets_the_connection_is_gone_at_once() {
    let (router, mut told) = holding();
    let mut limits = Limits::default();
    limits.half_closed = Duration::MAX;
    let stack = Stack { below: Below::Tcp, tls: None };
    let running = run(stack, Versions::Http1, Server::new(router).limits(limits)).await;
    let mut client = TcpStream::connect(running.url.trim_start_matches("http://")).await.unwrap();
    client.write_all(WAIT.as_bytes()).await.unwrap();
    let gone = told.recv().await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    assert!(gone.await.is_err());
    assert_eq!(running.end().await.connections.aborted, 0);
}

/// A response that has begun goes on as long as the server has something to say, and the client takes it.
#[tokio::test(start_paused = true)]
async fn what_has_begun_goes_on() {
    let (send, body) = sent();
    let body = Arc::new(Mutex::new(Some(body)));
    let endless = Router::new().route(
        "/wait",
        any(move || {
            let body = body.lock().unwrap().take().unwrap();
            async move { AxumBody::new(body) }
        }),
    );
    let (mut client, served) = asked(WAIT, Limits::default(), endless).await;
    let saying = tokio::spawn(async move {
        for _ in 0..10 {
            sleep(Duration::from_secs(50)).await;
            send.send(Frame::data(Bytes::from("said\n"))).unwrap();
        }
        // And nothing more, nor the end.
        send
    });
    let began = Instant::now();
    let text = rest(&mut client).await;
    assert_eq!(text.matches("said\n").count(), 10, "{text}");
    assert_eq!(began.elapsed().as_secs(), 560);
    ends_cut_off(served).await;
    assert!(saying.await.unwrap().is_closed());

    // One that reads slowly, but reads.
    let large = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut client, served) = asked(large, Limits::default(), router()).await;
    let (mut got, mut bytes) = (0, vec![0; 64 * 1024]);
    while let n @ 1.. = client.read(&mut bytes).await.unwrap() {
        got += n;
        sleep(Duration::from_secs(20)).await;
    }
    assert!(got > 5_000_000, "{got}");
    assert!(served.await.unwrap().is_ok());
}

/// Of what is missing nothing will come: nobody waits for it.
#[tokio::test(start_paused = true)]
async fn a_body_without_its_end_breaks_off_at_once() {
    let hub = MemHub::new();
    listen(&hub, "server", router());
    let began = Instant::now();
    for more in [
        "Content-Length: 5\r\n\r\nhell",
        "Content-Length: 5\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhell",
    ] {
        let (mut client, served) = asked(&post("/length", more), Limits::default(), router()).await;
        let text = rest(&mut client).await;
        assert!(text.contains("the body ended before its end"), "{text}");
        assert!(served.await.unwrap().is_ok());

        let (mut client, server) = duplex();
        let proxy = Reverse::new(Client::new(to(&hub, "server")), "http://svc".parse().unwrap());
        tokio::spawn(serve_flow(server, proxy));
        ask(&mut client, &post("/length", more)).await;
        let text = rest(&mut client).await;
        assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    }
    // Nor is what somebody reads later, elsewhere, taken for more than it is.
    for (more, said) in
        [("Content-Length: 5\r\n\r\nhello", "5"), ("Content-Length: 5\r\n\r\nhell", "the body ended")]
    {
        let reading = |body: AxumBody| async {
            let reading = tokio::spawn(async {
                sleep(Duration::from_secs(1)).await;
                axum::body::to_bytes(body, 100).await
            });
            reading.await.unwrap().map_or_else(|error| error.to_string(), |bytes| bytes.len().to_string())
        };
        let router = Router::new().route("/", any(reading));
        let (mut client, _served) = asked(&post("/", more), Limits::default(), router).await;
        let text = rest(&mut client).await;
        assert!(text.contains(said), "{text}");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn proxies_pass_on_their_requests() {
    let hub = MemHub::new();
    listen(&hub, "server", router());
    for versions in [Versions::Http1, Versions::Http2] {
        let (mut client, server) = duplex();
        let beyond = Client::new(to(&hub, "server")).versions(versions);
        tokio::spawn(serve_flow(server, Reverse::new(beyond, "http://svc".parse().unwrap())));
        let request = post("/length", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        ask(&mut client, &(request + "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let text = rest(&mut client).await;
        assert!(text.len() > 5_000_000 && text.contains("\r\n\r\n5HTTP/1.1 200 OK"), "{versions:?}");
    }
}
