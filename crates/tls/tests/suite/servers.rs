//! The server's side: names, clients' certificates, new certificates while it serves; and sessions resumed.

use std::sync::Arc;

use tuyau_core::names::{NEGOTIATED_ALPN, PEER_CERTIFICATES, SECURITY, SERVER_NAME};
use tuyau_core::{Accepted, ConnectErrorKind, Context, Flow, FlowErrorKind, Layer, Protection, Role, Target};
use tuyau_testing::Place;
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_tls::{ClientAuth, Identity, RESUMED, ServerSettings, Version};

use crate::support::*;

fn shown_to(flow: &Flow) -> Vec<u8> {
    flow.fact(&PEER_CERTIFICATES).expect("a certificate")[0].clone()
}

#[tokio::test]
async fn certificates_are_chosen_by_name() {
    let ca = Ca::new("CA");
    let leaves = [ca.leaf(&["a.test"]), ca.leaf(&["b.test", "*.c.test"]), ca.leaf(&["127.0.0.1"])];
    for (a, b) in crosswise() {
        let [first, second, third] = &leaves;
        let settings = serving(b, first).identity(identity(second)).identity(identity(third));
        let server = server(settings);
        for (name, leaf) in [("a.test", first), ("b.test", second), ("x.c.test", second), ("B.TEST", second)]
        {
            let client = client(trusting(a, &ca)).for_server(name);
            let (ours, theirs) = shake(&client, &server).await;
            assert_eq!(shown_to(&ours.expect("a handshake")), leaf.chain()[0], "{name}");
            let asked = theirs.expect("a handshake").fact(&SERVER_NAME).expect("it was asked for");
            assert!(asked.eq_ignore_ascii_case(name), "{asked}");
        }
        // An address is not asked for: the first certificate is shown, which is not for it.
        let (ours, _) = shake(&client(trusting(a, &ca)).for_server("127.0.0.1"), &server).await;
        let error = said(&ours.expect_err("it is for another"));
        assert!(error.contains("the certificate is not for `127.0.0.1`, but for `a.test`"), "{error}");
    }
}

#[tokio::test]
async fn a_name_without_a_certificate_is_refused() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let server = server(serving(b, &ca.leaf(&["a.test"])).identity(identity(&ca.leaf(&["b.test"]))));
        let (ours, theirs) = shake(&client(trusting(a, &ca)).for_server("c.test"), &server).await;
        assert_eq!(
            said(&ours.expect_err("nobody has that name")),
            "TLS handshake with c.test at memory: the server does not know the name `c.test` (ask for another \
             server name: this one is not served there)",
            "{a} to {b}"
        );
        assert_eq!(
            said(&theirs.expect_err("nobody has that name")),
            "TLS handshake with the client memory: the client asked for `c.test`, and we have certificates for \
             `a.test` and `b.test` (give a certificate for it, or have the client ask for another)",
            "{a} to {b}"
        );
    }
}

#[tokio::test]
async fn addresses_are_verified() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let server = server(serving(b, &ca.leaf(&["127.0.0.1", "::1"])));
        for name in ["127.0.0.1", "::1", "::1%lo"] {
            let (ours, theirs) = shake(&client(trusting(a, &ca)).for_server(name), &server).await;
            ours.expect("it is for that address");
            assert_eq!(theirs.expect("a handshake").fact(&SERVER_NAME), None, "addresses are not sent");
        }
        let (ours, _) = shake(&client(trusting(a, &ca)).for_server("127.0.0.2"), &server).await;
        let error = said(&ours.expect_err("it is for others"));
        assert!(error.contains("is not for `127.0.0.2`, but for `127.0.0.1` and `::1`"), "{error}");
    }
}

