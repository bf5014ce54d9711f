//! Every answer a proxy may give, and what is made of it.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tuyau_core::names::{DEADLINE, LOCAL, NEGOTIATED_ALPN, PEER, SECURITY};
use tuyau_core::{Ask, ConnectCx, ConnectErrorKind, Context, Flow, Hop, Protection, Target};
use tuyau_proxy::{Answer, Credentials, HttpConnect, Socks5, Socks5Server, Tunnel};
use tuyau_tokio::{derivations, duplex};

use crate::support::{listening, local, played, script, text, through, to};

fn name() -> Target {
    Target::name("db", 5432)
}

fn by_proxy() -> Socks5 {
    Socks5::new().lookup_by_proxy()
}

fn secret() -> Credentials {
    Credentials::new("Aladdin", "open sesame")
}

const HELLO: (&[u8], &[u8]) = (b"\x05\x01\x00", b"\x05\x00");
const ASK_DB: &[u8] = b"\x05\x01\x00\x03\x02db\x15\x38";
const YES: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\xd2";

/// The answer, and the first bytes of the server, in one packet.
async fn assert_banner(ctx: Context, hop: impl Hop) {
    let mut flow = through(&ctx, hop, &name()).await.unwrap();
    let mut got = Vec::new();
    let mut some = [0; 7];
    while let n @ 1.. = flow.read(&mut some).await.unwrap() {
        got.extend_from_slice(&some[..n]);
    }
    assert_eq!(got.escape_ascii().to_string(), "220 mail.test ESMTP\\r\\n");
    assert_eq!(flow.fact(&PEER), Some(name()));
}

