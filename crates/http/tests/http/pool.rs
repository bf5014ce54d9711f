//! Connections that are used again, and those that are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tuyau_core::names::{HOST, RUNTIME, SERVER_NAME};
use tuyau_core::{ConnectError, ConnectErrorKind, Context, Flow, Key, req};
use tuyau_http::{Client, Http, Stage, Versions};
use tuyau_tokio::{MEM, MEM_HUB, MEM_NAME, MemEndpoint, MemHub, duplex, runtime};

use crate::support::{rest, router};

/// A context whose every connection is served, and counted.
fn counted(versions: Versions) -> (Context, Arc<AtomicUsize>) {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let ctx = Context::from_fn(move || {
        count.fetch_add(1, Relaxed);
        let (ours, theirs) = duplex();
        let http = Http::new().versions(versions);
        tokio::spawn(async move { http.serve_flow(theirs, router()).await });
        async { Ok(ours) }
    });
    (ctx, dials)
}

async fn text(client: &Client, url: &str) -> String {
    client.get(url).send().await.unwrap().into_body().text().await.unwrap()
}

#[tokio::test]
async fn a_connection_is_used_again_once_its_response_was_read() {
    for versions in [Versions::Http1, Versions::Http2] {
        let (ctx, dials) = counted(versions);
        let client = Client::new(ctx).versions(versions);
        for _ in 0..5 {
            assert_eq!(text(&client, "http://a/").await, "hello");
        }
        assert_eq!(dials.load(Relaxed), 1);
        assert_eq!(text(&client, "http://A:80/").await, "hello");
        assert_eq!(dials.load(Relaxed), 1, "it is the same origin");
        assert_eq!(text(&client, "http://a:81/").await, "hello");
        assert_eq!(text(&client, "http://b/").await, "hello");
        assert_eq!(dials.load(Relaxed), 3);
    }
}

#[tokio::test]
async fn a_response_that_was_not_read_holds_its_connection() {
    let (ctx, dials) = counted(Versions::Http1);
    let client = Client::new(ctx);
    let held = client.post("http://a/echo").body(vec![0; 1 << 20]).send().await.unwrap();
    text(&client, "http://a/").await;
    assert_eq!(dials.load(Relaxed), 2);
    drop(held);
    text(&client, "http://a/").await;
    assert_eq!(dials.load(Relaxed), 2);
}

#[tokio::test]
async fn one_dial_is_enough_for_all_who_wait() {
    let (ctx, dials) = counted(Versions::Http2);
    let client = Client::new(ctx).versions(Versions::Http2);
    let many: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { text(&client, "http://a/").await })
        })
        .collect();
    for one in many {
        assert_eq!(one.await.unwrap(), "hello");
    }
    assert_eq!(dials.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn one_dial_that_fails_fails_for_all_who_wait() {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let ctx = Context::from_fn(move || {
        count.fetch_add(1, Relaxed);
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err(ConnectError::new(ConnectErrorKind::Unreachable, "no way"))
        }
    });
    let client = Client::new(ctx);
    let before = tokio::time::Instant::now();
    let many: Vec<_> = (0..50).map(|_| tokio::spawn(client.get("http://a/").send())).collect();
    for one in many {
        assert_eq!(one.await.unwrap().unwrap_err().stage(), Stage::Connect);
    }
    assert_eq!((dials.load(Relaxed), before.elapsed().as_secs()), (1, 5));
    // Who comes later tries again.
    assert!(client.get("http://a/").send().await.is_err());
    assert_eq!(dials.load(Relaxed), 2);
}

