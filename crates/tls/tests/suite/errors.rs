//! Each failure in its own words, the same over both backends, and what to do about it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tuyau_core::names::{ALPN, DEADLINE, HOST};
use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Flow, FlowErrorKind, Layer, Role};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_tls::{CERTIFICATE_REQUESTED, ClientAuth, TlsError, Version};

use crate::support::*;

/// What clients of both backends say about servers of both that show `leaf`, and what those say of it.
async fn refused(leaf: &Leaf, ca: &Ca, kind: ConnectErrorKind, expected: &str, theirs: &str) {
    for (a, b) in crosswise() {
        let (client, server) = (client(trusting(a, ca)), server(serving(b, leaf)));
        let (ours, their) = shake(&client, &server).await;
        let error = ours.expect_err("it must be refused");
        assert_eq!(said(&error), expected, "{a} to {b}");
        assert_eq!(error.kind(), kind);
        // By TLS 1.3 a server may be done before it is refused.
        let said_to_them = match their {
            Err(error) => said(&error),
            Ok(mut flow) => chain(&flow.read(&mut [0]).await.expect_err("it was refused")),
        };
        assert!(said_to_them.contains(theirs), "{a} to {b}: {said_to_them}");
    }
}

#[tokio::test]
async fn expired() {
    let ca = Ca::new("CA");
    let text = "TLS handshake with a.test at memory: the certificate of `a.test` expired on \
                2020-02-01 00:00:00 UTC (it must be renewed where it comes from; or the clock here is wrong)";
    let leaf = ca.expired(&["a.test"]);
    refused(
        &leaf,
        &ca,
        ConnectErrorKind::Verification,
        text,
        "the peer refused our certificate: certificate expired",
    )
    .await;
}

#[tokio::test]
async fn not_yet_valid() {
    let ca = Ca::new("CA");
    let text = "TLS handshake with a.test at memory: the certificate of `a.test` is not valid before \
                2120-01-01 00:00:00 UTC (check the clocks, here and where it comes from)";
    let leaf = ca.not_yet_valid(&["a.test"]);
    refused(&leaf, &ca, ConnectErrorKind::Verification, text, "the peer refused our certificate").await;
}

#[tokio::test]
async fn wrong_host() {
    let ca = Ca::new("CA");
    let text = "TLS handshake with a.test at memory: the certificate is not for `a.test`, but for `b.test`, \
                `*.c.test` and `127.0.0.1` (connect by one of its names, or give the server name to expect)";
    let leaf = ca.leaf(&["b.test", "*.c.test", "127.0.0.1"]);
    refused(&leaf, &ca, ConnectErrorKind::Verification, text, "the peer refused our certificate").await;
}

#[tokio::test]
async fn unknown_authority() {
    let (ca, other) = (Ca::new("CA"), Ca::new("Other CA"));
    let text = "TLS handshake with a.test at memory: the certificate comes from `Other CA`, an authority that is \
                not trusted (if that authority is to be trusted, give its certificate as root)";
    let leaf = other.leaf(&["a.test"]);
    refused(&leaf, &ca, ConnectErrorKind::Verification, text, "the peer refused our certificate: unknown ca")
        .await;
}

#[tokio::test]
async fn self_signed() {
    let ca = Ca::new("CA");
    let text = "TLS handshake with a.test at memory: the certificate of `a.test` is self-signed, and not trusted \
                (if it is the right one, give that very certificate as root)";
    let theirs = "the peer refused our certificate";
    let leaf = Leaf::self_signed(&["a.test"]);
    refused(&leaf, &ca, ConnectErrorKind::Verification, text, theirs).await;
    let leaf = Leaf::self_signed_ca(&["a.test"]);
    refused(&leaf, &ca, ConnectErrorKind::Verification, text, theirs).await;
}

