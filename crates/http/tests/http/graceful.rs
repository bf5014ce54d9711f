//! The end: nothing is lost, nothing stays.

use std::time::Duration;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::{any, get};
use http::Version;
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tuyau_core::Flow;
use tuyau_http::{Report, Sender, Server, Versions, handshake};
use tuyau_tls::Backend;
use tuyau_tokio::MemHub;

use crate::frames::{END_STREAM, HEADERS, frame, get as h2_get, head, hello};
use crate::support::{BELOW, MEMORY, Stack, rest, run};

/// `/wait` tells that it was asked for, and answers when told to.
fn waiting() -> (Router, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let (asked, told) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/swallow", any(|body: AxumBody| async { drop(body.collect().await) }))
        .route(
            "/wait",
            get(move || {
                let (go, gone) = oneshot::channel();
                let _ = asked.send(go);
                async move {
                    let _ = gone.await;
                    vec![b'x'; 300_000]
                }
            }),
        );
    (router, told)
}

#[tokio::test]
async fn requests_in_flight_end_whole_over_everything() {
    let tls = [None, Some(Backend::Rustls), Some(Backend::OpenSsl)];
    for (version, spoken) in [(Versions::Http1, Version::HTTP_11), (Versions::Http2, Version::HTTP_2)] {
        for stack in BELOW.into_iter().flat_map(|below| tls.map(|tls| Stack { below, tls })) {
            let (router, mut told) = waiting();
            let running = run(stack, version, Server::new(router)).await;
            let client = running.client().versions(version);
            let request = client.get(running.url("/wait"));
            let response = tokio::spawn(async move { request.send().await.unwrap() });
            let go = told.recv().await.unwrap();
            let ending = tokio::spawn(running.end());
            tokio::task::yield_now().await;
            go.send(()).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.version(), spoken);
            assert_eq!(response.into_body().bytes().await.unwrap().len(), 300_000, "{stack:?}");
            let report: Report = timeout(Duration::from_secs(10), ending).await.unwrap().unwrap();
            assert_eq!((report.connections.aborted, report.failed), (0, 0), "{stack:?}: {report}");
        }
    }
}

#[tokio::test]
async fn clients_are_told_to_go() {
    let (router, mut told) = waiting();
    let running = run(MEMORY, Versions::Http1, Server::new(router)).await;
    let client = running.client();
    let request = client.get(running.url("/wait"));
    let response = tokio::spawn(async move { request.send().await.unwrap() });
    let go = told.recv().await.unwrap();
    let ending = tokio::spawn(running.end());
    // The stop is seen before the answer is given.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    go.send(()).unwrap();
    assert_eq!(response.await.unwrap().headers()["connection"], "close");
    ending.await.unwrap();
}

async fn connect(hub: &MemHub, versions: Versions) -> Sender {
    handshake(hub.connect("s").await.unwrap(), versions).await.unwrap()
}

fn get_request(path: &str) -> http::Request<tuyau_http::Body> {
    http::Request::get(format!("http://svc{path}")).body(tuyau_http::Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end_at_once() {
    let hub = MemHub::new();
    let (router, _told) = waiting();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(router).listen(hub.listen("s").unwrap()).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.drain(Duration::from_secs(3600)).serve());
    let mut senders = vec![connect(&hub, Versions::Http1).await, connect(&hub, Versions::Http2).await];
    for sender in &mut senders {
        sender.send(get_request("/")).await.unwrap().into_body().bytes().await.unwrap();
    }
    // One that has not said anything either, and one that has not even finished its preface.
    let mut silent: Flow = hub.connect("s").await.unwrap();
    let mut preface: Flow = hub.connect("s").await.unwrap();
    preface.write_all(b"PRI * HTTP").await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    drop(stop);
    let report = serving.await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 0);
    assert_eq!((report.connections.finished, report.connections.aborted), (4, 0), "{report}");
    assert_eq!(rest(&mut silent).await + &rest(&mut preface).await, "");
}

