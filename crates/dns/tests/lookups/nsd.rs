//! Against a real name server.

use std::net::SocketAddr;
use std::sync::Arc;

use tuyau_core::names::RUNTIME;
use tuyau_core::{ConnectErrorKind, Context, Target};
use tuyau_dns::{Config, Dns, DnsNet};
use tuyau_testing::peers::{self, Nsd};
use tuyau_testing::{NetCase, free_port, net_conformance};
use tuyau_tokio::{host, runtime};

use crate::{config, dns, failure, ip, lookup, on_host};

const ZONE: &str = "both A 192.0.2.1\nboth A 192.0.2.2\nboth AAAA 2001:db8::1\nfour A 192.0.2.4\nsix AAAA 2001:db8::6\n\
    alias CNAME four\ntext TXT \"hello\"\nmailonly CNAME text\nlocal A 127.0.0.1\n";

fn server() -> Nsd {
    peers::nsd(SocketAddr::from(([127, 0, 0, 1], free_port())), &[("x.example", ZONE)])
}

#[tokio::test]
async fn addresses_of_both_families_are_found_by_udp_and_by_tcp() {
    let nsd = server();
    let config = config(&[nsd.address()]);
    for net in [on_host(config.clone()), dns(config.clone()).over(host())] {
        let both = lookup(&net, "both.x.example").await.expect("lookup");
        assert_eq!(both.len(), 3);
        assert!(
            both.contains(&ip("192.0.2.1"))
                && both.contains(&ip("192.0.2.2"))
                && both.contains(&ip("2001:db8::1"))
        );
        assert_eq!(lookup(&net, "four.x.example").await.expect("lookup"), [ip("192.0.2.4")]);
        assert_eq!(lookup(&net, "SIX.x.example.").await.expect("lookup"), [ip("2001:db8::6")]);
        assert_eq!(lookup(&net, "alias.x.example").await.expect("lookup"), [ip("192.0.2.4")]);
    }
}

#[tokio::test]
async fn the_search_list_completes_names_and_what_was_tried_is_told() {
    let nsd = server();
    let search = vec!["sub.x.example".into(), "x.example".into()];
    let net = on_host(Config { search, ..config(&[nsd.address()]) });
    assert_eq!(lookup(&net, "four").await.expect("lookup"), [ip("192.0.2.4")]);
    let error = failure(&net, "nobody.x.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "lookup of `nobody.x.example`: there is no such name (NXDOMAIN); tried `nobody.x.example.`, \
         `nobody.x.example.sub.x.example.`, `nobody.x.example.x.example.`"
    );
    let error = failure(&net, "nobody.x.example.").await;
    assert_eq!(error.to_string(), "lookup of `nobody.x.example.`: there is no such name (NXDOMAIN)");
}

#[tokio::test]
async fn a_name_without_addresses_is_told_from_one_that_does_not_exist() {
    let nsd = server();
    let net = on_host(config(&[nsd.address()]));
    let error = failure(&net, "text.x.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "lookup of `text.x.example.`: it exists but has neither A nor AAAA records"
    );
    let error = failure(&net, "mailonly.x.example").await;
    assert_eq!(
        error.to_string(),
        "lookup of `mailonly.x.example.`: it exists, an alias of `text.x.example.`, but has neither A nor AAAA records"
    );
}

#[tokio::test]
async fn a_server_that_does_not_serve_the_name_refuses() {
    let nsd = server();
    let net = on_host(config(&[nsd.address()]));
    let error = failure(&net, "www.elsewhere.example").await;
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    let address = nsd.address();
    assert!(error.to_string().contains(&format!("{address} refused (REFUSED) (2 times)")), "{error}");
}

async fn case(put: fn(&Dns) -> DnsNet) -> NetCase {
    let nsd = server();
    NetCase {
        net: Arc::new(put(&dns(config(&[nsd.address()])))),
        listen: || Target::Addr(([127, 0, 0, 1], 0).into()),
        ctx: Context::new().with(&RUNTIME, runtime()),
        name: Some("both.x.example"),
        no_name: Some("nobody.x.example"),
        unsupported: Target::Context { cid: 1, port: 1 },
        keep: Box::new(nsd),
    }
}

net_conformance!(by_udp, || case(|dns| dns.on_host(host())));
net_conformance!(by_tcp, || case(|dns| dns.over(host())));
