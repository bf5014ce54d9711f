//! Flows and nets through proxies pass the suites.

use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Hop, Many, Policy, SharedNet, Target};
use tuyau_proxy::{Credentials, HttpConnect, HttpConnectServer, Socks5, Socks5Server};
use tuyau_testing::peers::{dante, microsocks, ssh_dynamic, sshd, tinyproxy};
use tuyau_testing::{Abilities, ListenOn, NetCase, Pair, flow_conformance, net_conformance};
use tuyau_tokio::{TCP, derivations, host};

use crate::support::{embedded, listening, local, net, to};

/// A proxy does not pass on that somebody hung up on bytes unread, but ends the flow.
const PROXIED: Abilities = Abilities { reset: false, ..Abilities::ALL };

/// What `hop`, which listens on `port`, connects.
async fn pair(port: u16, hop: impl Hop + 'static, keep: impl Send + 'static) -> Pair {
    pair_over(&local(port).via(Box::new(hop))).await.keep(keep)
}

async fn pair_over(ctx: &Context) -> Pair {
    let (mut listener, port) = listening().await;
    let ctx = to(ctx.clone(), "127.0.0.1", port);
    let accepting = async { listener.accept().await.expect("accept").finish().await.expect("no handshake") };
    let (client, server) = tokio::join!(ctx.resolve(), accepting);
    Pair::new(client.expect("connect").into_flow(), server).keep(listener)
}

fn by_proxy() -> Socks5 {
    Socks5::new().lookup_by_proxy()
}

fn me() -> Credentials {
    Credentials::new("me", "secret")
}

async fn socks() -> Pair {
    let proxy = microsocks(Some(("me", "secret")));
    pair(proxy.port(), by_proxy().with_credentials(me()), proxy).await
}

async fn through_dante() -> Pair {
    let proxy = dante("none");
    pair(proxy.port(), Socks5::new(), proxy).await
}

async fn through_ssh() -> Pair {
    let sshd = sshd();
    let proxy = ssh_dynamic(&sshd);
    pair(proxy.port(), by_proxy(), (proxy, sshd)).await
}

async fn connect() -> Pair {
    let proxy = tinyproxy(Some(("me", "secret")));
    pair(proxy.port(), HttpConnect::new().with_credentials(me()), proxy).await
}

fn server() -> Socks5Server {
    Socks5Server::new(derivations(Context::new()).offer(&TCP)).expect("a runtime")
}

async fn ours() -> Pair {
    let port = embedded(server().with_user(me())).await;
    pair(port, by_proxy().with_credentials(me()), ()).await
}

fn connect_server() -> HttpConnectServer {
    HttpConnectServer::new(derivations(Context::new()).offer(&TCP)).expect("a runtime")
}

async fn our_connect() -> Pair {
    let port = embedded(connect_server().with_user(me())).await;
    pair(port, HttpConnect::new().with_credentials(me()), ()).await
}

async fn dante_then_ours() -> Pair {
    let near = dante("none");
    let ctx = local(near.port()).via(Box::new(by_proxy()));
    let ctx = to(ctx, "127.0.0.1", embedded(server()).await).via(Box::new(by_proxy()));
    pair_over(&ctx).await.keep(near)
}

/// The nearer first: an HTTP proxy through a SOCKS proxy.
async fn socks_then_http() -> Pair {
    let (near, far) = (microsocks(None), tinyproxy(None));
    let ctx = local(near.port()).via(Box::new(Socks5::new()));
    let ctx = to(ctx, "127.0.0.1", far.port()).via(Box::new(HttpConnect::new()));
    pair_over(&ctx).await.keep((near, far))
}

async fn http_then_socks() -> Pair {
    let (near, far) = (tinyproxy(None), microsocks(None));
    let ctx = local(near.port()).via(Box::new(HttpConnect::new()));
    let ctx = to(ctx, "127.0.0.1", far.port()).via(Box::new(by_proxy()));
    pair_over(&ctx).await.keep((near, far))
}

flow_conformance!(over_dante, PROXIED, through_dante);
flow_conformance!(over_ssh_d, PROXIED, through_ssh);
flow_conformance!(over_the_embedded_server, PROXIED, ours);
flow_conformance!(over_the_embedded_connect_server, PROXIED, our_connect);
flow_conformance!(over_two_that_half_close, PROXIED, dante_then_ours);