#[tokio::test]
async fn intermediates_are_sent() {
    let ca = Ca::new("CA");
    let leaf = ca.intermediate("Intermediate").intermediate("Issuer").leaf(&["a.test"]);
    for (a, b) in crosswise() {
        let (ours, _) = shake(&client(trusting(a, &ca)), &server(serving(b, &leaf))).await;
        let shown = ours.expect("a chain to the root").fact(&PEER_CERTIFICATES).expect("certificates");
        assert_eq!(*shown, *leaf.chain());
        // Without them, nobody known vouches for it.
        let alone = ServerSettings::new(Identity::der(&leaf.chain()[..1], leaf.key())).backend(b);
        let (ours, _) = shake(&client(trusting(a, &ca)), &server(alone)).await;
        let error = said(&ours.expect_err("a link is missing"));
        assert!(
            error.contains("the certificate comes from `Issuer`, an authority that is not trusted"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn clients_certificates() {
    let ca = Ca::new("CA");
    let alice = ca.client("alice");
    for (a, b) in crosswise() {
        for auth in [ClientAuth::Optional(roots(&ca)), ClientAuth::Required(roots(&ca))] {
            let server = server(serving(b, &ca.leaf(&["a.test"])).client_auth(auth.clone()));
            let with = client(trusting(a, &ca).identity(identity(&alice)));
            let (ours, theirs) = shake(&with, &server).await;
            let (ours, theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
            assert_eq!(shown_to(&theirs), alice.chain()[0]);
            assert_eq!(theirs.fact(&SECURITY), Some(Protection::Authenticated));
            assert_eq!(ours.fact(&SECURITY), Some(Protection::Authenticated));
            if matches!(auth, ClientAuth::Optional(_)) {
                let (_, theirs) = shake(&client(trusting(a, &ca)), &server).await;
                let theirs = theirs.expect("it is optional");
                assert_eq!(theirs.fact(&SECURITY), Some(Protection::Encrypted));
                assert_eq!(theirs.fact(&PEER_CERTIFICATES), None);
            }
        }
        // Shown to a server that does not ask: it isn't.
        let (_, theirs) = shake(
            &client(trusting(a, &ca).identity(identity(&alice))),
            &server(serving(b, &ca.leaf(&["a.test"]))),
        )
        .await;
        let theirs = theirs.expect("a handshake");
        assert_eq!(
            (theirs.fact(&PEER_CERTIFICATES), theirs.fact(&SECURITY)),
            (None, Some(Protection::Encrypted))
        );
    }
}

#[tokio::test]
async fn alpn_by_the_servers_preference() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let protocols =
            |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        let server = server(serving(b, &ca.leaf(&["a.test"])).alpn(&protocols(&["h2", "http/1.1"])));
        let client = client(trusting(a, &ca));
        let offering = client.clone().with_alpn(&protocols(&["http/1.1", "h2"]));
        let (ours, theirs) = shake(&offering, &server).await;
        for flow in [ours.expect("a handshake"), theirs.expect("a handshake")] {
            assert_eq!(flow.fact(&NEGOTIATED_ALPN).as_deref(), Some(&b"h2"[..]));
        }
        let (ours, theirs) = shake(&client, &server).await;
        for flow in [ours.expect("a handshake"), theirs.expect("a handshake")] {
            assert_eq!(flow.fact(&NEGOTIATED_ALPN), None);
        }
    }
}

/// One exchange, so that the client has read what the server has sent behind its handshake.
async fn exchange(client: &tuyau_tls::TlsClient, server: &tuyau_tls::TlsServer) -> bool {
    let (ours, theirs) = shake(client, server).await;
    let (mut ours, mut theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
    theirs.write_all(b"hi").await.expect("write");
    ours.read_exact(&mut [0; 2]).await.expect("read");
    let resumed = ours.fact(&RESUMED).expect("it is known");
    assert_eq!(theirs.fact(&RESUMED), Some(resumed));
    assert!(ours.fact(&PEER_CERTIFICATES).is_some(), "a resumed session has the certificate of the first");
    resumed
}

#[tokio::test]
async fn sessions_are_resumed() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let server = server(serving(b, &ca.leaf(&["a.test", "b.test"])));
        let ours = client(trusting(a, &ca));
        assert!(!exchange(&ours, &server).await, "the first is no other's");
        for _ in 0..5 {
            assert!(exchange(&ours, &server).await, "{a} to {b}");
        }
        assert!(!exchange(&ours.clone().for_server("b.test"), &server).await, "another server");
        assert!(!exchange(&client(trusting(a, &ca)), &server).await, "another client");
        let never = client(trusting(a, &ca).resumption(false));
        assert!(!exchange(&never, &server).await && !exchange(&never, &server).await);
        let server = crate::support::server(serving(b, &ca.leaf(&["a.test"])).resumption(false));
        let ours = client(trusting(a, &ca));
        assert!(!exchange(&ours, &server).await && !exchange(&ours, &server).await, "{a} to {b}");
    }
}

#[tokio::test]
async fn sessions_are_kept_apart_by_identity() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let settings = serving(backend, &ca.leaf(&["a.test"])).client_auth(ClientAuth::Optional(roots(&ca)));
        let server = server(settings);
        let ctx = tuyau_tls::over(Context::new(), &tuyau_tls::TLS, &tuyau_tokio::TCP)
            .with(&tuyau_tls::BACKEND, backend)
            .with(&tuyau_tls::ROOTS, roots(&ca));
        let alice = ctx.clone().with(&tuyau_tls::IDENTITY, identity(&ca.client("alice")));
        let get = async |ctx: &Context| ctx.get(&tuyau_tls::CLIENT).await.expect("files").expect("a client");
        let named = async |ctx: &Context| get(ctx).await.for_server("a.test");
        assert!(!exchange(&named(&ctx).await, &server).await);
        assert!(exchange(&named(&ctx).await, &server).await, "they live with the context");
        assert!(!exchange(&named(&alice).await, &server).await, "not for another identity");
        assert!(exchange(&named(&alice).await, &server).await);
        assert!(exchange(&named(&ctx).await, &server).await, "the others are still there");
    }
}