/// A request that was on its way when the end began has its response: on a connection that has just been used, and on
/// one that has just been made.
#[tokio::test(start_paused = true)]
async fn a_request_that_crosses_the_end_is_answered() {
    let hub = MemHub::new();
    let (router, _told) = waiting();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(router).listen(hub.listen("s").unwrap()).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.drain(Duration::from_secs(3600)).serve());
    let mut used = connect(&hub, Versions::Http1).await;
    used.send(get_request("/")).await.unwrap().into_body().bytes().await.unwrap();
    let mut fresh: Flow = hub.connect("s").await.unwrap();
    let mut begun: Flow = hub.connect("s").await.unwrap();
    begun.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let response = used.send(get_request("/")).await.unwrap();
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.into_body().text().await.unwrap(), "hello");
    fresh.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(rest(&mut fresh).await.ends_with("hello"));
    // One whose head has begun has a little longer.
    tokio::time::advance(Duration::from_millis(900)).await;
    begun.write_all(b"Host: a\r\n\r\n").await.unwrap();
    assert!(rest(&mut begun).await.ends_with("hello"));
    let report = serving.await.unwrap();
    assert_eq!((report.connections.aborted, report.failed, report.requests), (0, 0, 4), "{report}");
}

/// Half a head is not waited for as long as for a request: whoever sent it is told to ask again.
#[tokio::test(start_paused = true)]
async fn half_a_head_is_waited_for_a_second() {
    let hub = MemHub::new();
    let (router, mut told) = waiting();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(router).listen(hub.listen("s").unwrap()).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.drain(Duration::from_secs(3600)).serve());
    let mut halves = Vec::new();
    for half in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n".to_vec(),
        [hello(&[]), frame(HEADERS, END_STREAM, 1, &head("GET", "/"))].concat(),
        [hello(&[]), h2_get(1, "/wait"), frame(HEADERS, END_STREAM, 3, &head("GET", "/"))].concat(),
    ] {
        let mut flow: Flow = hub.connect("s").await.unwrap();
        flow.write_all(&half).await.unwrap();
        halves.push(flow);
    }
    let go = told.recv().await.unwrap();
    let before = Instant::now();
    drop(stop);
    let mut last = halves.pop().unwrap();
    for (mut flow, end) in halves.into_iter().zip(["HTTP/1.1 408 Request Timeout", "hello", ""]) {
        let all = rest(&mut flow).await;
        assert!(all.contains(end), "{all}");
    }
    assert_eq!(before.elapsed().as_secs(), 1);
    // Beside a request that is under way it has its time, and then that ends as well.
    rest(&mut last).await;
    assert_eq!(before.elapsed().as_secs(), 15);
    drop(go);
    let report = serving.await.unwrap();
    assert_eq!((report.connections.aborted, report.requests, report.refused), (0, 2, 3), "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_never_ends_is_aborted_after_the_drain_time() {
    let hub = MemHub::new();
    let (router, mut told) = waiting();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::new(router).listen(hub.listen("s").unwrap()).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.drain(Duration::from_secs(7)).serve());
    // An open stream, a stuck upload, a preface without an end of its settings.
    let mut open = connect(&hub, Versions::Http2).await;
    let waits = tokio::spawn(async move { open.send(get_request("/wait")).await });
    let _go = told.recv().await.unwrap();
    let mut upload: Flow = hub.connect("s").await.unwrap();
    upload.write_all(b"POST /swallow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    let mut preface: Flow = hub.connect("s").await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    drop(stop);
    let report = serving.await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 7);
    assert_eq!(report.connections.aborted, 3, "{report}");
    assert!(waits.await.unwrap().is_err());
    rest(&mut upload).await;
}

#[tokio::test]
async fn dropping_the_server_ends_everything() {
    let hub = MemHub::new();
    let (router, mut told) = waiting();
    let serving = tokio::spawn(Server::new(router).listen(hub.listen("s").unwrap()).serve());
    let mut sender = connect(&hub, Versions::Http2).await;
    let waits = tokio::spawn(async move { sender.send(get_request("/wait")).await });
    let mut go = told.recv().await.unwrap();
    serving.abort();
    assert!(waits.await.unwrap().is_err());
    // The handler too: nobody waits to be told.
    go.closed().await;
    assert!(hub.connect("s").await.is_err());
}
