//! Flows through OpenSSH's server, and the server as a net.

mod support;

use tuyau_core::{Context, Net, Target, names::RUNTIME};
use tuyau_testing::peers::sshd;
use tuyau_testing::{Abilities, NetCase, Pair, Place, flow_conformance, net_conformance};
use tuyau_tokio::{host, runtime};

use support::{accept, cx, listener, ssh};

/// A server turns the reset of what it forwards into an end: SSH has no word for it.
const FORWARDED: Abilities = Abilities { reset: false, ..Abilities::ALL };

async fn tcp() -> Pair {
    let sshd = sshd();
    let mut listener = listener().await;
    let (target, cx, ssh) = (listener.local(), cx(), ssh(&sshd));
    let (a, b) = tokio::join!(ssh.connect(&target, &cx), accept(&mut listener));
    Pair::new(a.expect("connect"), b).keep((sshd, listener))
}

async fn socket() -> Pair {
    let (sshd, place) = (sshd(), Place::new());
    let (target, cx, ssh) = (Target::path(place.path("socket")), cx(), ssh(&sshd));
    let mut listener = host().listen(&target, &cx).await.expect("listen");
    let (a, b) = tokio::join!(ssh.connect(&target, &cx), accept(&mut listener));
    Pair::new(a.expect("connect"), b).keep((sshd, listener, place))
}

async fn forwarded() -> Pair {
    let sshd = sshd();
    let (ssh, cx) = (ssh(&sshd), cx());
    let mut listener = ssh
        .listen(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into(), &cx)
        .await
        .expect("listen");
    let (target, host) = (listener.local(), host());
    let (a, b) = tokio::join!(accept(&mut listener), host.connect(&target, &cx));
    Pair::new(a, b.expect("connect")).keep((sshd, listener))
}

flow_conformance!(direct_tcpip, FORWARDED, tcp);
flow_conformance!(direct_streamlocal, FORWARDED, socket);
flow_conformance!(forwarded_tcpip, FORWARDED, forwarded);

async fn server() -> NetCase {
    let sshd = sshd();
    NetCase {
        net: std::sync::Arc::new(ssh(&sshd)),
        listen: || Target::Addr("127.0.0.1:0".parse().expect("an address")),
        ctx: Context::new().with(&RUNTIME, runtime()),
        name: None,
        no_name: None,
        unsupported: Target::Context { cid: 1, port: 1 },
        keep: Box::new(std::sync::Mutex::new(sshd)),
    }
}

net_conformance!(over_sshd, server);
