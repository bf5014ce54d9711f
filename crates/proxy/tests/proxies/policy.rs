//! Policies, lookups, dead proxies, and what reports say.

use tuyau_core::names::POLICY;
use tuyau_core::{ConnectErrorKind, Context, Hop, Network, Policy};
use tuyau_proxy::{Credentials, EnvProxy, HttpConnect, ProxyEnv, Socks5};
use tuyau_testing::dead_port;
use tuyau_testing::peers::microsocks;

use crate::support::{at, listening, local, net, to};

fn by_proxy() -> Socks5 {
    Socks5::new().lookup_by_proxy()
}

/// A report, its lines in one.
fn words(report: tuyau_core::Report) -> String {
    format!("{report:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn explain_says_who_looked_the_name_up() {
    let proxy = microsocks(None);
    let (_listener, port) = listening().await;
    let far = to(local(proxy.port()).via(Box::new(by_proxy())), "localhost", port);
    let report = words(far.explain().await);
    assert!(report.contains(&format!(" to localhost:{port}, looked up there")), "{report}");
    assert!(
        report.contains(&format!("socks5h://127.0.0.1:{} looks names up itself", proxy.port())),
        "{report}"
    );
    let here = to(local(proxy.port()).via(Box::new(Socks5::new())), "localhost", port);
    let report = words(here.explain().await);
    assert!(report.contains(&format!(" to 127.0.0.1:{port}")), "{report}");
    assert!(!report.contains("looked up there"), "{report}");
    let by = format!("socks5h://127.0.0.1:{}", proxy.port());
    let env = ProxyEnv::read(|name| (name == "ALL_PROXY").then(|| by.clone()));
    let asked = env.proxy_for("tcp", "localhost", port).unwrap().unwrap();
    let by_env = to(at(asked.host(), asked.port()).via(asked.hop()), "localhost", port);
    let report = words(by_env.explain().await);
    let says = format!("(set by ALL_PROXY) to localhost:{port}, looked up there: ok");
    assert!(report.contains(&says), "{report}");
    // Where the net is asked for a name itself.
    let target = tuyau_core::Target::name("localhost", port);
    let cx = tuyau_core::ConnectCx::new(&here).unwrap();
    net(&here).await.connect(&target, &cx).await.unwrap();
}

#[tokio::test]
async fn no_local_lookup_refuses_names_before_socks5_and_not_before_socks5h() {
    let proxy = microsocks(None);
    let (_listener, port) = listening().await;
    let no_lookup = Policy::new().no_local_lookup();
    let ctx = |hop: Socks5| to(local(proxy.port()).via(Box::new(hop)), "localhost", port);
    ctx(by_proxy()).with(&POLICY, no_lookup.clone()).resolve().await.unwrap();
    let error = ctx(Socks5::new()).with(&POLICY, no_lookup.clone()).resolve().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("looks up `localhost` on this machine, which the policy forbids"), "{text}");
    assert!(text.contains("socks5h://"), "{text}");
    // The policy of the proxy's own context binds as well.
    let own = local(proxy.port()).with(&POLICY, no_lookup).via(Box::new(Socks5::new())).without(&POLICY);
    let error = to(own, "localhost", port).resolve().await.unwrap_err();
    assert!(format!("{error:#}").contains("the policy forbids"), "{error:#}");
    // An address needs no lookup.
    let literal = to(local(proxy.port()).via(Box::new(Socks5::new())), "127.0.0.1", port);
    literal.with(&POLICY, Policy::new().no_local_lookup()).resolve().await.unwrap();
}

