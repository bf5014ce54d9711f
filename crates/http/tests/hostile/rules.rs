//! HTTP/2 by its rules, frame by frame: what is against them is answered with the error that they have for it, or by
//! closing; what is unusual, but by them, is answered like anything else (RFC 9113, RFC 7541; sections in each row).

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tuyau_core::{ConnectCx, Context, Net, Target};
use tuyau_http::{Http, Limits, Server, Versions};
use tuyau_tokio::{Host, MemHub, duplex};

use super::frames::*;
use super::{Client, connect, router};

const NO_ERROR: u32 = 0;
const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const CLOSED: u32 = 5;
const REFUSED: u32 = 7;

/// The h2 crate has the first of these only where a frame is too large, and the second nowhere: to a client it is the
/// same, the end of the connection.
const FRAME_SIZE: &[u32] = &[6, PROTOCOL];
const COMPRESSION: &[u32] = &[9, PROTOCOL];

const PADDED: u8 = 8;
const PRIORITY_FLAG: u8 = 0x20;
const PUSH_PROMISE: u8 = 5;

fn u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// A request whose body, and perhaps trailers, are to come.
fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let block = [head("POST", "/length"), block(more)].concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// All that the server says, until it has nothing more to say.
async fn said(client: &mut Client) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    // In virtual time, which passes when nobody has anything to do.
    while let Ok(Ok(n @ 1..)) = timeout(Duration::from_secs(1), client.flow.read(&mut bytes)).await {
        all.extend_from_slice(&bytes[..n]);
    }
    parse(&all)
}

/// What a client that sends this after its preface is told first: by GOAWAY, by RST_STREAM, or just by the end.
async fn told(bytes: &[Vec<u8>]) -> Option<u32> {
    let mut client = connect(Limits::default());
    client.send(hello(&[])).await;
    for bytes in bytes {
        // It may be told, and cut off, before the last of it.
        let _ = client.flow.write_all(bytes).await;
    }
    let frames = said(&mut client).await;
    let errors = frames.into_iter().filter_map(|(kind, _, _, payload)| {
        let code = match kind {
            GOAWAY => payload.get(4..8)?,
            RST_STREAM => payload.get(..4)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().ok()?))
    });
    errors.into_iter().find(|code| *code != NO_ERROR)
}