#[tokio::test]
async fn a_certificate_that_is_given_as_root_is_trusted() {
    for leaf in
        [Leaf::self_signed(&["a.test"]), Leaf::self_signed_ca(&["a.test"]), Ca::new("x").leaf(&["a.test"])]
    {
        for (a, b) in crosswise() {
            let roots = tuyau_tls::Roots::Der(leaf.chain().into());
            let settings = tuyau_tls::Settings::new().backend(a).roots(roots);
            let server = server(serving(b, &leaf));
            let (ours, _) = shake(&client(settings.clone()), &server).await;
            ours.expect("it is trusted");
            let (ours, _) = shake(&client(settings).for_server("b.test"), &server).await;
            let error = said(&ours.expect_err("but not for everything"));
            assert!(error.contains("is not for `b.test`, but for `a.test`"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn client_certificate_missing() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let settings = serving(b, &ca.leaf(&["a.test"])).client_auth(ClientAuth::Required(roots(&ca)));
        let (ours, theirs) = shake(&client(trusting(a, &ca)), &server(settings)).await;
        let error = theirs.expect_err("the client must show one");
        assert_eq!(
            said(&error),
            "TLS handshake with the client memory: the client showed no certificate, and must (the client must be \
             given a certificate and its key)"
        );
        assert_eq!(error.kind(), ConnectErrorKind::Authentication);
        // TLS 1.3: the client learns of it when it reads.
        let mut flow = ours.expect("its own handshake is done");
        assert_eq!(flow.fact(&CERTIFICATE_REQUESTED), Some(true));
        let error = flow.read(&mut [0]).await.expect_err("it was refused");
        assert_eq!(error.kind(), FlowErrorKind::PermissionDenied);
        assert_eq!(chain(&error), "permission denied: the server requires a client certificate");
        let again = flow.read(&mut [0]).await.expect_err("and stays so");
        assert_eq!(chain(&again), chain(&error));
    }
}

/// A client that is refused may have sent its request by then. It is not hung up on over that: it could not read why.
#[tokio::test(start_paused = true)]
async fn a_refused_client_reads_why() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let settings = serving(b, &ca.leaf(&["a.test"])).client_auth(ClientAuth::Required(roots(&ca)));
        let (client, server, cx) = (client(trusting(a, &ca)), server(settings), cx());
        let (ours, theirs) = tuyau_tokio::duplex();
        let asking = async {
            let mut flow = client.wrap(ours, Role::Client, &cx).await.expect("its own handshake is done");
            for _ in 0..20 {
                flow.write_all(&[b'x'; 1000]).await.expect("it is not hung up on");
                tokio::task::yield_now().await;
            }
            chain(&flow.read(&mut [0]).await.expect_err("it was refused"))
        };
        let (said, refused) = tokio::join!(asking, server.wrap(theirs, Role::Server, &cx));
        assert_eq!(said, "permission denied: the server requires a client certificate", "{a} to {b}");
        refused.expect_err("it showed no certificate");
    }
}

/// But it can't keep the server: neither by going on for ever, nor by doing nothing.
#[tokio::test(start_paused = true)]
async fn a_refused_client_has_a_bound() {
    let (ca, cx) = (Ca::new("CA"), cx());
    for backend in BOTH {
        let server = server(serving(backend, &ca.leaf(&["a.test"])));
        let (mut ours, theirs) = tuyau_tokio::duplex();
        let talking = async {
            let mut sent = 0;
            while ours.write_all(&[b'x'; 4096]).await.is_ok() {
                sent += 4096;
            }
            sent
        };
        let began = tokio::time::Instant::now();
        let (sent, refused) = tokio::join!(talking, server.wrap(theirs, Role::Server, &cx));
        refused.expect_err("that is no TLS");
        assert!((1 << 20..2 << 20).contains(&sent), "{backend}: {sent}");
        assert_eq!(began.elapsed(), Duration::ZERO);
        let (mut ours, theirs) = tuyau_tokio::duplex();
        ours.write_all(b"no TLS").await.expect("write");
        server.wrap(theirs, Role::Server, &cx).await.expect_err("that is no TLS");
        assert_eq!(began.elapsed().as_secs(), 2, "{backend}");
    }
}

#[tokio::test(start_paused = true)]
async fn client_certificate_refused() {
    let (ca, other) = (Ca::new("CA"), Ca::new("Other CA"));
    for (a, b) in crosswise() {
        let settings = serving(b, &ca.leaf(&["a.test"])).client_auth(ClientAuth::Required(roots(&ca)));
        let mine = trusting(a, &ca).identity(identity(&other.client("alice")));
        let (ours, theirs) = shake(&client(mine), &server(settings)).await;
        let error = said(&theirs.expect_err("it comes from somebody else"));
        assert!(
            error.contains("the certificate comes from `Other CA`, an authority that is not trusted"),
            "{error}"
        );
        let mut flow = ours.expect("its own handshake is done");
        let error = flow.read(&mut [0]).await.expect_err("it was refused");
        assert_eq!(chain(&error), "permission denied: the peer refused our certificate: unknown ca");
    }
}

#[tokio::test]
async fn no_common_alpn() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let server = server(serving(b, &ca.leaf(&["a.test"])).alpn(&[b"h2".to_vec(), b"http/1.1".to_vec()]));
        let client = client(trusting(a, &ca)).with_alpn(&[b"smtp".to_vec()]);
        let (ours, theirs) = shake(&client, &server).await;
        let hint = "(offer another protocol (ALPN), or none)";
        assert_eq!(
            said(&ours.expect_err("nothing in common")),
            format!(
                "TLS handshake with a.test at memory: the peer speaks none of the protocols (ALPN) that we do: `smtp` {hint}"
            )
        );
        assert_eq!(
            said(&theirs.expect_err("nothing in common")),
            format!(
                "TLS handshake with the client memory: the peer speaks none of the protocols (ALPN) that we do: `h2` and `http/1.1` {hint}"
            )
        );
    }
}

