//! A proxy that is reached over TLS: haproxy takes it off in front of tinyproxy, and of microsocks.

use tuyau_core::names::{NEGOTIATED_ALPN, PEER_CERTIFICATES, POLICY, SECURITY};
use tuyau_core::{ConnectErrorKind, Context, Policy, Protection};
use tuyau_proxy::{Credentials, HttpConnect, ProxyEnv, Socks5, Tunnel};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{Proxy, haproxy, microsocks, tinyproxy};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{ROOTS, Roots, TLS};
use tuyau_tokio::{TCP, derivations};

use crate::support::{assert_echoes, echoing, listening, to};

/// haproxy with TLS in front of `port`, whose certificate `ca` signed.
fn in_front_of(port: u16, ca: &Ca, place: &Place) -> (Proxy, u16) {
    let leaf = ca.leaf(&["proxy.test", "127.0.0.1"]);
    let pem = place.path("proxy.pem");
    std::fs::write(&pem, format!("{}{}", leaf.chain_pem(), leaf.key_pem())).expect("write");
    let tls = free_port();
    let sections = format!(
        "listen tls\n bind 127.0.0.1:{tls} ssl crt {pem} alpn h2\n server s 127.0.0.1:{port}\n\
         listen ready\n bind 127.0.0.1:{{port}}\n server s 127.0.0.1:{port}\n"
    );
    (haproxy(&sections), tls)
}

/// To a port of this machine by TLS, whose certificate must be of this CA.
fn secured(ca: &Ca, place: &Place, name: &str, port: u16) -> Context {
    let ctx = tuyau_tls::over(derivations(Context::new()), &TLS, &TCP).offer(&TLS);
    let ctx = ctx.with(&ROOTS, Roots::File(ca.file(place, "ca.pem").into()));
    to(ctx, name, port)
}

#[tokio::test]
async fn a_proxy_over_tls_needs_nothing_else() {
    let (place, ca) = (Place::new(), Ca::new("ours"));
    let me = Credentials::new("me", "secret");
    let (http, socks) = (tinyproxy(Some(("me", "secret"))), microsocks(Some(("me", "secret"))));
    let target = echoing().await;
    for (proxy, is_http) in [(&http, true), (&socks, false)] {
        let (_front, port) = in_front_of(proxy.port(), &ca, &place);
        let outer = secured(&ca, &place, "127.0.0.1", port);
        let by_tls = Policy::new().encrypted_on_every_hop();
        let outer = outer.with(&POLICY, by_tls);
        let inner = match is_http {
            true => outer.via(Box::new(HttpConnect::new().over_tls().with_credentials(me.clone()))),
            false => outer.via(Box::new(Socks5::new().with_credentials(me.clone()))),
        };
        let ctx = to(inner.without(&POLICY).only(&TCP).offer(&TCP), "127.0.0.1", target);
        let mut flow = ctx.resolve().await.unwrap().into_flow();
        assert_echoes(&mut flow).await;
        // The way to the proxy is protected, what is beyond is not.
        assert_eq!(flow.find::<Tunnel>().unwrap().security(), Protection::Authenticated);
        assert_eq!(flow.fact(&SECURITY), Some(Protection::Clear));
        assert_eq!((flow.fact(&NEGOTIATED_ALPN), flow.fact(&PEER_CERTIFICATES)), (None, None));
    }
}

#[tokio::test]
async fn a_proxy_whose_certificate_is_wrong_gets_no_password_and_reaches_nobody() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (ca, other) = (Ca::new("ours"), Ca::new("another"));
    let proxy = tinyproxy(None);
    let (_front, port) = in_front_of(proxy.port(), &ca, &place);
    let (mut listener, target) = listening().await;
    let outer = secured(&other, &elsewhere, "127.0.0.1", port);
    let ctx = outer.via(Box::new(HttpConnect::new().with_credentials(Credentials::new("me", "secret"))));
    let error = to(ctx.only(&TCP).offer(&TCP), "127.0.0.1", target).resolve().await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Verification, "{error:#}");
    let untouched = tokio::select! {
        biased;
        _ = listener.accept() => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(untouched, "the target was reached");
}

#[tokio::test]
async fn clear_text_to_a_proxy_that_wants_tls_is_told() {
    let (place, ca) = (Place::new(), Ca::new("ours"));
    let proxy = microsocks(None);
    let (_front, port) = in_front_of(proxy.port(), &ca, &place);
    let outer = || to(derivations(Context::new()).offer(&TCP), "127.0.0.1", port);
    let ctx = to(outer().via(Box::new(HttpConnect::new())), "127.0.0.1", 9);
    let error = ctx.resolve().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(matches!(error.kind(), ConnectErrorKind::Protocol | ConnectErrorKind::Closed), "{text}");
    assert!(text.contains("Is it reached over TLS?"), "{text}");
    // Who insists on TLS sends nothing in clear text, whoever listens there.
    let env =
        ProxyEnv::read(|name| (name == "ALL_PROXY").then(|| format!("https://me:hunter2@127.0.0.1:{port}")));
    let asked = env.proxy_for("tcp", "db", 1).unwrap().unwrap();
    let (mut nobody, plain) = listening().await;
    let ctx = to(derivations(Context::new()).offer(&TCP), "127.0.0.1", plain).via(asked.hop());
    let error = to(ctx, "127.0.0.1", 9).resolve().await.unwrap_err();
    let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse, "{text}");
    let says = format!("https://127.0.0.1:{plain} (set by ALL_PROXY) is to be reached over TLS");
    assert!(text.contains(&says) && !text.contains("hunter2"), "{text}");
    let mut got = nobody.accept().await.unwrap().finish().await.unwrap();
    assert_eq!(got.read(&mut [0; 1]).await.unwrap(), 0, "something was sent");
}