#[tokio::test]
async fn certificates_change_while_it_serves() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let place = Place::new();
        let old = ca.leaf(&["a.test"]);
        let (chain, key) = old.files(&place, "server");
        let host = tuyau_tokio::host();
        let cx = cx();
        let listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
        let server = server(ServerSettings::new(Identity::files(&chain, &key)).backend(backend));
        let mut listener = listener.layered(server.layer(), &Context::new());
        let target = listener.local();
        let client = client(trusting(backend, &ca).resumption(false));
        let mut connect = async || {
            let accept = async {
                let accepted: Accepted = listener.accept().await.expect("accept");
                accepted.finish().await
            };
            let dial = async { client.wrap(host.connect(&target, &cx).await?, Role::Client, &cx).await };
            let (ours, theirs) = tokio::join!(dial, accept);
            (ours.expect("a handshake"), theirs.expect("a handshake"))
        };
        let (mut before, mut before_there) = connect().await;
        assert_eq!(shown_to(&before), old.chain()[0]);

        std::fs::write(&key, "no key").expect("write");
        let error = server.reload_files().expect_err("the key is damaged");
        assert!(said(&error).contains("no private key in it"), "{}", said(&error));
        assert_eq!(shown_to(&connect().await.0), old.chain()[0], "what was served is served further");

        let new: Leaf = ca.leaf(&["a.test"]);
        new.files(&place, "server");
        server.reload_files().expect("new files");
        assert_eq!(shown_to(&connect().await.0), new.chain()[0]);
        // What was connected goes on.
        before_there.write_all(b"still here").await.expect("write");
        before.read_exact(&mut [0; 10]).await.expect("read");
    }
}