/// How long it may take makes no connection another one. Who has less time than others fails alone, and names what it
/// waited for.
#[tokio::test(start_paused = true)]
async fn who_has_little_time_shares_connections_and_fails_alone() {
    for versions in [Versions::Http1, Versions::Http2] {
        let (ctx, dials) = counted(versions);
        let client = Client::new(ctx.with(&RUNTIME, runtime())).versions(versions);
        for seconds in [5, 10, 15] {
            let response =
                client.get("http://a/").timeout(Duration::from_secs(seconds)).send().await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), "hello");
        }
        assert_eq!(dials.load(Relaxed), 1);
    }
    let (ctx, _) = counted(Versions::Http2);
    let slow = Context::from_fn(move || {
        let ctx = ctx.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(ctx.resolve().await.expect("it connects").into_flow())
        }
    });
    let client = Client::new(slow.with(&RUNTIME, runtime())).versions(Versions::Http2);
    let hasty = client.get("http://a/").timeout(Duration::from_secs(2)).send();
    let (hasty, patient) = tokio::join!(hasty, client.get("http://a/").send());
    let error = hasty.unwrap_err();
    assert_eq!((error.stage(), error.is_timeout()), (Stage::Connect, true), "{error:?}");
    assert_eq!(error.resolution().expect("it says more").report().candidates.len(), 1);
    assert_eq!(patient.unwrap().status(), 200);
}

#[tokio::test]
async fn who_dials_for_others_may_go_away() {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let (working, _) = counted(Versions::Http1);
    let working = Arc::new(working);
    let ctx = Context::from_fn(move || {
        let (first, working) = (count.fetch_add(1, Relaxed) == 0, working.clone());
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(working.resolve().await.map_err(|_| ConnectErrorKind::Other).unwrap().into_flow())
        }
    });
    let client = Client::new(ctx);
    let first = tokio::spawn(client.get("http://a/").send());
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let client = client.clone();
        async move { text(&client, "http://a/").await }
    });
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap(), "hello");
    assert_eq!(dials.load(Relaxed), 2);
}

/// What decides about a connection is what its resolution read, whatever that is.
#[tokio::test]
async fn contexts_share_connections_only_where_they_would_have_connected_alike() {
    static WHO: Key<Arc<str>> = Key::new("who");
    let hub = MemHub::new();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    let mut listener = hub.listen("svc").unwrap();
    tokio::spawn(async move {
        while let Ok(connection) = listener.accept().await {
            count.fetch_add(1, Relaxed);
            let flow = connection.finish().await.unwrap();
            tokio::spawn(tuyau_http::serve_flow(flow, router()));
        }
    });
    let base = Context::new()
        .with(&MEM_HUB, hub)
        .with(&MEM_NAME, "svc".into())
        .derive(&MEM, (req(&MEM_HUB), req(&MEM_NAME), req(&WHO), req(&HOST)), |(hub, name, _, _)| async {
            Ok(MemEndpoint { hub, name })
        })
        .offer(&MEM);
    let alice = base.clone().with(&WHO, "alice".into());
    let client = Client::new(alice.clone());
    let ask = |client: Client| {
        let accepted = accepted.clone();
        async move {
            text(&client, "http://a/").await;
            accepted.load(Relaxed)
        }
    };
    assert_eq!(ask(client.clone()).await, 1);
    // The same bindings, and what nobody reads.
    assert_eq!(ask(client.with_context(alice.clone())).await, 1);
    let unread = alice.clone().with(&SERVER_NAME, "x".into());
    assert_eq!(ask(client.with_context(unread)).await, 1);
    // Somebody else; and one who only looks the same.
    let bob = client.with_context(base.clone().with(&WHO, "bob".into()));
    assert_eq!(ask(bob.clone()).await, 2);
    assert_eq!(ask(client.with_context(base.clone().with(&WHO, "alice".into()))).await, 3);
    assert_eq!((ask(client).await, ask(bob).await), (3, 3), "each has its own");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_after_their_time() {
    for versions in [Versions::Http1, Versions::Http2] {
        let ends = Arc::new(AtomicUsize::new(0));
        let count = ends.clone();
        let ctx = Context::from_fn(move || {
            let (ours, theirs) = duplex();
            let (http, count) = (Http::new().versions(versions), count.clone());
            tokio::spawn(async move {
                let _ = http.serve_flow(theirs, router()).await;
                count.fetch_add(1, Relaxed);
            });
            async { Ok(ours) }
        });
        let client = Client::new(ctx).versions(versions).keep(Duration::from_secs(20), 8);
        text(&client, "http://a/").await;
        tokio::time::sleep(Duration::from_secs(19)).await;
        assert_eq!(ends.load(Relaxed), 0);
        text(&client, "http://a/").await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(ends.load(Relaxed), 0, "it was used in between");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(ends.load(Relaxed), 1, "{versions:?}");
    }
}

#[tokio::test]
async fn no_more_are_kept_than_were_asked_for() {
    let (ctx, dials) = counted(Versions::Http1);
    let client = Client::new(ctx).keep(Duration::from_secs(60), 2);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(client.get("http://a/").send().await.unwrap());
    }
    for response in held {
        response.into_body().bytes().await.unwrap();
    }
    let again = async || {
        let mut held = Vec::new();
        for _ in 0..5 {
            held.push(client.post("http://a/echo").body(vec![0; 1 << 20]).send().await.unwrap());
        }
    };
    let before = dials.load(Relaxed);
    again().await;
    assert!(dials.load(Relaxed) - before >= 3, "{before} {}", dials.load(Relaxed));
}

