//! What real proxies answer.

use std::time::Duration;

use tuyau_core::names::DEADLINE;
use tuyau_core::{ConnectErrorKind, Context, Hop};
use tuyau_proxy::{Credentials, HttpConnect, Socks5, Tunnel};
use tuyau_testing::dead_port;
use tuyau_testing::peers::{Proxy, dante, microsocks, ssh_dynamic, sshd, tinyproxy};
use tuyau_tokio::serve;

use crate::support::{assert_echoes, echoing, listening, local, to};

fn by_proxy() -> Socks5 {
    Socks5::new().lookup_by_proxy()
}

/// What is beyond `hop`, which listens on `proxy`'s port.
fn beyond(proxy: &Proxy, hop: impl Hop + 'static, host: &str, port: u16) -> Context {
    to(local(proxy.port()).via(Box::new(hop)), host, port)
}

/// That it fails so, and says this.
async fn fails(ctx: Context, kind: ConnectErrorKind, says: &str) {
    let error = ctx.resolve().await.unwrap_err();
    let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "{text}");
    assert!(text.contains("what to do: "), "{text}");
}

#[tokio::test]
async fn microsocks_connects_names_and_addresses_and_refuses() {
    let (proxy, port) = (microsocks(None), echoing().await);
    for (hop, host) in [(by_proxy(), "localhost"), (by_proxy(), "127.0.0.1"), (Socks5::new(), "localhost")] {
        let mut flow = beyond(&proxy, hop, host, port).resolve().await.unwrap().into_flow();
        assert_echoes(&mut flow).await;
        assert!(flow.find::<Tunnel>().unwrap().proxy().ends_with(&proxy.port().to_string()));
    }
    let nobody = dead_port();
    let says = format!("socks5h://127.0.0.1:{} could not connect to 127.0.0.1:{nobody}", proxy.port());
    fails(beyond(&proxy, by_proxy(), "127.0.0.1", nobody), ConnectErrorKind::Refused, &says).await;
}

#[tokio::test]
async fn microsocks_checks_the_password() {
    let (proxy, port) = (microsocks(Some(("me", "right"))), echoing().await);
    let with = |password: &str| by_proxy().with_credentials(Credentials::new("me", password));
    let mut flow = beyond(&proxy, with("right"), "127.0.0.1", port).resolve().await.unwrap().into_flow();
    assert_echoes(&mut flow).await;
    let authentication = ConnectErrorKind::Authentication;
    let says = "does not accept the user name or password";
    fails(beyond(&proxy, with("wrong"), "127.0.0.1", port), authentication, says).await;
    let says = "wants authentication, and there is no user name and password";
    fails(beyond(&proxy, by_proxy(), "127.0.0.1", port), authentication, says).await;
}

#[tokio::test]
async fn dante_has_rules_and_users() {
    let (proxy, port) = (dante("none"), echoing().await);
    let mut flow = beyond(&proxy, Socks5::new(), "localhost", port).resolve().await.unwrap().into_flow();
    assert_echoes(&mut flow).await;
    let ruled_out = beyond(&proxy, by_proxy(), "127.0.0.1", 1);
    fails(ruled_out, ConnectErrorKind::Refused, "SOCKS5 reply 2, not allowed by its rules").await;
    fails(
        beyond(&proxy, by_proxy(), "127.0.0.1", dead_port()),
        ConnectErrorKind::Refused,
        "SOCKS5 reply 5, connection refused",
    )
    .await;
    let proxy = dante("username");
    let hop = by_proxy().with_credentials(Credentials::new("no-such-user", "x"));
    fails(
        beyond(&proxy, hop, "127.0.0.1", port),
        ConnectErrorKind::Authentication,
        "does not accept the user name or password",
    )
    .await;
}

#[tokio::test]
async fn ssh_connects_names_and_hangs_up_on_what_it_cant_connect() {
    let sshd = sshd();
    let (proxy, port) = (ssh_dynamic(&sshd), echoing().await);
    let mut flow = beyond(&proxy, by_proxy(), "localhost", port).resolve().await.unwrap().into_flow();
    assert_echoes(&mut flow).await;
    let nobody = beyond(&proxy, by_proxy(), "127.0.0.1", dead_port());
    fails(nobody, ConnectErrorKind::Closed, "the proxy gives no reason (`ssh -D` never does)").await;
}

#[tokio::test]
async fn tinyproxy_connects_refuses_and_checks_the_password() {
    let (proxy, port) = (tinyproxy(Some(("me", "right"))), echoing().await);
    let with = |password: &str| HttpConnect::new().with_credentials(Credentials::new("me", password));
    for host in ["localhost", "127.0.0.1"] {
        let mut flow = beyond(&proxy, with("right"), host, port).resolve().await.unwrap().into_flow();
        assert_echoes(&mut flow).await;
    }
    let nobody = beyond(&proxy, with("right"), "127.0.0.1", dead_port());
    fails(nobody, ConnectErrorKind::Unreachable, "Unable to connect").await;
    let forbidden = beyond(&proxy, with("right"), "forbidden.test", 443);
    fails(forbidden, ConnectErrorKind::Refused, "HTTP status 403 Forbidden").await;
    let authentication = ConnectErrorKind::Authentication;
    fails(beyond(&proxy, with("wrong"), "127.0.0.1", port), authentication, "does not accept").await;
    let says = "wants a user name and password (it offers Basic for `";
    fails(beyond(&proxy, HttpConnect::new(), "127.0.0.1", port), authentication, says).await;
}

#[tokio::test]
async fn the_wrong_proxy_at_a_port_is_told() {
    let (socks, http) = (microsocks(None), tinyproxy(None));
    let (_listener, port) = listening().await;
    let ctx = beyond(&socks, HttpConnect::new(), "127.0.0.1", port);
    fails(ctx, ConnectErrorKind::Protocol, "(a SOCKS5 proxy)").await;
    // It waits for the rest of a request: the deadline ends that, and says where it hung.
    let ctx = beyond(&http, by_proxy(), "127.0.0.1", port).with(&DEADLINE, Duration::from_millis(300));
    let error = ctx.resolve().await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert!(format!("{error:#}").contains("socks5h"), "{error:#}");
    // A server that is no proxy at all.
    let (listener, ssh) = listening().await;
    tokio::spawn(
        serve(listener, |mut flow: tuyau_core::Flow| async move {
            let _ = flow.write_all(b"SSH-2.0-x\r\n").await;
            let _ = flow.read(&mut [0; 64]).await;
        })
        .into_future(),
    );
    let ctx = to(local(ssh).via(Box::new(by_proxy())), "127.0.0.1", port);
    fails(ctx, ConnectErrorKind::Protocol, "is no SOCKS5 proxy: it said `SSH-2.0-x` (an SSH server)").await;
}