#[tokio::test]
async fn no_common_version() {
    use openssl::ssl::{Ssl, SslContextBuilder, SslMethod, SslVersion};
    let ca = Ca::new("CA");
    let text = "the two sides have no version of TLS in common (have the peer brought up to date, or lower the \
                minimum version)";
    for backend in BOTH {
        // An old client.
        let (a, b) = tuyau_tokio::duplex();
        let mut context = SslContextBuilder::new(SslMethod::tls_client()).unwrap();
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        let mut old = tokio_openssl::SslStream::new(Ssl::new(&context.build()).unwrap(), a).unwrap();
        let server = server(serving(backend, &ca.leaf(&["a.test"])).min_version(Version::Tls13));
        let cx = cx();
        let (_, theirs) =
            tokio::join!(std::pin::Pin::new(&mut old).connect(), server.wrap(b, Role::Server, &cx));
        let error = theirs.expect_err("it is too old");
        assert_eq!(said(&error), format!("TLS handshake with the client memory: {text}"));

        // An old server.
        let (a, b) = tuyau_tokio::duplex();
        let leaf = ca.leaf(&["a.test"]);
        let mut context = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        context.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        context.set_certificate(&openssl::x509::X509::from_der(&leaf.chain()[0]).unwrap()).unwrap();
        context.set_private_key(&openssl::pkey::PKey::private_key_from_der(leaf.key()).unwrap()).unwrap();
        let mut old = tokio_openssl::SslStream::new(Ssl::new(&context.build()).unwrap(), b).unwrap();
        let client = client(trusting(backend, &ca).min_version(Version::Tls13));
        let (ours, _) =
            tokio::join!(client.wrap(a, Role::Client, &cx), std::pin::Pin::new(&mut old).accept());
        let error = ours.expect_err("it is too old");
        assert_eq!(said(&error), format!("TLS handshake with a.test at memory: {text}"));
    }
}

/// What a client, or a server, says of a peer that says `bytes` and then hangs up, or not.
async fn to_a_stranger(role: Role, bytes: &[u8], hangs_up: bool, check: impl Fn(String)) {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (ours, mut theirs) = tuyau_tokio::duplex();
        theirs.write_all(bytes).await.expect("write");
        let kept = match hangs_up {
            true => {
                // What it was sent is read: it hangs up, it does not reset.
                theirs.shutdown().await.expect("shutdown");
                Some(theirs)
            }
            false => Some(theirs),
        };
        let cx = cx();
        let result = match role {
            Role::Client => client(trusting(backend, &ca)).wrap(ours, role, &cx).await,
            Role::Server => server(serving(backend, &ca.leaf(&["a.test"]))).wrap(ours, role, &cx).await,
        };
        check(said(&result.expect_err("that is no TLS")));
        drop(kept);
    }
}

