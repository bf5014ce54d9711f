//! HTTP/1 by its rules, byte by byte: what each request is answered with, and whether the one behind it still is one
//! (RFC 9112; sections in each row). What is not wholly clear is answered once, and the connection closed.

use std::time::Duration;

use tokio::time::timeout;
use tuyau_http::Limits;

use super::connect;

/// The statuses of what is answered, and how it ends: `open`, or `end`.
async fn answers(bytes: &str) -> String {
    let mut client = connect(Limits::default());
    let next = "GET /next HTTP/1.1\r\nHost: next\r\n\r\n";
    client.send([bytes, next].concat()).await;
    let (mut all, mut bytes) = (Vec::new(), [0; 4096]);
    let end = loop {
        // In virtual time, which passes when nobody has anything to do.
        match timeout(Duration::from_secs(1), client.flow.read(&mut bytes)).await {
            Ok(Ok(n @ 1..)) => all.extend_from_slice(&bytes[..n]),
            Ok(_) => break "end",
            Err(_) => break "open",
        }
    };
    let text = String::from_utf8_lossy(&all);
    let statuses = text.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]);
    statuses.chain([end]).collect::<Vec<_>>().join(" ")
}

async fn are_answered(rows: &[(&str, String, &str)]) {
    let mut wrong = Vec::new();
    for (name, bytes, expected) in rows {
        let answers = answers(bytes).await;
        if answers != *expected {
            wrong.push(format!("{name}: {answers}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const FINE: &str = "200 404 open";
const BAD: &str = "400 end";
const UNKNOWN: &str = "501 end";
const TOO_LARGE: &str = "431 end";

fn head(line: &str, fields: &str) -> String {
    format!("{line}\r\n{fields}\r\n")
}

#[tokio::test(start_paused = true)]
async fn lines_and_fields() {
    let get = |fields: &str| head("GET / HTTP/1.1", &format!("Host: a\r\n{fields}"));
    are_answered(&[
        ("2.2 CRLF before it", format!("\r\n\r\n{}", get("")), FINE),
        ("2.2 LF alone", "GET / HTTP/1.1\nHost: a\n\n".into(), FINE),
        ("2.2 CR alone", "GET / HTTP/1.1\rHost: a\r\r".into(), BAD),
        ("2.2 CR in a value", get("X: a\rb\r\n"), BAD),
        ("2.2 a space before the fields", head("GET / HTTP/1.1", " X: a\r\nHost: a\r\n"), BAD),
        ("3 two spaces", head("GET  / HTTP/1.1", "Host: a\r\n"), BAD),
        ("3 a tab", head("GET\t/ HTTP/1.1", "Host: a\r\n"), BAD),
        ("3.1 no token", head("G,T / HTTP/1.1", "Host: a\r\n"), BAD),
        ("2.3 in small letters", head("GET / http/1.1", "Host: a\r\n"), BAD),
        ("2.3 HTTP/2.0", head("GET / HTTP/2.0", "Host: a\r\n"), BAD),
        ("2.3 half a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".into(), BAD),
        ("HTTP/0.9", "GET /\r\n".into(), BAD),
        ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".into(), "200 end"),
        ("9.3 HTTP/1.0, kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), FINE),
        ("9.6 close, among others", get("Connection: x, Close\r\n"), "200 end"),
        ("5 no colon", get("abc\r\n"), BAD),
        ("5 no name", get(": x\r\n"), BAD),
        ("5.1 a space before the colon", get("X : a\r\n"), BAD),
        ("5.2 a value on two lines", get("X: a\r\n b\r\n"), BAD),
        ("RFC 9110 5.5 NUL", get("X: a\0b\r\n"), BAD),
        (
            "3 a target that is very long",
            head(&format!("GET /{} HTTP/1.1", "x".repeat(20_000)), ""),
            TOO_LARGE,
        ),
        ("HEAD has no body", head("HEAD / HTTP/1.1", "Host: a\r\n"), FINE),
        ("RFC 9113 3.1 no upgrade to HTTP/2", get("Connection: upgrade\r\nUpgrade: h2c\r\n"), FINE),
    ])
    .await;
}

#[tokio::test(start_paused = true)]
async fn targets_and_hosts() {
    let host = |host: &str| head("GET / HTTP/1.1", &format!("Host: {host}\r\n"));
    let target = |target: &str| head(&format!("{target} HTTP/1.1"), "Host: a\r\n");
    let mut rows = vec![
        ("3.2.1 a path", target("GET /"), FINE),
        ("3.2.1 none", target("GET a"), BAD),
        ("3.2.1 a user", target("GET @a"), BAD),
        ("3.2.1 CONNECT to one", target("CONNECT /"), BAD),
        ("3.2.2 a URL", target("GET http://b/"), FINE),
        ("3.2.2 without path", target("GET http://b"), FINE),
        ("3.2.2 without path, with a query", target("GET http://b?q"), FINE),
        ("3.2.2 without host", target("GET http:///"), BAD),
        ("3.2.2 with a user", target("GET http://u@b/"), BAD),
        ("3.2.2 with a port that is none", target("GET http://b:x/"), BAD),
        ("3.2.2 CONNECT to one", target("CONNECT http://b/"), BAD),
        ("3.2.3 an authority", target("GET b:80"), BAD),
        ("3.2.4 all of the server", target("GET *"), BAD),
        ("3.2.4 all of the server, for OPTIONS", target("OPTIONS *"), "404 404 open"),
        ("3.2 no host", head("GET / HTTP/1.1", ""), BAD),
        ("3.2 no host, with a URL", head("GET http://b/ HTTP/1.1", ""), BAD),
        ("3.2 two hosts", head("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n"), BAD),
        ("3.2 two hosts, HTTP/1.0", head("GET / HTTP/1.0", "Host: a\r\nHost: a\r\n"), BAD),
    ];
    for (name, hosts, expected) in [
        (
            "3.2 a host",
            &[
                "",
                "a",
                "a.b",
                "a_b",
                "a%20b",
                "a:",
                "a:80",
                "127.0.0.1",
                "[::1]",
                "[::1]:80",
                "[::ffff:1.2.3.4]",
            ][..],
            FINE,
        ),
        (
            "3.2 what is none",
            &[
                "u@a", "u:p@a", "a b", "a/", "http://a", "a?b", "a#b", "a\\b", "a\"b", "<a>", "ä", ":80",
                "a:x", "a:-1", "a:+80", "a:80:80", "::1", "[::1", "::1]", "[::1]x", "[]", "[zz]", "[::1]]",
            ],
            BAD,
        ),
    ] {
        rows.extend(hosts.iter().map(|it| (name, host(it), expected)));
    }
    are_answered(&rows).await;
}

#[tokio::test(start_paused = true)]
async fn lengths_and_codings() {
    let post =
        |fields: &str, body: &str| head("POST /length HTTP/1.1", &format!("Host: a\r\n{fields}")) + body;
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    let long = "x".repeat(20_000);
    // The handler is told that the body is none, and says so; then nobody knows where the next request is.
    const BROKEN: &str = "200 end";
    let mut rows = vec![
        ("6.2 a length", post("Content-Length: 3\r\n", "abc"), FINE),
        ("6.3 twice the same", post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"), FINE),
        ("6.3 two lengths", post("Content-Length: 3\r\nContent-Length: 4\r\n", "abc"), BAD),
        ("6.3 a list of two", post("Content-Length: 3, 4\r\n", "abc"), BAD),
        ("6.1 chunks", chunked(chunks), FINE),
        ("6.1 and a length", post("Content-Length: 9\r\nTransfer-Encoding: chunked\r\n", chunks), "200 end"),
        (
            "6.1 and a length, after it",
            post("Transfer-Encoding: chunked\r\nContent-Length: 9\r\n", chunks),
            "200 end",
        ),
        ("6.1 of HTTP/1.0", chunked(chunks).replace("HTTP/1.1", "HTTP/1.0"), BAD),
        (
            "6.1 and none, later",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks),
            BAD,
        ),
        ("6.1 twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks), UNKNOWN),
        ("7.1.1 extensions", chunked("3;a=\"b;c\"\r\nabc\r\n0;d\r\n\r\n"), FINE),
        ("7.1.1 one that is very long", chunked(&format!("3;{long}\r\nabc\r\n0\r\n\r\n")), BROKEN),
        ("7.1.1 LF in one", chunked("3;a\nabc\r\n0\r\n\r\n"), BROKEN),
        ("7.1.2 trailers", chunked("3\r\nabc\r\n0\r\nX: y\r\n\r\n"), FINE),
        ("7.1.2 large ones", chunked(&format!("3\r\nabc\r\n0\r\nX: {long}\r\n\r\n")), BROKEN),
        ("7.1.2 many", chunked(&format!("3\r\nabc\r\n0\r\n{}\r\n", "X: y\r\n".repeat(200))), BROKEN),
        (
            "10.1.1 of RFC 9110, no expectation of HTTP/1.0",
            { post("Expect: 100-continue\r\nContent-Length: 3\r\n", "abc").replace("HTTP/1.1", "HTTP/1.0") },
            "200 end",
        ),
    ];
    for length in ["+3", "-3", "0x3", "3a", "", "3.0", "\"3\"", "99999999999999999999"] {
        rows.push(("6.2 what is no length", post(&format!("Content-Length: {length}\r\n"), "abc"), BAD));
    }
    for (codings, expected) in [
        (&["Chunked", " chunked "][..], FINE),
        (&["gzip", "chunked, gzip", "xchunked", "x chunked", "chunked;q=1", "\"chunked\"", ""], BAD),
        (&["gzip, chunked", "identity, chunked", "chunked, chunked"], UNKNOWN),
    ] {
        let coded = |coding: &&str| post(&format!("Transfer-Encoding: {coding}\r\n"), chunks);
        rows.extend(codings.iter().map(|coding| ("6.1 a coding", coded(coding), expected)));
    }
    for size in ["0x3", "+3", "-3", " 3", "", "10000000000000003", "3\r\nabcd", "3\nabc"] {
        rows.push((
            "7.1 what is no size, or no chunk of it",
            chunked(&format!("{size}\r\nabc\r\n0\r\n\r\n")),
            BROKEN,
        ));
    }
    are_answered(&rows).await;
}

/// Section 3.2.2: what the target says counts, and a handler is told no other host.
#[tokio::test(start_paused = true)]
async fn of_a_url_the_field_does_not_count() {
    let mut client = connect(Limits::default());
    client.send("GET http://b:81/host HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(client.text().await.ends_with("b:81"));
}