/// Serves one request per connection as `first` does, the later ones well.
fn flaky<Fut>(first: impl Fn(Flow) -> Fut + Send + Sync + 'static) -> (Client, Arc<AtomicUsize>)
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let ctx = Context::from_fn(move || {
        let (ours, theirs) = duplex();
        match count.fetch_add(1, Relaxed) {
            0 => drop(tokio::spawn(first(theirs))),
            _ => drop(tokio::spawn(tuyau_http::serve_flow(theirs, router()))),
        }
        async { Ok(ours) }
    });
    (Client::new(ctx), dials)
}

async fn one_request(flow: &mut Flow) {
    let mut bytes = [0; 1024];
    let n = flow.read(&mut bytes).await.unwrap();
    assert!(bytes[..n].ends_with(b"\r\n\r\n"));
    flow.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await.unwrap();
}

#[tokio::test]
async fn a_connection_that_died_meanwhile_is_not_used() {
    let (client, dials) = flaky(|mut flow| async move { one_request(&mut flow).await });
    assert_eq!(text(&client, "http://a/").await, "first");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let response = client.post("http://a/echo").body("not idempotent").send().await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "not idempotent");
    assert_eq!(dials.load(Relaxed), 2);
}

#[tokio::test]
async fn what_may_be_repeated_is_when_a_kept_connection_breaks() {
    let closes = |mut flow: Flow| async move {
        one_request(&mut flow).await;
        // The next one is read, and not answered.
        let _ = flow.read(&mut [0; 1024]).await;
    };
    let (client, dials) = flaky(closes);
    assert_eq!(text(&client, "http://a/").await, "first");
    assert_eq!(text(&client, "http://a/").await, "hello");
    assert_eq!(dials.load(Relaxed), 2);
    // What might have had an effect is not.
    let (client, dials) = flaky(closes);
    assert_eq!(text(&client, "http://a/").await, "first");
    let error = client.post("http://a/echo").body("once only").send().await.unwrap_err();
    assert_eq!((error.stage(), dials.load(Relaxed)), (Stage::Wait, 1));
    // Nor is anything on a connection that was just made.
    let (client, dials) = flaky(|mut flow: Flow| async move { drop(flow.read(&mut [0; 1024]).await) });
    assert!(client.get("http://a/").send().await.is_err());
    assert_eq!(dials.load(Relaxed), 1);
}

#[tokio::test]
async fn connections_that_say_close_are_closed() {
    let says_close = |mut flow: Flow| async move {
        let mut bytes = [0; 1024];
        let _ = flow.read(&mut bytes).await.unwrap();
        let response = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nfirst";
        flow.write_all(response).await.unwrap();
        assert_eq!(rest(&mut flow).await, "");
    };
    let (client, dials) = flaky(says_close);
    assert_eq!(text(&client, "http://a/").await, "first");
    assert_eq!(text(&client, "http://a/").await, "hello");
    assert_eq!(dials.load(Relaxed), 2);
}