/// Each against the rules, by which this is answered with one of these errors.
#[tokio::test(start_paused = true)]
async fn what_is_against_the_rules_is_an_error() {
    let open = || post(1, &[]);
    let reset = |stream| frame(RST_STREAM, 0, stream, &u32s(&[8]));
    let window = |stream, by| frame(WINDOW_UPDATE, 0, stream, &u32s(&[by]));
    let settings =
        |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let begun = |stream| frame(HEADERS, END_STREAM, stream, &head("GET", "/"));
    let base = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let with = |more: &[(&'static str, &'static str)]| request(&[&base[..], more].concat());
    let without =
        |name: &str| request(&base.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>());
    let on = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    #[expect(clippy::type_complexity, reason = "a table")]
    let rows: Vec<(&str, Vec<Vec<u8>>, &[u32])> = vec![
        (
            "4.2 a frame of DATA beyond the largest",
            vec![open(), frame(DATA, END_STREAM, 1, &[0; 16_385])],
            FRAME_SIZE,
        ),
        ("4.2 one of HEADERS", vec![frame(HEADERS, END_HEADERS, 1, &[0; 16_385])], FRAME_SIZE),
        ("4.3 a header block that can't be decoded", vec![on(&[0x00, 0x7f])], COMPRESSION),
        ("4.3 PRIORITY within one", vec![begun(1), frame(PRIORITY, 0, 1, &[0; 5])], &[PROTOCOL]),
        ("4.3 HEADERS of another stream within one", vec![begun(1), get(3, "/")], &[PROTOCOL]),
        ("5.1 idle: DATA", vec![frame(DATA, END_STREAM, 1, b"x")], &[PROTOCOL]),
        ("5.1 idle: RST_STREAM", vec![reset(1)], &[PROTOCOL]),
        ("5.1 idle: WINDOW_UPDATE", vec![window(1, 1)], &[PROTOCOL]),
        ("5.1 idle: CONTINUATION", vec![frame(CONTINUATION, END_HEADERS, 1, &head("GET", "/"))], &[PROTOCOL]),
        (
            "5.1 half-closed: DATA",
            vec![get(1, "/wait"), frame(DATA, END_STREAM, 1, b"x")],
            &[CLOSED, PROTOCOL],
        ),
        ("5.1 half-closed: HEADERS", vec![get(1, "/wait"), get(1, "/")], &[CLOSED, PROTOCOL]),
        (
            "5.1 half-closed: CONTINUATION",
            vec![get(1, "/wait"), frame(CONTINUATION, END_HEADERS, 1, b"")],
            &[CLOSED, PROTOCOL],
        ),
        ("5.1 reset: DATA", vec![open(), reset(1), frame(DATA, END_STREAM, 1, b"x")], &[CLOSED]),
        (
            "5.1 reset: CONTINUATION",
            vec![open(), reset(1), frame(CONTINUATION, END_HEADERS, 1, b"")],
            &[CLOSED, PROTOCOL],
        ),
        ("5.1.1 an even stream", vec![get(2, "/")], &[PROTOCOL]),
        ("5.1.1 a stream below the last", vec![get(5, "/wait"), get(3, "/")], &[PROTOCOL, CLOSED]),
        (
            "5.1.2 more streams than allowed",
            (0..101).map(|n| get(2 * n + 1, "/wait")).collect(),
            &[REFUSED, PROTOCOL],
        ),
        ("5.5 an unknown frame within a header block", vec![begun(1), frame(0x16, 0, 0, b"x")], &[PROTOCOL]),
        ("6.1 DATA of no stream", vec![frame(DATA, 0, 0, b"x")], &[PROTOCOL]),
        (
            "6.1 more padding than DATA",
            vec![open(), frame(DATA, PADDED | END_STREAM, 1, &[9, 1])],
            &[PROTOCOL],
        ),
        ("6.2 HEADERS of no stream", vec![get(0, "/")], &[PROTOCOL]),
        (
            "6.2 more padding than HEADERS",
            vec![frame(HEADERS, PADDED | END_HEADERS, 1, &[9, 1])],
            &[PROTOCOL],
        ),
        ("6.3 PRIORITY of no stream", vec![frame(PRIORITY, 0, 0, &[0; 5])], &[PROTOCOL]),
        ("6.3 PRIORITY of 4 bytes", vec![frame(PRIORITY, 0, 1, &[0; 4])], FRAME_SIZE),
        (
            "5.3.1 of RFC 7540: a stream that depends on itself",
            vec![frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9])],
            &[PROTOCOL],
        ),
        (
            "5.3.1 of RFC 7540: HEADERS that depend on themselves",
            vec![frame(
                HEADERS,
                PRIORITY_FLAG | END_HEADERS | END_STREAM,
                1,
                &[&[0, 0, 0, 1, 9][..], &head("GET", "/")].concat(),
            )],
            &[PROTOCOL],
        ),
        ("6.4 RST_STREAM of no stream", vec![reset(0)], &[PROTOCOL]),
        ("6.4 RST_STREAM of 3 bytes", vec![open(), frame(RST_STREAM, 0, 1, &[0; 3])], FRAME_SIZE),
        ("6.5 SETTINGS that acknowledge and say", vec![frame(SETTINGS, ACK, 0, &[0; 6])], FRAME_SIZE),
        ("6.5 SETTINGS of a stream", vec![frame(SETTINGS, 0, 1, b"")], &[PROTOCOL]),
        ("6.5 SETTINGS of 3 bytes", vec![frame(SETTINGS, 0, 0, &[0; 3])], FRAME_SIZE),
        ("6.5.2 ENABLE_PUSH of 2", vec![settings(2, 2)], &[PROTOCOL]),
        ("6.5.2 INITIAL_WINDOW_SIZE of 2^31", vec![settings(4, 1 << 31)], &[FLOW_CONTROL, PROTOCOL]),
        ("6.5.2 MAX_FRAME_SIZE too small", vec![settings(5, 16_383)], &[PROTOCOL]),
        ("6.5.2 MAX_FRAME_SIZE too large", vec![settings(5, 1 << 24)], &[PROTOCOL]),
        ("6.7 PING of a stream", vec![frame(PING, 0, 1, &[0; 8])], &[PROTOCOL]),
        ("6.7 PING of 6 bytes", vec![frame(PING, 0, 0, &[0; 6])], FRAME_SIZE),
        ("6.8 GOAWAY of a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], &[PROTOCOL]),
        ("6.9 a window that grows by nothing", vec![window(0, 0)], &[PROTOCOL]),
        ("6.9 a stream's", vec![open(), window(1, 0)], &[PROTOCOL]),
        ("6.9 WINDOW_UPDATE of 3 bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], FRAME_SIZE),
        ("6.9.1 a window beyond 2^31-1", vec![window(0, 0x7fff_ffff), window(0, 1)], &[FLOW_CONTROL]),
        ("6.9.1 a stream's", vec![open(), window(1, 0x7fff_ffff), window(1, 1)], &[FLOW_CONTROL]),
        (
            "6.9.2 a stream's, by a setting",
            vec![get(1, "/wait"), window(1, 0x7fff_0000), settings(4, 0x7fff_ffff)],
            &[FLOW_CONTROL],
        ),
        ("6.9.1 more DATA than the window has", flood_of_data(), &[FLOW_CONTROL]),
        (
            "6.10 CONTINUATION of no stream",
            vec![begun(1), frame(CONTINUATION, END_HEADERS, 0, b"")],
            &[PROTOCOL],
        ),
        (
            "6.10 CONTINUATION after the end of a header block",
            vec![get(1, "/"), frame(CONTINUATION, END_HEADERS, 1, b"")],
            &[PROTOCOL, CLOSED],
        ),
        ("6.10 DATA within a header block", vec![begun(1), frame(DATA, END_STREAM, 1, b"x")], &[PROTOCOL]),
        (
            "8.1 trailers that do not end the stream",
            vec![open(), frame(HEADERS, END_HEADERS, 1, &block(&[("x", "y")]))],
            &[PROTOCOL],
        ),
        ("8.2.1 a name in capitals", vec![with(&[("X-Test", "x")])], &[PROTOCOL]),
        ("8.2.2 a field for connections", vec![with(&[("connection", "keep-alive")])], &[PROTOCOL]),
        ("8.2.2 TE other than trailers", vec![with(&[("te", "gzip")])], &[PROTOCOL]),
        ("8.3 an unknown pseudo-field", vec![with(&[(":test", "x")])], &[PROTOCOL]),
        ("8.3 one of responses", vec![with(&[(":status", "200")])], &[PROTOCOL]),
        (
            "8.3 one after a field",
            vec![request(&[&base[..3], &[("x", "y"), (":path", "/")]].concat())],
            &[PROTOCOL],
        ),
        ("8.3.1 no path", vec![without(":path")], &[PROTOCOL]),
        ("8.3.1 no method", vec![without(":method")], &[PROTOCOL]),
        ("8.3.1 no scheme", vec![without(":scheme")], &[PROTOCOL]),
        ("8.3.1 an empty path", vec![request(&[&base[..3], &[(":path", "")]].concat())], &[PROTOCOL]),
        ("8.3.1 a path that is none", vec![request(&[&base[..3], &[(":path", "a")]].concat())], &[PROTOCOL]),
        ("8.3.1 two methods", vec![with(&[(":method", "GET")])], &[PROTOCOL]),
        ("8.3.1 two paths", vec![with(&[(":path", "/")])], &[PROTOCOL]),
        (
            "8.1.1 less content than its length",
            vec![post(1, &[("content-length", "5")]), frame(DATA, END_STREAM, 1, b"four")],
            &[PROTOCOL],
        ),
        (
            "8.1.1 more content than its length",
            vec![
                post(1, &[("content-length", "5")]),
                frame(DATA, 0, 1, b"four"),
                frame(DATA, END_STREAM, 1, b"four"),
            ],
            &[PROTOCOL],
        ),
        (
            "8.4 PUSH_PROMISE",
            vec![open(), frame(PUSH_PROMISE, END_HEADERS, 1, &[&u32s(&[2])[..], &head("GET", "/")].concat())],
            &[PROTOCOL],
        ),
        (
            "RFC 7541 2.3.3 an index beyond the tables",
            vec![on(&[&head("GET", "/")[..], &[0xff, 0x80, 0x01]].concat())],
            COMPRESSION,
        ),
        (
            "RFC 7541 4.2 a table's size after fields",
            vec![on(&[&head("GET", "/")[..], &[0x20]].concat())],
            COMPRESSION,
        ),
        (
            "RFC 7541 5.2 padding of more than 7 bits",
            vec![on(&[&head("GET", "/")[..], &[0, 1, b'x', 0x82, 0xff, 0xff]].concat())],
            COMPRESSION,
        ),
        (
            "RFC 7541 5.2 padding of zeros",
            vec![on(&[&head("GET", "/")[..], &[0, 1, b'x', 0x81, 0x00]].concat())],
            COMPRESSION,
        ),
        (
            "RFC 7541 5.2 the end of a string within it",
            vec![on(&[&head("GET", "/")[..], &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]].concat())],
            COMPRESSION,
        ),
        ("RFC 7541 6.1 the index 0", vec![on(&[&head("GET", "/")[..], &[0x80]].concat())], COMPRESSION),
        (
            "RFC 7541 6.3 a table beyond its limit",
            vec![on(&[&[0x3f, 0xe2, 0xff, 0x03][..], &head("GET", "/")].concat())],
            COMPRESSION,
        ),
    ];
    let mut wrong = Vec::new();
    for (name, bytes, codes) in rows {
        let code = told(&bytes).await;
        if !code.is_some_and(|code| codes.contains(&code)) {
            wrong.push(format!("{name}: {code:?}, not {codes:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As much as nobody reads, and more.
fn flood_of_data() -> Vec<Vec<u8>> {
    let open = frame(HEADERS, END_HEADERS, 1, &head("POST", "/wait"));
    let mut all = vec![open];
    all.extend((0..200).map(|_| frame(DATA, 0, 1, &[0; 16_000])));
    all
}

/// The text of the answer on `stream`, after these bytes.
async fn answer(bytes: &[Vec<u8>], stream: u32) -> String {
    let mut client = connect(Limits::default());
    client.send(hello(&[])).await;
    for bytes in bytes {
        client.send(bytes).await;
    }
    let frames = said(&mut client).await;
    let data = frames.iter().filter(|(kind, _, at, _)| (*kind, *at) == (DATA, stream));
    let text: Vec<u8> = data.flat_map(|(_, _, _, payload)| payload.clone()).collect();
    String::from_utf8(text).unwrap()
}

/// Each is by the rules, however unusual.
#[tokio::test(start_paused = true)]
async fn what_is_by_the_rules_is_answered() {
    let padded =
        |kind, flags, payload: &[u8]| frame(kind, flags | PADDED, 1, &[&[3][..], payload, &[0; 3]].concat());
    let (first, second) = (head("GET", "/")[..9].to_vec(), head("GET", "/")[9..].to_vec());
    let settings =
        |id: u16, value: u32| frame(SETTINGS, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    let rows: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("4.1 an unknown frame", vec![frame(0x16, 0xff, 0, b"????"), get(1, "/")], "hello"),
        ("4.1 unknown flags", vec![frame(PING, 0x16, 0, &[0; 8]), get(1, "/")], "hello"),
        (
            "4.1 the reserved bit",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1 | 1 << 31, &head("GET", "/"))],
            "hello",
        ),
        ("4.2 the largest frame", vec![post(1, &[]), frame(DATA, END_STREAM, 1, &[0; 16_384])], "16384"),
        ("5.1 PRIORITY of an idle stream", vec![frame(PRIORITY, 0, 9, &[0; 5]), get(1, "/")], "hello"),
        (
            "5.1 WINDOW_UPDATE of a half-closed stream",
            vec![get(1, "/"), frame(WINDOW_UPDATE, 0, 1, &u32s(&[9]))],
            "hello",
        ),
        ("6.1 padding", vec![post(1, &[]), padded(DATA, END_STREAM, b"12345")], "5"),
        (
            "6.2 padding of fields",
            vec![padded(HEADERS, END_STREAM | END_HEADERS, &head("GET", "/"))],
            "hello",
        ),
        (
            "6.2 a priority in HEADERS",
            vec![frame(
                HEADERS,
                PRIORITY_FLAG | END_STREAM | END_HEADERS,
                1,
                &[&[0, 0, 0, 0, 9][..], &head("GET", "/")].concat(),
            )],
            "hello",
        ),
        ("6.5.2 an unknown setting", vec![settings(0xff, 1), get(1, "/")], "hello"),
        ("6.5.2 no push", vec![settings(2, 0), get(1, "/")], "hello"),
        ("6.5.3 one setting twice", vec![settings(4, 0), settings(4, 65_535), get(1, "/")], "hello"),
        ("6.7 PING that acknowledges nothing", vec![frame(PING, ACK, 0, &[7; 8]), get(1, "/")], "hello"),
        (
            "6.9.2 a window that falls below zero, and rises",
            vec![settings(4, 1), get(1, "/"), settings(4, 0), frame(WINDOW_UPDATE, 0, 1, &u32s(&[100]))],
            "hello",
        ),
        (
            "6.10 CONTINUATION, again and again, also empty",
            vec![
                frame(HEADERS, END_STREAM, 1, &first),
                frame(CONTINUATION, 0, 1, b""),
                frame(CONTINUATION, 0, 1, &second),
                frame(CONTINUATION, END_HEADERS, 1, b""),
            ],
            "hello",
        ),
        ("7 an unknown error", vec![post(1, &[]), frame(RST_STREAM, 0, 1, &u32s(&[0xff])), get(3, "/")], ""),
        (
            "8.1 trailers",
            vec![
                post(1, &[]),
                frame(DATA, 0, 1, b"12345"),
                frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&[("x-sum", "1")])),
            ],
            "5",
        ),
        (
            "8.1.1 content of its length",
            vec![
                post(1, &[("content-length", "5")]),
                frame(DATA, 0, 1, b"123"),
                frame(DATA, END_STREAM, 1, b"45"),
            ],
            "5",
        ),
        (
            "8.2.2 TE: trailers",
            vec![request(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/"),
                ("te", "trailers"),
            ])],
            "hello",
        ),
        ("RFC 7541 C.4 fields as Huffman has them", vec![huffman()], "hello"),
        (
            "RFC 7541 4.2 a smaller table, first",
            vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&[0x20][..], &head("GET", "/")].concat())],
            "hello",
        ),
    ];
    for (name, bytes, text) in rows {
        assert_eq!(answer(&bytes, 1).await, text, "{name}");
    }
}

