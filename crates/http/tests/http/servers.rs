//! Servers of HTTP/2 that refuse, leave, or don't keep to the rules, frame by frame (RFC 9113), as a client meets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tuyau_core::{Context, Flow};
use tuyau_http::{Client, Stage, Versions, serve_flow};
use tuyau_tokio::duplex;

use crate::frames::*;
use crate::support::router;

/// `:status: 200` is one byte (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];

/// A server that answers the first request on its first connection, the next one with `then`, and hangs up; there it
/// serves well on all others. And how often it was dialled.
fn server(then: Vec<Vec<u8>>) -> (Client, Arc<AtomicUsize>) {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let ctx = Context::from_fn(move || {
        let (ours, theirs) = duplex();
        match count.fetch_add(1, Relaxed) {
            0 => drop(tokio::spawn(odd(theirs, then.clone()))),
            _ => drop(tokio::spawn(serve_flow(theirs, router()))),
        }
        async { Ok(ours) }
    });
    (Client::new(ctx).versions(Versions::Http2), dials)
}

async fn odd(mut flow: Flow, then: Vec<Vec<u8>>) {
    let mut seen = Vec::new();
    flow.write_all(&[frame(SETTINGS, 0, 0, b""), frame(SETTINGS, ACK, 0, b"")].concat()).await.unwrap();
    for (stream, answer) in [(1, vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, OK)]), (3, then)] {
        let ends = |(kind, flags, at, _): &(u8, u8, u32, Vec<u8>)| {
            *at == stream && matches!(*kind, HEADERS | DATA) && flags & END_STREAM != 0
        };
        while !parse(seen.get(PREFACE.len()..).unwrap_or_default()).iter().any(ends) {
            let mut bytes = [0; 1024];
            match flow.read(&mut bytes).await.unwrap() {
                0 => return,
                n => seen.extend_from_slice(&bytes[..n]),
            }
        }
        for bytes in answer {
            // The client may be gone by then.
            let _ = flow.write_all(&bytes).await;
        }
    }
    let _ = flow.shutdown().await;
    while let Ok(1..) = flow.read(&mut [0; 1024]).await {}
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// What was not processed is asked for once more, whatever it is; what may have been is not.
#[tokio::test]
async fn what_was_not_processed_is_sent_again() {
    let goaway = |last, error| frame(GOAWAY, 0, 0, &u32s(&[last, error]));
    let reset = |error| frame(RST_STREAM, 0, 3, &u32s(&[error]));
    for (name, then, again) in [
        ("REFUSED_STREAM", vec![reset(7)], true),
        ("GOAWAY before it", vec![goaway(1, 0)], true),
        ("GOAWAY after it", vec![goaway(3, 0)], false),
        ("GOAWAY, an error", vec![goaway(1, 2)], false),
        ("INTERNAL_ERROR", vec![reset(2)], false),
        ("the end", vec![], false),
    ] {
        let (client, dials) = server(then);
        assert_eq!(client.get("http://a/").send().await.unwrap().status(), 200);
        let sent = client.post("http://a/echo").body("once only").send().await;
        match sent {
            Ok(response) if again => {
                assert_eq!(response.into_body().text().await.unwrap(), "once only", "{name}")
            }
            sent => assert_eq!((sent.unwrap_err().stage(), again), (Stage::Wait, false), "{name}"),
        }
        assert_eq!(dials.load(Relaxed), if again { 2 } else { 1 }, "{name}");
    }
}

#[tokio::test]
async fn what_is_against_the_rules_is_no_response() {
    let headers =
        |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 3, &[OK, &block(fields)].concat());
    let promise = [&u32s(&[2])[..], &head("GET", "/pushed")].concat();
    for (name, frames) in [
        ("6.6 PUSH_PROMISE", vec![frame(5, END_HEADERS, 3, &promise)]),
        ("8.3.2 no status", vec![frame(HEADERS, END_HEADERS | END_STREAM, 3, b"")]),
        ("8.2.2 a field for connections", vec![headers(&[("connection", "close")])]),
        ("8.2.1 a line's end in a value", vec![headers(&[("x", "a\r\nb: c")])]),
        ("8.1.1 less content than its length", vec![headers(&[("content-length", "5")])]),
        ("5.1.1 a stream that nobody opened", vec![frame(HEADERS, END_HEADERS | END_STREAM, 7, OK)]),
        ("6.5.2 a window too large", vec![frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])]),
        ("4.2 a frame too large", vec![frame(DATA, 0, 3, &[0; 16_385])]),
        ("6.10 fields without end", {
            let begun = frame(HEADERS, 0, 3, OK);
            let more = frame(CONTINUATION, 0, 3, &block(&[("x", &"y".repeat(100))]));
            [vec![begun], vec![more; 10_000]].concat()
        }),
    ] {
        let (client, _) = server(frames);
        assert_eq!(client.get("http://a/").send().await.unwrap().status(), 200);
        let error = client.post("http://a/echo").body("x").send().await.expect_err(name);
        assert_eq!(error.stage(), Stage::Wait, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_talks_much_is_listened_to() {
    let mut frames = vec![frame(PING, 0, 0, &[0; 8]); 1_000];
    frames.extend(vec![frame(SETTINGS, 0, 0, b""); 1_000]);
    frames.push(frame(HEADERS, END_HEADERS | END_STREAM, 3, OK));
    let (client, _) = server(frames);
    for _ in 0..2 {
        assert_eq!(client.get("http://a/").send().await.unwrap().status(), 200);
    }
}
