//! SRV and HTTPS records.

use std::net::SocketAddr;

use tuyau_core::names::{HOST, PORT};
use tuyau_core::{ConnectErrorKind, Context, Policy};
use tuyau_dns::{DnsNet, Random, SERVICE, SrvRecord, https, order_srv, srv};
use tuyau_testing::free_port;
use tuyau_testing::peers::{self, Nsd};
use tuyau_tokio::{TCP, derivations};

use crate::{config, on_host};

const ZONE: &str = "_x._tcp SRV 20 0 3333 c\n_x._tcp SRV 10 1 1111 a\n_x._tcp SRV 10 0 2222 b\n_none._tcp SRV 0 0 0 .\n\
    a A 192.0.2.1\nb A 192.0.2.2\nc A 192.0.2.3\nc AAAA 2001:db8::3\n\
    @ HTTPS 2 b alpn=h2 port=8443\n@ HTTPS 1 . alpn=h3,h2 no-default-alpn ipv4hint=192.0.2.9 ipv6hint=2001:db8::9\n\
    @ HTTPS 3 c mandatory=key65000 key65000=x\n@ A 192.0.2.80\n\
    alias HTTPS 0 svc\nsvc HTTPS 1 . port=444\nbare HTTPS 0 a\ngone HTTPS 0 .\nloop HTTPS 0 loop2\nloop2 HTTPS 0 loop\n\
    _8443._https HTTPS 1 a\n";

fn net() -> (Nsd, DnsNet) {
    let nsd = peers::nsd(SocketAddr::from(([127, 0, 0, 1], free_port())), &[("x.example", ZONE)]);
    let net = on_host(config(&[nsd.address()]));
    (nsd, net)
}

/// The endpoints of TCP that `ctx` gives, in order.
async fn endpoints(ctx: Context) -> Vec<String> {
    let unfolded = ctx.offer(&TCP).unfold().await.expect("unfold");
    unfolded.endpoints().iter().map(|endpoint| endpoint.dial().address()).collect()
}

fn ctx(net: DnsNet, host: &str) -> Context {
    net.bind(derivations(Context::new().with(&HOST, host.into())))
}

#[tokio::test]
async fn srv_records_decide_where_tcp_connects() {
    let (_nsd, net) = net();
    let service = ctx(net.clone(), "x.example").with(&SERVICE, "_x._tcp".into());
    let mut found = endpoints(srv(service)).await;
    assert_eq!(found.len(), 4);
    found[..2].sort();
    assert_eq!(found[..2], ["192.0.2.1:1111", "192.0.2.2:2222"]);
    found[2..].sort();
    assert_eq!(found[2..], ["192.0.2.3:3333", "[2001:db8::3]:3333"]);

    let without = ctx(net.clone(), "a.x.example").with(&SERVICE, "_x._tcp".into()).with(&PORT, 7);
    assert_eq!(endpoints(srv(without)).await, ["192.0.2.1:7"], "without records it is the host itself");

    let error = net.srv("_none._tcp", "x.example", &Policy::new()).await.expect_err("there is none");
    assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    assert_eq!(error.to_string(), "`x.example` says that it has no service `_none._tcp`");
    let none = ctx(net, "x.example").with(&SERVICE, "_none._tcp".into()).with(&PORT, 7);
    let error = srv(none).offer(&TCP).resolve().await.expect_err("it must not connect to the host itself");
    assert!(error.to_string().contains("says that it has no service"), "{error}");
}

#[tokio::test]
async fn https_records_decide_where_tcp_connects() {
    let (_nsd, net) = net();
    let found = net.https("x.example", 443, &Policy::new()).await.expect("lookup");
    assert_eq!(found.len(), 2, "one has a mandatory key that is not known");
    assert_eq!((&*found[0].target, found[0].port), ("x.example.", None));
    assert_eq!(found[0].alpn, [b"h3".to_vec(), b"h2".to_vec()]);
    assert_eq!(found[1].alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    let mut found = endpoints(https(ctx(net.clone(), "x.example"))).await;
    assert_eq!(found[..2], ["[2001:db8::9]:443", "192.0.2.9:443"], "hints come first");
    // What is not hinted at may come later than what another record says.
    found[2..].sort();
    assert_eq!(found[2..], ["192.0.2.2:8443", "192.0.2.80:443"]);
    assert_eq!(endpoints(https(ctx(net, "a.x.example").with(&PORT, 443))).await, ["192.0.2.1:443"]);
}

#[tokio::test]
async fn aliases_of_https_records_are_followed_and_must_end() {
    let (_nsd, net) = net();
    let ask = |host: &'static str, port| {
        let net = net.clone();
        async move { net.https(host, port, &Policy::new()).await }
    };
    let found = ask("alias.x.example", 443).await.expect("lookup");
    assert_eq!((&*found[0].target, found[0].port), ("svc.x.example.", Some(444)));
    let found = ask("bare.x.example", 443).await.expect("lookup");
    assert_eq!((&*found[0].target, found[0].port), ("a.x.example.", None));
    assert_eq!(&*ask("x.example", 8443).await.expect("lookup")[0].target, "a.x.example.");
    assert_eq!(ask("nobody.x.example", 443).await.expect("lookup"), []);
    assert_eq!(ask("gone.x.example", 443).await.unwrap_err().kind(), ConnectErrorKind::NotFound);
    assert_eq!(ask("loop.x.example", 443).await.unwrap_err().kind(), ConnectErrorKind::Protocol);
}

#[test]
fn srv_records_are_chosen_by_their_weight() {
    let record = |priority, weight| SrvRecord { priority, weight, port: 1, target: "a.".into() };
    let records = vec![record(2, 5), record(1, 10), record(1, 30), record(1, 0)];
    let weights = |number: u32| -> Vec<u16> {
        let ordered = order_srv(records.clone(), &Random::new(move || number));
        ordered.iter().map(|record| record.weight).collect()
    };
    assert_eq!(weights(0), [0, 10, 30, 5]);
    assert_eq!(weights(u32::MAX), [30, 10, 0, 5]);
    // 0 of 0 to 40, 1 to 10, 11 to 40.
    let first = |of_41: u32| weights((u64::from(of_41) * (1 << 32) / 41) as u32 + 1)[0];
    let firsts: Vec<u16> = (0..41).map(first).collect();
    let count = |weight| firsts.iter().filter(|first| **first == weight).count();
    assert_eq!([count(0), count(10), count(30)], [1, 10, 30]);
}
