//! Queries over other nets and flows.

use std::sync::Arc;

use tuyau_core::names::{HOST, PORT, RUNTIME};
use tuyau_core::{Accepted, ConnectCx, ConnectErrorKind, Context, Net, Policy, Target};
use tuyau_dns::{Config, Server};
use tuyau_testing::certs::Ca;
use tuyau_tls::{Identity, ROOTS, Roots, ServerSettings, TLS, TlsServer};
use tuyau_tokio::{MEM, MEM_HUB, MEM_NAME, MemHub, TCP, derivations, host, runtime};

use crate::scripted::{Scripted, address, bytes};
use crate::{config, dns, ip, lookup};

#[tokio::test]
async fn over_a_net_nothing_goes_by_udp() {
    let server = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let net = dns(config(&[server.address])).over(host());
    lookup(&net, "a.example").await.expect("lookup");
    assert_eq!(server.seen(), ["a.example. A Tcp", "a.example. AAAA Tcp"]);
    let by_option = dns(Config { tcp: true, ..config(&[server.address]) }).on_host(host());
    lookup(&by_option, "b.example").await.expect("lookup");
    assert!(!server.seen().iter().any(|asked| asked.ends_with("Udp")));
}

/// A flow of unknown make: here, memory.
#[tokio::test]
async fn a_server_can_be_at_the_end_of_any_flow() {
    let hub = MemHub::new();
    let mut listener = hub.listen("dns").expect("listen");
    let server = tokio::spawn(async move {
        for _ in 0..2 {
            let Accepted::Flow(mut flow) = listener.accept().await.expect("accept") else { panic!("a flow") };
            tokio::spawn(async move {
                let mut length = [0; 2];
                flow.read_exact(&mut length).await.expect("read");
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                flow.read_exact(&mut query).await.expect("read");
                let query = hickory_proto::op::Message::from_vec(&query).expect("a query");
                let reply = bytes(&address(&query, 60));
                // In pieces: a stream has no boundaries.
                for byte in [&(reply.len() as u16).to_be_bytes()[..], &reply].concat() {
                    flow.write_all(&[byte]).await.expect("write");
                }
            });
        }
    });
    let ctx =
        derivations(Context::new().with(&MEM_HUB, hub.clone()).with(&MEM_NAME, "dns".into())).offer(&MEM);
    let net = dns(Config::new([Server::flow("memory", ctx)])).on_host(host());
    assert_eq!(lookup(&net, "a.example").await.expect("lookup"), [ip("2001:db8::1"), ip("192.0.2.1")]);
    server.await.expect("server");

    drop(hub);
    let nobody = derivations(Context::new().with(&MEM_NAME, "nobody".into())).offer(&MEM);
    let net = dns(Config::new([Server::flow("memory", nobody)])).on_host(host());
    let error = lookup(&net, "a.example").await.expect_err("there is nobody");
    assert!(error.to_string().contains("memory could not be reached"), "{error}");
}

#[tokio::test]
async fn a_name_is_dialled_at_its_addresses() {
    let server = Scripted::new(|query, _| {
        let mut message = address(query, 60);
        for record in &mut message.answers {
            record.data = match record.data {
                hickory_proto::rr::RData::A(_) => {
                    hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A::new(127, 0, 0, 1))
                }
                _ => hickory_proto::rr::RData::AAAA(hickory_proto::rr::rdata::AAAA::new(
                    0, 0, 0, 0, 0, 0, 0, 1,
                )),
            };
        }
        vec![bytes(&message)]
    })
    .await;
    let net = dns(config(&[server.address])).on_host(host());
    let ctx = Context::new().with(&RUNTIME, runtime());
    let cx = ConnectCx::new(&ctx).expect("a context");
    let mut listener = host().listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let Target::Addr(at) = listener.local() else { panic!("an address") };
    // One that listens on IPv4 only: IPv6 is refused, and the next address tried.
    let target = Target::name("db.example", at.port());
    let (flow, accepted) = tokio::join!(net.connect(&target, &cx), listener.accept());
    accepted.expect("accept");
    assert_eq!(flow.expect("connect").fact(&tuyau_core::names::PEER), Some(Target::Addr(at)));

    // The same in a context, where addresses race.
    let ctx = Context::new().with(&HOST, "db.example".into()).with(&PORT, at.port());
    let ctx = net.clone().bind(derivations(ctx)).offer(&TCP);
    let (resolved, accepted) = tokio::join!(ctx.resolve(), listener.accept());
    accepted.expect("accept");
    let report = resolved.expect("resolve").report();
    assert_eq!(report.candidates.len(), 2, "{report:#}");
    drop(listener);

    let error = net.connect(&target, &cx).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(Arc::new(net).lookup("db.example", &Policy::new()).await.is_ok());
}

/// DNS over TLS (RFC 7858).
#[tokio::test]
async fn a_server_can_be_reached_over_tls() {
    let ca = Ca::new("CA");
    let leaf = ca.leaf(&["127.0.0.1"]);
    let tls = TlsServer::new(ServerSettings::new(Identity::der(leaf.chain(), leaf.key()))).expect("a server");
    let serving = Context::new().with(&RUNTIME, runtime());
    let cx = ConnectCx::new(&serving).expect("a context");
    let listener = host().listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let Target::Addr(at) = listener.local() else { panic!("an address") };
    let mut listener = listener.layered(tls.layer(), &serving);
    tokio::spawn(async move {
        loop {
            let accepted = listener.accept().await.expect("accept");
            tokio::spawn(async move {
                // A client that does not trust us hangs up.
                let Ok(mut flow) = accepted.finish().await else { return };
                let mut length = [0; 2];
                if flow.read_exact(&mut length).await.is_err() {
                    return;
                }
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                flow.read_exact(&mut query).await.expect("read");
                let query = hickory_proto::op::Message::from_vec(&query).expect("a query");
                let reply = bytes(&address(&query, 60));
                let length = (reply.len() as u16).to_be_bytes();
                flow.write_all(&[&length[..], &reply].concat()).await.expect("write");
            });
        }
    });
    let dot = |roots: Vec<Vec<u8>>| {
        let ctx = Context::new().with(&HOST, "127.0.0.1".into()).with(&PORT, at.port());
        let ctx = derivations(ctx).with(&ROOTS, Roots::Der(roots.into()));
        Server::flow("dot", tuyau_tls::over(ctx, &TLS, &TCP).offer(&TLS))
    };
    let net = dns(Config::new([dot(vec![ca.der().to_vec()])])).on_host(host());
    assert_eq!(lookup(&net, "a.example").await.expect("lookup"), [ip("2001:db8::1"), ip("192.0.2.1")]);

    let stranger = Ca::new("stranger");
    let clear = Scripted::new(|query, _| vec![bytes(&address(query, 60))]).await;
    let servers = [dot(vec![stranger.der().to_vec()]), Server::at(clear.address)];
    let error = lookup(&dns(Config::new(servers)).on_host(host()), "a.example").await.expect_err("believed");
    assert_eq!(error.kind(), ConnectErrorKind::Verification);
    assert_eq!(clear.seen(), [""; 0], "a server in clear text was asked in its place");
}
