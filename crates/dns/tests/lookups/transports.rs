//! Queries over other nets and flows.

use std::sync::Arc;

use tuyau_core::names::{HOST, PORT, RUNTIME};
use tuyau_core::{Accepted, ConnectCx, ConnectErrorKind, Context, Net, Policy, Target};
use tuyau_dns::{Config, Server};
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
