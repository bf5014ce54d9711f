//! TLS as a candidate: protection, deadlines, layers on layers.

use std::time::Duration;

use tuyau_core::names::{DEADLINE, HOST, POLICY, PORT, SECURITY, SERVER_NAME};
use tuyau_core::{ConnectErrorKind, Context, Endpoint, Flow, Policy, Protection, Target};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_tls::dangerous::{UNVERIFIED_TLS, over_unverified};
use tuyau_tls::{BACKEND, Backend, ROOTS, TLS, Tls, TlsClient};
use tuyau_tokio::TCP;

use crate::support::*;

/// TLS in TLS: the one in the other.
static INNER: Endpoint<Tls> = Endpoint::new("inner-tls", &Tls).protection(Protection::Authenticated);

/// Serves a line to each client, over as many layers as there are servers. The port.
async fn hello(servers: Vec<tuyau_tls::TlsServer>) -> (tokio::task::JoinHandle<()>, u16) {
    let target = Target::Addr(([127, 0, 0, 1], 0).into());
    let listener = tuyau_tokio::host().listen(&target, &cx()).await.expect("listen");
    let Target::Addr(address) = listener.local() else { panic!("an address") };
    let listener =
        servers.iter().fold(listener, |listener, server| listener.layered(server.layer(), &Context::new()));
    let served = tuyau_tokio::serve(listener, |mut flow: Flow| async move {
        let _ = flow.write_all(b"hello\n").await;
        let _ = flow.shutdown().await;
        let _ = flow.read(&mut [0]).await;
    });
    let task = tokio::spawn(async move {
        served.await;
    });
    (task, address.port())
}

fn towards(port: u16, backend: Backend, ca: &Ca) -> Context {
    tuyau_tokio::derivations(Context::new())
        .with(&BACKEND, backend)
        .with(&ROOTS, roots(ca))
        .with(&HOST, "127.0.0.1".into())
        .with(&SERVER_NAME, "a.test".into())
        .with(&PORT, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_could_not_be_verified_is_not_tried_unverified() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let (task, port) = hello(vec![server(serving(backend, &Leaf::self_signed(&["a.test"])))]).await;
        let ctx = towards(port, backend, &ca);
        let both = over_unverified(tuyau_tls::over(ctx, &TLS, &TCP), &UNVERIFIED_TLS, &TCP);
        let error = both.clone().offer_at(&TLS, 1).offer_at(&UNVERIFIED_TLS, 2).resolve().await;
        let error = error.expect_err("it can't be verified");
        assert_eq!(error.kind(), ConnectErrorKind::Verification);
        assert!(!format!("{error:#}").contains("connected"), "{error:#}");
        // Nor after a failure of another kind.
        let nobody = both.clone().with(&PORT, tuyau_testing::dead_port());
        let report = nobody.offer_at(&TLS, 1).offer_at(&UNVERIFIED_TLS, 2).explain().await;
        let text = report.to_string();
        assert!(text.contains("unverified-tls") && text.contains("less protected"), "{text}");

        // Alone, it says what it is.
        let flow = both.offer(&UNVERIFIED_TLS).resolve().await.expect("anybody will do");
        let text = flow.report().to_string();
        assert!(text.contains("unverified-tls"), "{text}");
        assert_eq!(flow.into_flow().fact(&SECURITY), Some(Protection::Encrypted));
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_verifies_nobody_is_not_dialled_as_tls() {
    let ca = Ca::new("CA");
    let anybody = tuyau_tls::dangerous::unverified_client(trusting(BOTH[0], &ca)).expect("a client");
    let ctx = tuyau_tls::over(towards(1, BOTH[0], &ca), &TLS, &TCP).with(&tuyau_tls::CLIENT, anybody);
    let error = ctx.offer(&TLS).resolve().await.expect_err("that would be a lie");
    assert!(format!("{error:#}").contains("this TLS client verifies nobody"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_in_tls_is_encrypted_end_to_end() {
    let ca = Ca::new("CA");
    for (a, b) in crosswise() {
        let servers = [serving(a, &ca.leaf(&["outer.test"])), serving(b, &ca.leaf(&["inner.test"]))];
        let (task, port) = hello(servers.into_iter().map(server).collect()).await;
        let outer = TlsClient::new(trusting(b, &ca)).expect("a client").for_server("outer.test");
        let ctx = tuyau_tls::over_with(towards(port, a, &ca), &TLS, &TCP, outer);
        let ctx = tuyau_tls::over(ctx, &INNER, &TLS).with(&SERVER_NAME, "inner.test".into());
        let ctx = ctx.with(&POLICY, Policy::new().encrypted_end_to_end()).offer(&INNER);
        let resolved = ctx.resolve().await.unwrap_or_else(|error| panic!("{error:#}"));
        let text = resolved.report().to_string();
        assert!(text.contains("inner-tls") && text.contains("as outer.test"), "{text}");
        let mut flow = resolved.into_flow();
        assert_eq!(flow.fact(&SERVER_NAME).as_deref(), Some("inner.test"));
        assert_eq!(flow.fact(&SECURITY), Some(Protection::Authenticated));
        assert_eq!(read_line(&mut flow).await, "hello\n");
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_at_the_deadline() {
    let ca = Ca::new("CA");
    for backend in BOTH {
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        let port = silent.local_addr().expect("bound").port();
        let ctx = tuyau_tls::over(towards(port, backend, &ca), &TLS, &TCP)
            .with(&DEADLINE, Duration::from_millis(200))
            .offer(&TLS);
        let error = ctx.resolve().await.expect_err("nobody answers");
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
        let text = format!("{error:#}");
        let expected = format!("TLS handshake with a.test at 127.0.0.1:{port}: the peer said nothing");
        assert!(text.contains(&expected), "{text}");
    }
}
