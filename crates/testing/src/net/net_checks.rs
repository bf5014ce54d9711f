//! The checks. Each gets a fresh case.

use std::future::poll_fn;
use std::net::IpAddr;

use tuyau_core::names::{PEER, POLICY};
use tuyau_core::{ConnectCx, ConnectErrorKind, Flow, Listener, Many, Policy, Target};

use super::NetCase;

/// What one side writes the other reads, and the listener knows where it is.
pub async fn what_is_listened_on_can_be_connected(case: NetCase) {
    let (cx, mut listener) = listening(&case).await;
    let target = listener.local();
    let (client, server) = tokio::join!(case.net.connect(&target, &cx), accept(&mut listener));
    let (mut client, mut server) = (client.expect("connect"), server);
    assert_eq!(client.fact(&PEER), Some(target));
    client.write_all(b"ping").await.expect("write");
    let mut got = [0; 4];
    server.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"ping");
    server.write_all(b"pong").await.expect("write");
    client.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"pong");
}

/// Many connections at once don't get mixed up.
pub async fn many_at_once(case: NetCase) {
    let (cx, mut listener) = listening(&case).await;
    let target = listener.local();
    let server = tokio::spawn(async move {
        for _ in 0..50 {
            let mut flow = accept(&mut listener).await;
            tokio::spawn(async move {
                let mut byte = [0];
                flow.read_exact(&mut byte).await.expect("read");
                flow.write_all(&byte).await.expect("write");
            });
        }
    });
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (net, target, cx) = (case.net.clone(), target.clone(), cx.clone());
        clients.spawn(async move {
            let mut flow = net.connect(&target, &cx).await.expect("connect");
            flow.write_all(&[n]).await.expect("write");
            let mut got = [0];
            flow.read_exact(&mut got).await.expect("read");
            assert_eq!(got, [n]);
        });
    }
    clients.join_all().await;
    server.await.expect("server");
}

/// Where nobody listens any more, connecting is refused, and the error says what to do.
pub async fn refusal(case: NetCase) {
    let (cx, listener) = listening(&case).await;
    let target = listener.local();
    drop(listener);
    let error = case.net.connect(&target, &cx).await.expect_err("connected to nobody");
    assert!(matches!(error.kind(), ConnectErrorKind::Refused | ConnectErrorKind::NotFound), "{error:?}");
    assert!(error.hint().is_some(), "{error:?} has no hint");
}

/// A connect that is dropped leaves the net as it was.
pub async fn cancelled_connects(case: NetCase) {
    let (cx, mut listener) = listening(&case).await;
    let target = listener.local();
    for polls in 0..3 {
        let mut connect = case.net.connect(&target, &cx);
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut connect => break,
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let accepting = async {
        loop {
            let mut flow = accept(&mut listener).await;
            // Those that were given up may come in all the same: they end at once.
            let mut byte = [0];
            if matches!(flow.read(&mut byte).await, Ok(1)) {
                return flow;
            }
        }
    };
    let connecting = async {
        let mut flow = case.net.connect(&target, &cx).await.expect("connect");
        flow.write_all(b"x").await.expect("write");
        flow
    };
    tokio::join!(accepting, connecting);
}

/// An accept that is dropped loses no connection.
pub async fn cancelled_accepts(case: NetCase) {
    let (cx, mut listener) = listening(&case).await;
    let target = listener.local();
    for n in 0..20 {
        let connecting = async {
            let mut flow = case.net.connect(&target, &cx).await.expect("connect");
            flow.write_all(&[n]).await.expect("write");
            flow
        };
        let accepting = async {
            let mut patience = n % 4;
            loop {
                tokio::select! {
                    biased;
                    accepted = listener.accept() => return accepted.expect("accept").finish().await.expect("handshake"),
                    () = tokio::task::yield_now(), if patience > 0 => patience -= 1,
                }
            }
        };
        let (_client, mut server) = tokio::join!(connecting, accepting);
        let mut got = [0];
        server.read_exact(&mut got).await.expect("read");
        assert_eq!(got, [n]);
    }
}

/// Names that exist, names that don't, and literals, which need no lookup.
pub async fn lookups(case: NetCase) {
    let policy = Policy::new();
    if let Some(name) = case.name {
        let addresses = all(case.net.lookup(name, &policy).await.expect("lookup")).await;
        assert!(!addresses.is_empty());
        for literal in ["192.0.2.1", "2001:db8::1"] {
            let expected: IpAddr = literal.parse().expect("an address");
            let addresses = all(case.net.lookup(literal, &policy).await.expect("lookup")).await;
            assert_eq!(addresses, [expected]);
        }
    }
    if let Some(name) = case.no_name {
        let error = case.net.lookup(name, &policy).await.expect_err("found what does not exist");
        assert!(
            matches!(error.kind(), ConnectErrorKind::NotFound | ConnectErrorKind::Unreachable),
            "{error:?}"
        );
        assert!(error.hint().is_some(), "{error:?} has no hint");
    }
}

/// What a net can't do is an error of that kind, and it goes no other way.
pub async fn what_it_cant_do_it_says(case: NetCase) {
    let cx = ConnectCx::new(&case.ctx).expect("a context");
    let error = case.net.connect(&case.unsupported, &cx).await.expect_err("connected");
    assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
    let error = case.net.listen(&case.unsupported, &cx).await.expect_err("listens");
    assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
}

/// An address that the policy does not allow is not dialled.
pub async fn policy_is_kept(case: NetCase) {
    let (_, mut listener) = listening(&case).await;
    let elsewhere = "192.0.2.0/24".parse().expect("a network");
    let ctx = case.ctx.clone().with(&POLICY, Policy::new().only_networks([elsewhere]));
    let cx = ConnectCx::new(&ctx).expect("a context");
    let error = case.net.connect(&listener.local(), &cx).await.expect_err("dialled all the same");
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
    let accepted = tokio::select! {
        biased;
        _ = listener.accept() => true,
        () = tokio::task::yield_now() => false,
    };
    assert!(!accepted, "the connection was made before the policy was asked");
}

async fn listening(case: &NetCase) -> (ConnectCx<'static>, Listener) {
    let cx = ConnectCx::new(&case.ctx).expect("a context");
    let target = (case.listen)();
    let listener = case.net.listen(&target, &cx).await.expect("listen");
    if let Target::Addr(local) = listener.local() {
        assert_ne!(local.port(), 0, "the port that was chosen is not known");
    }
    (cx, listener)
}

async fn accept(listener: &mut Listener) -> Flow {
    listener.accept().await.expect("accept").finish().await.expect("handshake")
}

async fn all(many: Many<IpAddr>) -> Vec<IpAddr> {
    let mut stream = match many {
        Many::All(addresses) => return addresses,
        Many::Stream(stream) => stream,
    };
    let mut addresses = Vec::new();
    while let Some(address) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        addresses.push(address.expect("an address"));
    }
    addresses
}