#[tokio::test(start_paused = true)]
async fn plain_text() {
    let hint = "(check the port; or the protocol starts in clear text and is upgraded)";
    let ssh = "(it is an SSH server: check the port, or go through it by ssh://)";
    let http = "(it speaks HTTP without TLS: use http:// in place of https://, or check the port)";
    for (banner, shown, hint) in [
        ("SSH-2.0-OpenSSH_9.2p1\r\n", "SSH-2.0-OpenSSH_9.2p1", ssh),
        ("HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", "HTTP/1.1 400 Bad Request", http),
        ("220 mail.test ESMTP\x1b[2J\r\n", "220 mail.test ESMTP\\u{1b}[2J", hint),
        ("\x16\x02 no such version", "\\u{16}\\u{2} no such version", hint),
        ("E", "E", hint),
    ] {
        to_a_stranger(Role::Client, banner.as_bytes(), false, |said| {
            let text = "TLS handshake with a.test at memory: the peer speaks plain text where TLS should be";
            assert_eq!(said, format!("{text}: \"{shown}\" {hint}"));
        })
        .await;
    }
    to_a_stranger(Role::Server, b"GET / HTTP/1.1\r\n\r\n", false, |said| {
        let text = "TLS handshake with the client memory: the peer speaks plain text where TLS should be";
        assert_eq!(said, format!("{text}: \"GET / HTTP/1.1\" {hint}"));
    })
    .await;
}

/// What comes back to a client is its own hello.
#[tokio::test]
async fn an_echo_is_no_server() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (ours, mut theirs) = tuyau_tokio::duplex();
        let echo = async {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = theirs.read(&mut bytes).await
                && theirs.write_all(&bytes[..n]).await.is_ok()
            {}
        };
        let (client, cx) = (client(trusting(backend, &ca)), cx());
        let (error, ()) = tokio::join!(client.wrap(ours, Role::Client, &cx), echo);
        assert_eq!(
            said(&error.expect_err("nobody serves")),
            "TLS handshake with a.test at memory: the peer is no server: it says hello as a client does (check the \
             port: what sends back what it is sent answers so, or another client)",
            "{backend}"
        );
    }
}

#[tokio::test]
async fn hung_up() {
    let hint = "(it may not speak TLS on that port; its log may say why)";
    to_a_stranger(Role::Client, b"", true, |said| {
        assert_eq!(
            said,
            format!("TLS handshake with a.test at memory: the peer hung up without a word of TLS {hint}")
        );
    })
    .await;
    to_a_stranger(Role::Server, b"\x16\x03\x01\x02", true, |said| {
        let text = "TLS handshake with the client memory: the peer hung up during the handshake";
        assert_eq!(said, format!("{text} {hint}"));
    })
    .await;
    // It is gone, and nothing that is sent arrives.
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (ours, theirs) = tuyau_tokio::duplex();
        drop(theirs);
        let error = client(trusting(backend, &ca)).wrap(ours, Role::Client, &cx()).await;
        assert_eq!(error.expect_err("nobody is there").kind(), ConnectErrorKind::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn silent() {
    let ca = Ca::new("CA");
    let ctx = tuyau_tokio::derivations(Context::new()).with(&DEADLINE, Duration::from_secs(5));
    for backend in BOTH {
        let (ours, theirs) = tuyau_tokio::duplex();
        let cx = ConnectCx::new(&ctx).expect("a context");
        let error = client(trusting(backend, &ca)).wrap(ours, Role::Client, &cx).await;
        let error = error.expect_err("nobody answers");
        assert_eq!(
            said(&error),
            "TLS handshake with a.test at memory: the peer said nothing (it may not speak TLS on \
             that port, or wait for clear text first)"
        );
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
        drop(theirs);
    }
}

#[tokio::test]
async fn truncation_is_told_from_an_end() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        // The connection is cut below TLS.
        let (client_end, mut middle) = tuyau_tokio::duplex();
        let (mut other_middle, server_end) = tuyau_tokio::duplex();
        let (client, server) = (client(trusting(a, &ca)), server(serving(b, &ca.leaf(&["a.test"]))));
        let relay = tokio::spawn(async move {
            let _ = tuyau_core::copy_bidirectional(&mut middle, &mut other_middle).await;
        });
        let (ours, theirs) = over(&client, &server, client_end, server_end).await;
        let (mut ours, mut theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
        theirs.write_all(b"all of it?").await.expect("write");
        let mut got = [0; 10];
        ours.read_exact(&mut got).await.expect("what was sent");
        relay.abort();
        let _ = relay.await;
        for _ in 0..2 {
            let error = ours.read(&mut got).await.expect_err("there was no end");
            assert_eq!(error.kind(), FlowErrorKind::UnexpectedEof, "{a} to {b}");
            let text = "the flow ended unexpectedly: the connection ended without close_notify: bytes may be missing";
            assert_eq!(chain(&error), text);
        }
    }
}

#[tokio::test]
async fn changed_bytes_are_found() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (client_end, mut middle) = tuyau_tokio::duplex();
        let (mut other_middle, server_end) = tuyau_tokio::duplex();
        let (client, server) =
            (client(trusting(backend, &ca)), server(serving(backend, &ca.leaf(&["a.test"]))));
        // Lets the handshake pass, and changes what comes after the word.
        let (go, mut gone) = tokio::sync::oneshot::channel::<()>();
        let relay = tokio::spawn(async move {
            let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
            loop {
                tokio::select! {
                    n = AsyncReadExt::read(&mut middle, &mut up) => {
                        let n = n.unwrap();
                        if n == 0 { return; }
                        if gone.try_recv().is_ok() {
                            up[n - 1] ^= 1;
                        }
                        AsyncWriteExt::write_all(&mut other_middle, &up[..n]).await.unwrap();
                    }
                    n = AsyncReadExt::read(&mut other_middle, &mut down) => {
                        let n = n.unwrap();
                        if n == 0 { return; }
                        AsyncWriteExt::write_all(&mut middle, &down[..n]).await.unwrap();
                    }
                }
            }
        });
        let (ours, theirs) = over(&client, &server, client_end, server_end).await;
        let (mut ours, mut theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
        go.send(()).expect("the relay runs");
        ours.write_all(b"hello").await.expect("write");
        let error = theirs.read(&mut [0; 8]).await.expect_err("it was changed");
        assert_eq!(error.kind(), FlowErrorKind::InvalidData);
        let told = ours.read(&mut [0; 8]).await.expect_err("the peer says so");
        assert_eq!(chain(&told), "the peer sent invalid data: the peer refused: bad record mac");
        relay.abort();
    }
}