/// What h2 lets pass, and is no request all the same (section 8.3.1).
#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_a_bad_one() {
    for (method, authority, path) in [
        ("GET", "u@a", "/"),
        ("GET", "a:x", "/"),
        ("GET", "a", "*"),
        ("GET", "a", "?q"),
        ("CONNECT", "u@a:1", ""),
    ] {
        let mut fields = vec![(":method", method), (":authority", authority)];
        if !path.is_empty() {
            fields.extend([(":scheme", "http"), (":path", path)]);
        }
        let mut client = connect(Limits::default());
        client.send([hello(&[]), request(&fields)].concat()).await;
        let frames = said(&mut client).await;
        // `:status: 400` is one byte (RFC 7541, appendix A).
        let refused = frames.iter().any(|(kind, _, _, payload)| *kind == HEADERS && payload[0] == 0x8c);
        assert!(refused, "{fields:?}: {frames:?}");
    }
}

/// `GET / http www.example.com`: RFC 7541, appendix C.4.1.
fn huffman() -> Vec<u8> {
    let block = [
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)
}

/// RFC 9113 section 3.4: anything else in place of the preface.
#[tokio::test(start_paused = true)]
async fn what_is_no_preface_is_no_http2() {
    let (flow, server) = duplex();
    let http = Http::new().versions(Versions::Http2);
    let served = tokio::spawn(async move { http.serve_flow(server, router()).await });
    let mut client = Client { flow, served, began: Instant::now() };
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
    client.rest().await;
    assert!(client.end().await.0.is_err());
}