/// For proxies that end both directions once one has ended: all but what needs the other.
macro_rules! without_half_close {
    ($name:ident, $pair:ident) => {
        flow_conformance!($name, PROXIED, $pair;
            tiny_reads_and_writes, the_end_stays, reset_by_peer, writes_to_nobody_fail, vectored_writes,
            cancelled_reads, cancelled_writes, cancelled_shutdown, a_pending_read_does_not_stop_writes,
            drop_without_close, lending, empty_reads_and_writes, facts);
    };
}
without_half_close!(over_microsocks, socks);
without_half_close!(over_tinyproxy, connect);
without_half_close!(over_http_over_socks, socks_then_http);
without_half_close!(over_socks_over_http, http_then_socks);

/// A proxy can't listen: what it connects to listens on this machine.
async fn case(ctx: Context, hop: impl Hop + 'static, keep: impl Send + 'static) -> NetCase {
    let by_proxy = Box::new(hop).over(ctx.clone());
    NetCase {
        net: std::sync::Arc::new(ListenOn { connects: by_proxy, listens: host() }),
        listen: || Target::Addr(([127, 0, 0, 1], 0).into()),
        ctx,
        name: None,
        no_name: None,
        unsupported: Target::Context { cid: 1, port: 1 },
        keep: Box::new(std::sync::Mutex::new(keep)),
    }
}

async fn microsocks_case() -> NetCase {
    let proxy = microsocks(None);
    let case = case(local(proxy.port()), Socks5::new(), proxy).await;
    NetCase { name: Some("localhost"), no_name: Some("no-such-name.invalid"), ..case }
}

async fn dante_case() -> NetCase {
    let proxy = dante("none");
    case(local(proxy.port()), by_proxy(), proxy).await
}

async fn ours_case() -> NetCase {
    case(local(embedded(server()).await), by_proxy(), ()).await
}

async fn our_connect_case() -> NetCase {
    case(local(embedded(connect_server()).await), HttpConnect::new(), ()).await
}

async fn two_case() -> NetCase {
    let (near, far) = (tinyproxy(None), microsocks(None));
    let ctx = local(near.port()).via(Box::new(HttpConnect::new()));
    case(to(ctx, "127.0.0.1", far.port()), by_proxy(), (near, far)).await
}

async fn tinyproxy_case() -> NetCase {
    let proxy = tinyproxy(None);
    case(local(proxy.port()), HttpConnect::new(), proxy).await
}

async fn ssh_case() -> NetCase {
    let sshd = sshd();
    let proxy = ssh_dynamic(&sshd);
    case(local(proxy.port()), by_proxy(), (proxy, sshd)).await
}

net_conformance!(net_over_microsocks, microsocks_case);
net_conformance!(net_over_dante, dante_case);
net_conformance!(net_over_the_embedded_server, ours_case);
net_conformance!(net_over_two, two_case);

// HTTP tells that a target was not reached, not that it refused; OpenSSH hangs up, and does not say why.
net_conformance!(net_over_tinyproxy, tinyproxy_case;
    what_is_listened_on_can_be_connected, many_at_once, cancelled_connects, cancelled_accepts, lookups,
    what_it_cant_do_it_says, policy_is_kept);
net_conformance!(net_over_the_embedded_connect_server, our_connect_case;
    what_is_listened_on_can_be_connected, many_at_once, cancelled_connects, cancelled_accepts, lookups,
    what_it_cant_do_it_says, policy_is_kept);
net_conformance!(net_over_ssh_d, ssh_case;
    what_is_listened_on_can_be_connected, many_at_once, cancelled_connects, cancelled_accepts, lookups,
    what_it_cant_do_it_says, policy_is_kept);

#[tokio::test]
async fn a_proxy_says_that_it_cant_listen_or_tell_addresses() {
    let ctx = local(1);
    let cx = ConnectCx::new(&ctx).unwrap();
    let nets: [SharedNet; 2] =
        [Box::new(by_proxy()).over(ctx.clone()), Box::new(HttpConnect::new()).over(ctx.clone())];
    for net in nets {
        let error = net.listen(&Target::name("localhost", 0), &cx).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
        assert!(error.hint().is_some());
        let error = net.lookup("localhost", &Policy::new()).await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
    }
    let here = net(&ctx.via(Box::new(Socks5::new()))).await;
    let Many::All(found) = here.lookup("localhost", &Policy::new()).await.unwrap() else { panic!() };
    assert!(!found.is_empty());
}