#[tokio::test]
async fn a_flow_says_what_protects_it() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let leaf = ca.leaf(&["a.test"]);
        let (ours, theirs) = shake(&client(trusting(a, &ca)), &server(serving(b, &leaf))).await;
        let (ours, theirs) = (ours.expect("a handshake"), theirs.expect("a handshake"));
        for flow in [&ours, &theirs] {
            assert_eq!(flow.fact(&tuyau_tls::VERSION), Some(Version::Tls13));
            let cipher: Arc<str> = flow.fact(&tuyau_tls::CIPHER).expect("one");
            assert!(["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"].contains(&&*cipher), "{cipher}");
            assert_eq!(flow.fact(&SERVER_NAME).as_deref(), Some("a.test"));
            assert_eq!(flow.fact(&RESUMED), Some(false));
        }
        assert_eq!(ours.fact(&SECURITY), Some(Protection::Authenticated));
        assert_eq!(theirs.fact(&SECURITY), Some(Protection::Encrypted), "who the client is, is not known");
        assert!(ours.into_lower().is_err(), "there is no way back to clear text");
    }
}

#[tokio::test]
async fn nobody_is_verified_only_where_it_says_so() {
    let leaf = Leaf::self_signed(&["other.test"]);
    for (a, b) in crosswise() {
        let anybody = tuyau_tls::dangerous::unverified_client(tuyau_tls::Settings::new().backend(a));
        let anybody = anybody.expect("a client").for_server("a.test");
        let (ours, _) = shake(&anybody, &server(serving(b, &leaf))).await;
        let ours = ours.expect("anybody will do");
        assert_eq!(ours.fact(&SECURITY), Some(Protection::Encrypted));
        assert_eq!(shown_to(&ours), leaf.chain()[0]);
        assert!(anybody.describe().contains("unverified"));
    }
}

#[tokio::test]
async fn a_dropped_handshake_leaves_nothing_behind() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (a, mut b) = tuyau_tokio::duplex();
        let client = client(trusting(backend, &ca));
        let cx = cx();
        {
            let mut handshake = client.wrap(a, Role::Client, &cx);
            let mut task = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(handshake.as_mut().poll(&mut task).is_pending());
        }
        let mut hello = vec![0; 16 * 1024];
        assert!(b.read(&mut hello).await.expect("it had said hello") > 0);
        assert_eq!(b.read(&mut hello).await.expect("and is gone"), 0);
    }
}

#[tokio::test]
async fn several_slices_are_one_record_and_one_write() {
    use tuyau_testing::{Calls, Counting};
    let ca = Ca::new("CA");
    for backend in BOTH {
        let calls = Calls::default();
        let (a, b) = tokio::net::UnixStream::pair().expect("a pair");
        let (a, b) = (Flow::from_tokio(Counting::new(a, &calls)), Flow::from_tokio(b));
        let (client, server) =
            (client(trusting(backend, &ca)), server(serving(backend, &ca.leaf(&["a.test"]))));
        let (a, b) = over(&client, &server, a, b).await;
        let (mut a, mut b) = (a.expect("a handshake"), b.expect("a handshake"));
        let before = calls.plain() + calls.vectored();
        let slices: [&[u8]; 4] = [b"one", b"", &[7; 5000], b"three"];
        let n = std::future::poll_fn(|cx| a.poll_write(cx, &slices)).await.expect("write");
        a.flush().await.expect("flush");
        assert_eq!((n, calls.plain() + calls.vectored()), (5008, before + 1));
        let mut got = vec![0; 10_000];
        let n = b.read(&mut got).await.expect("read");
        assert_eq!(got[..n], slices.concat(), "one record");
    }
}

#[tokio::test]
async fn a_broken_flow_below_is_an_error_of_its_kind() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (a, b) =
            shake(&client(trusting(backend, &ca)), &server(serving(backend, &ca.leaf(&["a.test"])))).await;
        let mut a = a.expect("a handshake");
        drop(b);
        let error = loop {
            if let Err(error) = a.write_all(&[0; 4096]).await {
                break error;
            }
        };
        assert!(matches!(error.kind(), FlowErrorKind::BrokenPipe | FlowErrorKind::Reset), "{error:?}");
        assert_eq!(tuyau_core::ConnectError::from(error).kind(), ConnectErrorKind::Closed,);
    }
}