#[tokio::test]
async fn a_banner_in_the_packet_of_the_answer_is_not_lost() {
    let socks =
        script(&[HELLO, (ASK_DB, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\xd2220 mail.test ESMTP\r\n")]);
    assert_banner(socks, by_proxy()).await;
    // The proxy's own address may be a name, or IPv6.
    let socks = script(&[HELLO, (ASK_DB, b"\x05\x00\x00\x03\x01x\x04\xd2220 mail.test ESMTP\r\n")]);
    assert_banner(socks, by_proxy()).await;
    let http = script(&[(
        b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
          HTTP/1.0 200 Connection established\r\nContent-Length: 3\r\n\r\n220 mail.test ESMTP\r\n",
    )]);
    assert_banner(http, HttpConnect::new()).await;
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let dribble = |answer: &'static [u8]| {
        played(move |mut flow| async move {
            let mut request = [0; 64];
            flow.read(&mut request).await.unwrap();
            for byte in answer {
                flow.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let ctx = dribble(b"\x05\x00\x05\x00\x00\x03\x02me\x00\x01!");
    let mut flow = through(&ctx, by_proxy(), &name()).await.unwrap();
    assert_eq!(flow.read(&mut [0; 9]).await.unwrap(), 1);
    let long: &'static str = format!("HTTP/1.1 200 OK\r\nVia: {}\r\n\r\n!", "x".repeat(2000)).leak();
    let ctx = dribble(long.as_bytes());
    through(&ctx, HttpConnect::new(), &name()).await.unwrap();
    let ctx = dribble(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n!");
    let mut flow = through(&ctx, HttpConnect::new(), &name()).await.unwrap();
    assert_eq!(flow.read(&mut [0; 9]).await.unwrap(), 1);
}

#[tokio::test]
async fn addresses_are_sent_as_such() {
    let v4: (&[u8], &[u8]) = (b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", YES);
    let v6: (&[u8], &[u8]) =
        (b"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb", YES);
    let ctx = script(&[HELLO, v4]);
    let flow = through(&ctx, Socks5::new(), &Target::Addr("192.0.2.1:80".parse().unwrap())).await.unwrap();
    let tunnel: &Tunnel = flow.find().unwrap();
    assert_eq!(tunnel.bound(), Some("127.0.0.1:1234".parse().unwrap()));
    assert_eq!(tunnel.proxy(), "socks5");
    // A literal is an address, also where names are looked up by the proxy.
    let ctx = script(&[HELLO, v4]);
    through(&ctx, by_proxy(), &Target::name("192.0.2.1", 80)).await.unwrap();
    let ctx = script(&[HELLO, v6]);
    through(&ctx, Socks5::new(), &Target::Addr("[2001:db8::1]:443".parse().unwrap())).await.unwrap();
    let ctx = script(&[(
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        b"HTTP/1.1 204 Yes\r\n\r\n",
    )]);
    through(&ctx, HttpConnect::new(), &Target::Addr("[2001:db8::1]:443".parse().unwrap())).await.unwrap();
}

#[tokio::test]
async fn credentials_are_sent_as_the_protocols_have_it() {
    let ctx = script(&[
        (b"\x05\x02\x00\x02", b"\x05\x02"),
        (b"\x01\x07Aladdin\x0bopen sesame", b"\x01\x00"),
        (ASK_DB, YES),
    ]);
    through(&ctx, by_proxy().with_credentials(secret()), &name()).await.unwrap();
    // A proxy may do without.
    let ctx = script(&[(b"\x05\x02\x00\x02", b"\x05\x00"), (ASK_DB, YES)]);
    through(&ctx, by_proxy().with_credentials(secret()), &name()).await.unwrap();
    // The example of RFC 7617.
    let ctx = script(&[(
        b"CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n\
          Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    )]);
    through(&ctx, HttpConnect::new().with_credentials(secret()), &name()).await.unwrap();
}

#[tokio::test]
async fn every_reply_code_is_an_error_of_its_own() {
    use ConnectErrorKind::{Other, Protocol, Refused, TimedOut, Unreachable, Unsupported};
    let replies: &[(&'static [u8], ConnectErrorKind, &str)] = &[
        (b"\x05\x01\x00", Other, "SOCKS5 reply 1, general failure"),
        (b"\x05\x02\x00", Refused, "SOCKS5 reply 2, not allowed by its rules"),
        (b"\x05\x03\x00", Unreachable, "SOCKS5 reply 3, network unreachable"),
        (b"\x05\x04\x00", Unreachable, "SOCKS5 reply 4, host unreachable"),
        (b"\x05\x05\x00", Refused, "SOCKS5 reply 5, connection refused"),
        (b"\x05\x06\x00", TimedOut, "SOCKS5 reply 6, TTL expired"),
        (b"\x05\x07\x00", Unsupported, "SOCKS5 reply 7, command not supported"),
        (b"\x05\x08\x00", Unsupported, "SOCKS5 reply 8, address type not supported"),
        (b"\x05\x63\x00", Protocol, "SOCKS5 reply 99, not a code of RFC 1928"),
    ];
    let mut texts = std::collections::HashSet::new();
    for (reply, kind, says) in replies {
        let ctx = played(move |mut flow| async move {
            flow.read_exact(&mut [0; 3]).await.unwrap();
            flow.write_all(b"\x05\x00").await.unwrap();
            flow.read_exact(&mut [0; 9]).await.unwrap();
            flow.write_all(reply).await.unwrap();
        });
        let error = through(&ctx, by_proxy(), &name()).await.unwrap_err();
        assert_eq!(error.kind(), *kind, "{error:?}");
        let text = text(&error);
        assert!(
            text.starts_with(&format!("socks5h could not connect to db:5432: {says}\nwhat to do: ")),
            "{text}"
        );
        assert!(error.hint().is_some());
        let answer = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Answer>());
        assert_eq!(answer, Some(&Answer::Socks5(reply[1])));
        assert!(texts.insert(text));
    }
}

#[tokio::test]
async fn every_class_of_status_is_an_error_of_its_own() {
    use ConnectErrorKind::{
        Authentication, NotFound, Other, Protocol, Refused, TimedOut, Unreachable, Unsupported,
    };
    for (status, kind, says) in [
        (101, Protocol, "HTTP status 101 Switching Protocols"),
        (302, Protocol, "HTTP status 302 Found"),
        (400, Protocol, "HTTP status 400 Bad Request"),
        (401, Authentication, "HTTP status 401 Unauthorized"),
        (403, Refused, "HTTP status 403 Forbidden"),
        (404, NotFound, "HTTP status 404 Not Found"),
        (405, Unsupported, "HTTP status 405 Method Not Allowed"),
        (407, Authentication, "HTTP status 407 Proxy Authentication Required"),
        (408, TimedOut, "HTTP status 408 Request Timeout"),
        (418, Refused, "HTTP status 418 I'm a teapot"),
        (421, Unsupported, "HTTP status 421 Misdirected Request"),
        (429, Refused, "HTTP status 429 Too Many Requests"),
        (500, Unreachable, "HTTP status 500 Internal Server Error"),
        (501, Unsupported, "HTTP status 501 Not Implemented"),
        (502, Unreachable, "HTTP status 502 Bad Gateway"),
        (503, Unreachable, "HTTP status 503 Service Unavailable"),
        (504, TimedOut, "HTTP status 504 Gateway Timeout"),
        (599, Unreachable, "HTTP status 599"),
        (700, Other, "HTTP status 700"),
    ] {
        let ctx = played(move |mut flow| async move {
            flow.read(&mut [0; 64]).await.unwrap();
            let answer =
                format!("HTTP/1.1 {status} x\r\nContent-Length: 20\r\n\r\n<p>because\x1b[31m</p>\nmore");
            flow.write_all(answer.as_bytes()).await.unwrap();
            // It does not close: the length says when the body is over.
            flow.read(&mut [0; 64]).await.unwrap();
        });
        let error = through(&ctx, HttpConnect::new(), &name()).await.unwrap_err();
        let text = text(&error);
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(&format!(": `because\\u{{1b}}[31m`: {says}\nwhat to do: ")), "{text}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn wrong_credentials_end_it_and_say_what_is_offered() {
    let refusal: &'static [u8] = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\
        Proxy-Authenticate: Basic realm=\"corp\"\r\nContent-Length: 0\r\n\r\n";
    let ctx = played(move |mut flow| async move {
        flow.read(&mut [0; 200]).await.unwrap();
        flow.write_all(refusal).await.unwrap();
    });
    let error = through(&ctx, HttpConnect::new(), &name()).await.unwrap_err();
    assert_eq!(
        text(&error),
        "http wants a user name and password (it offers Negotiate, Basic for `corp`): HTTP status 407 Proxy \
         Authentication Required\nwhat to do: give the proxy's user name and password"
    );
    let error = through(&ctx, HttpConnect::new().with_credentials(secret()), &name()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert!(text(&error).starts_with("http does not accept the user name or password (it offers"), "{error}");
    let ctx = played(move |mut flow| async move {
        flow.read(&mut [0; 200]).await.unwrap();
        flow.write_all(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
    });
    let error = through(&ctx, HttpConnect::new().with_credentials(secret()), &name()).await.unwrap_err();
    assert!(
        text(&error).ends_with("only basic authentication (RFC 7617) is spoken here"),
        "{}",
        text(&error)
    );

    for (steps, says) in [
        (
            &[(&b"\x05\x01\x00"[..], &b"\x05\xff"[..])][..],
            "socks5h wants authentication, and there is no user",
        ),
        (&[(b"\x05\x01\x00", b"\x05\x01")], "socks5h chose method 1, which was not offered"),
    ] {
        let error = through(&script(steps), by_proxy(), &name()).await.unwrap_err();
        assert!(text(&error).starts_with(says), "{}", text(&error));
    }
    let login: (&[u8], &[u8]) = (b"\x01\x07Aladdin\x0bopen sesame", b"\x01\x01");
    let no = &[(&b"\x05\x02\x00\x02"[..], &b"\x05\x02"[..]), login];
    let error = through(&script(no), by_proxy().with_credentials(secret()), &name()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert!(text(&error).contains("does not accept the user name or password"), "{}", text(&error));
    let neither = script(&[(b"\x05\x02\x00\x02", b"\x05\xff")]);
    let error = through(&neither, by_proxy().with_credentials(secret()), &name()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Authentication);
    assert!(text(&error).contains("GSSAPI"), "{}", text(&error));
}

#[tokio::test]
async fn who_is_no_proxy_is_told_by_what_it_says() {
    for (says, looks) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "`SSH-2.0-OpenSSH_9.2` (an SSH server)"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "`HTTP/1.1 400 Bad Request` (an HTTP server)"),
        (b"\x00\x5b\x00\x00\x00\x00\x00\x00", "(a SOCKS4 proxy)"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "(TLS: reach the proxy over TLS)"),
        (b"220 mail.test\r\n", "`220 mail.test` (an SMTP or FTP server)"),
        (b"\x05\xff", "(a SOCKS5 proxy)"),
    ] {
        let ctx = played(move |mut flow| async move {
            flow.write_all(says).await.unwrap();
            let _ = flow.read(&mut [0; 64]).await;
        });
        if !looks.contains("SOCKS5") {
            let error = through(&ctx, by_proxy(), &name()).await.unwrap_err();
            let text = text(&error);
            assert_eq!(error.kind(), ConnectErrorKind::Protocol, "{text}");
            assert!(
                text.starts_with("socks5h is no SOCKS5 proxy: it said ") && text.contains(looks),
                "{text}"
            );
        }
        if !looks.contains("HTTP") {
            let error = through(&ctx, HttpConnect::new(), &name()).await.unwrap_err();
            let text = text(&error);
            assert_eq!(error.kind(), ConnectErrorKind::Protocol, "{text}");
            assert!(text.starts_with("http is no HTTP proxy: it said ") && text.contains(looks), "{text}");
        }
    }
    for hop in [Box::new(by_proxy()) as Box<dyn Hop>, Box::new(HttpConnect::new())] {
        let ctx = played(|_| async {});
        let net = hop.over(ctx.clone());
        let error = net.connect(&name(), &ConnectCx::new(&ctx).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Closed, "{error:?}");
        assert!(error.hint().unwrap().contains("the right port"), "{error:?}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_a_packet() {
    let never = || Context::from_fn(|| async { panic!("dialled") });
    let long = |n: usize| Target::name(&"x".repeat(n), 1);
    let user = |user: &str, password: &str| Credentials::new(user, password);
    let unsupported = Target::Path((*b"/run/s").into());
    let zone = Target::Addr("[fe80::1%7]:80".parse().unwrap());
    for (hop, target, kind, says) in [
        (by_proxy(), long(256), ConnectErrorKind::Misuse, "a name of 256 bytes"),
        (by_proxy(), Target::name("", 1), ConnectErrorKind::Misuse, "a name of 0 bytes"),
        (by_proxy(), unsupported.clone(), ConnectErrorKind::Unsupported, "can't connect to `/run/s`"),
        (by_proxy(), zone.clone(), ConnectErrorKind::Unsupported, "the zone"),
        (
            by_proxy().with_credentials(user(&"u".repeat(256), "p")),
            name(),
            ConnectErrorKind::Misuse,
            "a user name of 256 bytes",
        ),
        (
            by_proxy().with_credentials(user("", "p")),
            name(),
            ConnectErrorKind::Misuse,
            "a user name of 0 bytes",
        ),
        (
            by_proxy().with_credentials(user("u", &"p".repeat(256))),
            name(),
            ConnectErrorKind::Misuse,
            "a password of 256 bytes",
        ),
    ] {
        let error = through(&never(), hop, &target).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(text(&error).contains(says) && error.hint().is_some(), "{}", text(&error));
    }
    for (hop, target, kind) in [
        (HttpConnect::new(), long(256), ConnectErrorKind::Misuse),
        (HttpConnect::new(), Target::name("a b", 1), ConnectErrorKind::Misuse),
        (HttpConnect::new(), Target::name("a\r\nX: y", 1), ConnectErrorKind::Misuse),
        (HttpConnect::new(), Target::name("naïve", 1), ConnectErrorKind::Misuse),
        (HttpConnect::new(), unsupported, ConnectErrorKind::Unsupported),
        (HttpConnect::new(), zone, ConnectErrorKind::Unsupported),
        (HttpConnect::new().with_credentials(user("a:b", "c")), name(), ConnectErrorKind::Misuse),
        (HttpConnect::new().with_credentials(user("a", "b\r\n")), name(), ConnectErrorKind::Misuse),
    ] {
        let error = through(&never(), hop, &target).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
    }
    // 255 bytes do fit.
    let ctx = played(|mut flow| async move {
        flow.read_exact(&mut [0; 3]).await.unwrap();
        flow.write_all(b"\x05\x00").await.unwrap();
        flow.read_exact(&mut [0; 7 + 255]).await.unwrap();
        flow.write_all(YES).await.unwrap();
    });
    through(&ctx, by_proxy(), &long(255)).await.unwrap();
}

#[tokio::test]
async fn a_header_without_end_is_given_up() {
    for endless in
        [&b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"[..], b"HTTP/1.1 100 x\r\n\r\n"]
    {
        let ctx = played(move |mut flow| async move {
            let start = if endless.starts_with(b"X") { &b"HTTP/1.1 200 OK\r\n"[..] } else { b"" };
            let _ = flow.write_all(start).await;
            while flow.write_all(endless).await.is_ok() {}
        });
        let error = through(&ctx, HttpConnect::new(), &name()).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Protocol, "{error:?}");
    }
}

#[tokio::test]
async fn what_the_proxys_connection_is_says_nothing_of_what_is_beyond() {
    let ctx = Context::from_fn(|| {
        let (ours, mut theirs) = tokio::io::duplex(100);
        tokio::spawn(async move {
            theirs.write_all(b"\x05\x00").await.unwrap();
            theirs.write_all(YES).await.unwrap();
            while theirs.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
        });
        let facts = |_: &DuplexStream, ask: &mut Ask<'_>| {
            ask.answer(&SECURITY, || Protection::Authenticated)
                .answer(&NEGOTIATED_ALPN, || (*b"h2").into())
                .answer(&LOCAL, || Target::Described("here".into()));
        };
        async move { Ok(Flow::from_tokio_with(ours, facts)) }
    });
    let flow = through(&ctx, by_proxy(), &name()).await.unwrap();
    assert_eq!(flow.fact(&SECURITY), Some(Protection::Clear));
    assert_eq!(flow.fact(&NEGOTIATED_ALPN), None);
    assert_eq!(flow.fact(&LOCAL), Some(Target::Described("here".into())));
    assert_eq!(flow.find::<Tunnel>().unwrap().security(), Protection::Authenticated);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_a_silent_proxy_and_a_silent_explanation() {
    let silent =
        || played(|mut flow| async move { while flow.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {} });
    for hop in [Box::new(by_proxy()) as Box<dyn Hop>, Box::new(HttpConnect::new())] {
        let inner = to(local(0), "db", 5432).with(&tuyau_core::names::NET, hop.over(silent()));
        let before = tokio::time::Instant::now();
        let error = inner.with(&DEADLINE, Duration::from_secs(7)).resolve().await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut, "{error:#}");
        assert_eq!(before.elapsed(), Duration::from_secs(7));
    }
    // Says no, and never why.
    let ctx = played(|mut flow| async move {
        flow.read(&mut [0; 64]).await.unwrap();
        flow.write_all(b"HTTP/1.1 403 No\r\n\r\n").await.unwrap();
        while flow.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
    });
    let before = tokio::time::Instant::now();
    let error = through(&ctx, HttpConnect::new(), &name()).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(before.elapsed() <= Duration::from_secs(1));
}

#[tokio::test]
async fn dropping_it_closes_the_connection_to_the_proxy() {
    let (mut listener, port) = listening().await;
    let ctx = local(port);
    let (connecting, accepting) = (by_proxy(), async {
        let mut flow = listener.accept().await.unwrap().finish().await.unwrap();
        flow.read_exact(&mut [0; 3]).await.unwrap();
        flow
    });
    let target = name();
    let mut connecting = Box::pin(through(&ctx, connecting, &target));
    let mut flow = tokio::select! {
        _ = &mut connecting => panic!("nobody answered"),
        flow = accepting => flow,
    };
    drop(connecting);
    assert_eq!(flow.read(&mut [0; 1]).await.unwrap(), 0);
}

/// What a peer says, that may look right for a while.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    let starts = [
        &b""[..],
        b"\x05",
        b"\x05\x00",
        b"\x05\x00\x05\x00\x00",
        b"\x05\x00\x05\x00\x00\x03",
        b"\x05\x02\x01\x00",
        b"\x05\x01\x00\x05\x01\x00",
        b"\x05\x01\x00\x05\x01\x00\x03",
        b"HTTP/1.1 ",
        b"HTTP/1.1 100 x\r\n",
        b"HTTP/1.1 407 x\r\nProxy-Authenticate: ",
        b"HTTP/1.1 200 x\r\n\r\n",
        b"HTTP/1.1 500 x\r\nContent-Length: ",
    ];
    (0..starts.len(), vec(any::<u8>(), 0..600)).prop_map(move |(start, rest)| [starts[start], &rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_answers_and_requests_never_panic_or_hang(says in anything(), with_password: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let (said, me) = (says.clone(), Credentials::new("me", "secret"));
            let ctx = played(move |mut flow| {
                let said = said.clone();
                async move {
                    let _ = flow.write_all(&said).await;
                    let _ = flow.shutdown().await;
                    while flow.read(&mut [0; 512]).await.is_ok_and(|n| n > 0) {}
                }
            });
            let (socks, http) = (by_proxy(), HttpConnect::new());
            let (socks, http) = match with_password {
                true => (socks.with_credentials(me.clone()), http.with_credentials(me)),
                false => (socks, http),
            };
            for result in [through(&ctx, socks, &name()).await, through(&ctx, http, &name()).await] {
                if let Err(error) = result {
                    assert!(error.hint().is_some() && !text(&error).contains('\x1b'), "{error:?}");
                }
            }
            let nobody = Socks5Server::new(derivations(Context::new())).unwrap();
            let (mut client, theirs) = duplex();
            let saying = async {
                let _ = client.write_all(&says).await;
                let _ = client.shutdown().await;
                while client.read(&mut [0; 512]).await.is_ok_and(|n| n > 0) {}
            };
            let (served, ()) = tokio::join!(nobody.serve(theirs), saying);
            assert!(served.is_err());
        });
    }
}