#[tokio::test]
async fn a_name_must_be_known_and_possible() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let nameless = tuyau_tls::TlsClient::new(trusting(backend, &ca)).expect("a client");
        let (a, _b) = tuyau_tokio::duplex();
        let error = nameless.wrap(a, Role::Client, &cx()).await.expect_err("whom to expect?");
        assert_eq!(
            said(&error),
            "whose certificate to expect is not known (bind `names::SERVER_NAME` or `names::HOST` in the context)"
        );
        let (a, _b) = tuyau_tokio::duplex();
        let error = nameless.for_server("a b").wrap(a, Role::Client, &cx()).await.expect_err("no name");
        assert!(said(&error).starts_with("`a b` is no name that a certificate can have"), "{}", said(&error));
    }
}

#[tokio::test]
async fn a_layer_of_the_other_side_is_refused() {
    let ca = Ca::new("CA");
    let (a, b) = tuyau_tokio::duplex();
    let (client, server) = (client(trusting(BOTH[0], &ca)), server(serving(BOTH[0], &ca.leaf(&["a.test"]))));
    let error = client.wrap(a, Role::Server, &cx()).await.expect_err("a client");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
    let error = server.wrap(b, Role::Client, &cx()).await.expect_err("a server");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test]
async fn the_source_can_be_matched_on() {
    let ca = Ca::new("CA");
    let (ours, _) =
        shake(&client(trusting(BOTH[0], &ca)), &server(serving(BOTH[1], &ca.leaf(&["b.test"])))).await;
    let error = ours.expect_err("for another");
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<TlsError>());
    let names = vec!["b.test".to_owned()];
    assert_eq!(source, Some(&TlsError::WrongName { asked: "a.test".into(), names }));
}

#[tokio::test]
async fn what_the_context_says_is_used() {
    let ca = Ca::new("CA");
    let nameless = tuyau_tls::TlsClient::new(trusting(BOTH[0], &ca)).expect("a client");
    let server = server(serving(BOTH[0], &ca.leaf(&["a.test"])).alpn(&[b"x".to_vec()]));
    let ctx = tuyau_tokio::derivations(Context::new())
        .with(&HOST, "a.test.".into())
        .with(&ALPN, [b"x".to_vec()].into());
    let ours = ConnectCx::new(&ctx).expect("a context");
    let (a, b) = tuyau_tokio::duplex();
    let theirs = cx();
    let (a, b): (Result<Flow, _>, _) =
        tokio::join!(nameless.wrap(a, Role::Client, &ours), server.wrap(b, Role::Server, &theirs));
    let alpn = a.expect("a handshake").fact(&tuyau_core::names::NEGOTIATED_ALPN);
    assert_eq!(alpn.as_deref(), Some(&b"x"[..]));
    drop(b);
}
