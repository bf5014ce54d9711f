//! The host's stack passes the suite for nets.

use std::net::SocketAddr;

use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Net, Target};
use tuyau_testing::{NetCase, net_conformance};
use tuyau_tokio::{Host, derivations, host};

fn case(listen: fn() -> Target) -> NetCase {
    NetCase {
        net: host(),
        listen,
        ctx: derivations(Context::new()),
        name: Some("localhost"),
        no_name: Some("no-such-name.invalid"),
        unsupported: Target::Context { cid: 1, port: 1 },
        keep: Box::new(()),
    }
}

fn addr(text: &str) -> Target {
    Target::Addr(text.parse().expect("an address"))
}

async fn v4() -> NetCase {
    case(|| addr("127.0.0.1:0"))
}

async fn v6() -> NetCase {
    case(|| addr("[::1]:0"))
}

async fn name() -> NetCase {
    case(|| Target::name("localhost", 0))
}

#[cfg(target_os = "linux")]
async fn unix() -> NetCase {
    case(tuyau_testing::abstract_target)
}

net_conformance!(over_v4, v4);
net_conformance!(over_v6, v6);
net_conformance!(over_name, name);
#[cfg(target_os = "linux")]
net_conformance!(over_unix, unix);

#[tokio::test]
async fn all_addresses_of_the_dual_stack_reach_one_listener_and_are_shown_as_what_they_are() {
    let (host, cx) = (Host::new(), ConnectCx::new(&Context::new()).unwrap());
    let mut listener = host.listen(&addr("[::]:0"), &cx).await.unwrap();
    let Target::Addr(local) = listener.local() else { panic!("no address") };
    for ip in ["127.0.0.1", "::1"] {
        let target = Target::Addr(SocketAddr::new(ip.parse().unwrap(), local.port()));
        let client = host.connect(&target, &cx).await.unwrap();
        let server = listener.accept().await.unwrap().finish().await.unwrap();
        let seen = server.fact(&tuyau_core::names::PEER).unwrap();
        assert_eq!(Some(seen.clone()), client.fact(&tuyau_core::names::LOCAL));
        assert_eq!(seen.ip(), ip.parse().ok());
    }
}

#[tokio::test]
async fn a_name_that_is_listened_on_listens_on_all_its_addresses() {
    let (host, cx) = (Host::new(), ConnectCx::new(&Context::new()).unwrap());
    let mut listener = host.listen(&Target::name("localhost", 0), &cx).await.unwrap();
    let Target::Addr(local) = listener.local() else { panic!("no address") };
    let policy = Default::default();
    let tuyau_core::Many::All(addresses) = host.lookup("localhost", &policy).await.unwrap() else {
        panic!("a stream")
    };
    for ip in addresses {
        let target = Target::Addr(SocketAddr::new(ip, local.port()));
        let _client = host.connect(&target, &cx).await.unwrap();
        listener.accept().await.unwrap();
    }
}

#[tokio::test]
async fn connecting_to_a_name_tells_what_became_of_each_address() {
    let (host, cx) = (Host::new(), ConnectCx::new(&Context::new()).unwrap());
    let listener = host.listen(&Target::name("localhost", 0), &cx).await.unwrap();
    let Target::Addr(local) = listener.local() else { panic!("no address") };
    drop(listener);
    let error = host.connect(&Target::name("localhost", local.port()), &cx).await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.to_string().contains("127.0.0.1:"), "{error}");
    assert!(error.hint().is_some());
}