#[tokio::test]
async fn certain_networks_only_checks_what_is_passed_on_and_passes_no_name_on() {
    let proxy = microsocks(None);
    let (mut listener, port) = listening().await;
    let only = |network: &str| Policy::new().only_networks([network.parse::<Network>().unwrap()]);
    for (hop, host, network, allowed) in [
        (by_proxy(), "127.0.0.1", "127.0.0.0/8", true),
        (by_proxy(), "localhost", "127.0.0.0/8", false),
        (Socks5::new(), "localhost", "127.0.0.0/8", true),
        (Socks5::new(), "127.0.0.1", "192.0.2.0/24", false),
    ] {
        let ctx = to(local(proxy.port()).via(Box::new(hop)), host, port).with(&POLICY, only(network));
        match ctx.resolve().await {
            Ok(_) => {
                assert!(allowed, "{host} in {network}");
                listener.accept().await.unwrap();
            }
            Err(error) => {
                assert!(!allowed, "{host} in {network}: {error:#}");
                assert_eq!(error.kind(), ConnectErrorKind::Policy, "{error:#}");
            }
        }
    }
}

#[tokio::test]
async fn a_dead_proxy_sends_no_packet_to_the_target() {
    for hop in [Box::new(by_proxy()) as Box<dyn Hop>, Box::new(Socks5::new()), Box::new(HttpConnect::new())] {
        let (mut listener, port) = listening().await;
        let proxy = dead_port();
        let ctx = to(local(proxy).via(hop), "127.0.0.1", port);
        let error = ctx.resolve().await.unwrap_err();
        assert_eq!(error.kind(), ConnectErrorKind::Refused, "{error:#}");
        assert!(format!("{error:#}").contains(&format!("127.0.0.1:{proxy}")), "{error:#}");
        let untouched = tokio::select! {
            biased;
            _ = listener.accept() => false,
            () = tokio::task::yield_now() => true,
        };
        assert!(untouched, "it was connected directly");
    }
}

#[tokio::test]
async fn names_that_no_address_is_given_for_are_not_passed_on_by_socks5() {
    let near = local(1).via(Box::new(by_proxy()));
    let ctx = to(to(near, "127.0.0.1", 2).via(Box::new(Socks5::new())), "db", 5432);
    let error = ctx.resolve().await.unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("socks5://127.0.0.1:2 wants the address of `db`, and socks5h://127.0.0.1:1"),
        "{text}"
    );
    assert!(text.contains("let the proxy look names up (socks5h://)"), "{text}");
}

#[tokio::test]
async fn nets_are_shown_like_uris_and_nothing_shows_a_secret() {
    let secret = Credentials::new("name-of-a-user", "hunter2");
    let shown = async |ctx: Context| net(&ctx).await.describe();
    let socks = by_proxy().with_credentials(secret.clone());
    assert_eq!(shown(at("::1", 1080).via(Box::new(socks.clone()))).await, "socks5h://[::1]:1080");
    let env = ProxyEnv::read(|name| {
        (name == "all_proxy").then(|| "http://name-of-a-user:hunter2@127.0.0.1:9/".to_owned())
    });
    let proxy: EnvProxy = env.proxy_for("tcp", "db", 5432).unwrap().unwrap();
    let via_env = at(proxy.host(), proxy.port()).via(proxy.hop());
    assert_eq!(shown(via_env.clone()).await, "http://127.0.0.1:9 (set by all_proxy)");

    let real = microsocks(Some(("someone", "else")));
    let http = HttpConnect::new().with_credentials(secret.clone());
    let mut texts = vec![format!("{secret:?} {socks:?} {http:?} {env:?} {proxy:?} {proxy}")];
    for ctx in [local(real.port()).via(Box::new(socks)), local(real.port()).via(Box::new(http)), via_env] {
        let ctx = to(ctx, "127.0.0.1", 1);
        let error = ctx.resolve().await.unwrap_err();
        texts.push(format!("{error} {error:#} {error:?} {:?} {:#}", ctx, ctx.explain().await));
        texts.push(format!("{:#} {:?}", ctx.plan(), net(&ctx).await));
    }
    for text in texts {
        for word in ["hunter2", "name-of-a-user", "bmFtZS1v", "aHVudGVy"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}