/// Section 6.9: no more is sent than the window has, to the byte; the rest once it grows.
#[tokio::test(start_paused = true)]
async fn windows_are_kept_to_the_byte() {
    let mut client = connect(Limits::default());
    client.send(hello(&[(4, 3)])).await;
    client.send(get(1, "/")).await;
    let mut text = Vec::new();
    let mut seen = Vec::new();
    let mut read = 0;
    while text.len() < 5 {
        let mut bytes = [0; 1024];
        let n = client.flow.read(&mut bytes).await.unwrap();
        seen.extend_from_slice(&bytes[..n]);
        let frames = parse(&seen);
        for (kind, _, _, payload) in &frames[read..] {
            if *kind == DATA {
                text.extend_from_slice(payload);
                if text.len() == 3 {
                    client.send(frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await;
                } else if text.len() == 4 {
                    client.send(frame(WINDOW_UPDATE, 0, 1, &9_u32.to_be_bytes())).await;
                }
            }
        }
        read = frames.len();
        assert!(matches!(text.len(), 0 | 3 | 4 | 5), "{text:?}");
    }
    assert_eq!(text, b"hello");
}

/// Section 6.8: told to go, a client may have sent requests that the server has not seen yet: they are answered, and the
/// last GOAWAY says which was the last.
#[tokio::test(start_paused = true)]
async fn requests_that_cross_goaway_are_answered() {
    let hub = MemHub::new();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(router()).listen(hub.listen("s").unwrap());
    let serving = tokio::spawn(server.graceful(async { drop(stopped.await) }).serve());
    let mut flow = hub.connect("s").await.unwrap();
    flow.write_all(&[hello(&[]), frame(SETTINGS, ACK, 0, b""), get(1, "/wait")].concat()).await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    drop(stop);
    let mut seen = Vec::new();
    let mut crossed = false;
    let ended = loop {
        let mut bytes = [0; 4096];
        let n = flow.read(&mut bytes).await.unwrap();
        seen.extend_from_slice(&bytes[..n]);
        let frames = parse(&seen);
        let goaways: Vec<u32> = frames
            .iter()
            .filter(|(kind, ..)| *kind == GOAWAY)
            .map(|(_, _, _, payload)| u32::from_be_bytes(payload[..4].try_into().unwrap()))
            .collect();
        let ping = frames.iter().find(|(kind, flags, ..)| (*kind, *flags) == (PING, 0));
        if let (Some((_, _, _, payload)), false) = (ping, crossed) {
            assert_eq!(goaways, [0x7fff_ffff], "the first allows for what is on its way");
            crossed = true;
            flow.write_all(&[get(3, "/"), frame(PING, ACK, 0, payload)].concat()).await.unwrap();
        }
        let answered = frames
            .iter()
            .any(|(kind, _, stream, payload)| (*kind, *stream, &payload[..]) == (DATA, 3, b"hello"));
        if answered && goaways.len() == 2 {
            break goaways[1];
        }
    };
    assert_eq!(ended, 3);
    flow.write_all(&frame(RST_STREAM, 0, 1, &u32s(&[8]))).await.unwrap();
    let report = serving.await.unwrap();
    assert_eq!((report.requests, report.connections.aborted), (2, 0), "{report}");
}

/// A socket that is closed with bytes unread is reset, and what it still had to send is gone with it: not so here,
/// however much the client has to say when all was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_response_is_whole_though_the_client_talks_on() {
    let cx = ConnectCx::new(&Context::new()).unwrap();
    let listener = Host::new().listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.unwrap();
    let local = listener.local();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(router()).listen(listener).graceful(async { drop(stopped.await) });
    let serving = tokio::spawn(server.serve());
    let mut flow = Host::new().connect(&local, &cx).await.unwrap();
    let settings = [(4, 1 << 30)];
    let grows = frame(WINDOW_UPDATE, 0, 0, &u32s(&[1 << 30]));
    let open = frame(HEADERS, END_HEADERS, 1, &head("POST", "/large"));
    flow.write_all(&[hello(&settings), frame(SETTINGS, ACK, 0, b""), grows, open].concat()).await.unwrap();
    let mut stop = Some(stop);
    let (mut seen, mut got) = (Vec::new(), 0);
    while got < 1 << 20 {
        let mut bytes = [0; 4096];
        let n = flow.read(&mut bytes).await.expect("it is not reset");
        assert!(n > 0, "{got} bytes came");
        seen.extend_from_slice(&bytes[..n]);
        let whole: usize = parse(&seen).iter().map(|(_, _, _, payload)| 9 + payload.len()).sum();
        for (kind, flags, _, payload) in parse(&seen) {
            match kind {
                SETTINGS if flags & ACK != 0 => drop(stop.take()),
                PING if flags & ACK == 0 => {
                    let all = [frame(PING, ACK, 0, &payload), frame(DATA, END_STREAM, 1, b"")].concat();
                    flow.write_all(&all).await.unwrap();
                }
                DATA => {
                    got += payload.len();
                    // Whether it is still read is nothing to the client.
                    let _ = flow.write_all(&frame(PING, 0, 0, &[0; 8])).await;
                }
                _ => {}
            }
        }
        seen.drain(..whole);
    }
    drop(flow);
    assert_eq!(serving.await.unwrap().connections.aborted, 0);
}
