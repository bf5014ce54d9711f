//! How a context becomes a flow over these transports.

use std::net::IpAddr;
use std::sync::Arc;

use tuyau_core::names::{HOST, NET, PEER, POLICY, PORT};
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Listener, Many, Net, Policy,
    SharedNet, Target,
};
use tuyau_tokio::{Host, IP, MEM, MEM_HUB, MEM_NAME, MemHub, TCP, derivations, duplex, serve};

fn at(host: &str, port: u16) -> Context {
    derivations(Context::new().with(&HOST, host.into()).with(&PORT, port)).offer(&TCP)
}

async fn listening(target: Target) -> (Listener, u16) {
    let cx = ConnectCx::new(&Context::new()).unwrap();
    let listener = Host::new().listen(&target, &cx).await.unwrap();
    match listener.local() {
        Target::Addr(local) => (listener, local.port()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_name_resolves_into_a_connected_flow() {
    let (listener, port) = listening(Target::name("localhost", 0)).await;
    let serving = tokio::spawn(
        serve(listener, |mut flow: Flow| async move { flow.write_all(b"hello").await.unwrap() })
            .into_future(),
    );
    let mut flow = at("localhost", port).resolve().await.unwrap();
    let mut got = [0; 5];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"hello");
    serving.abort();
}

#[tokio::test]
async fn every_address_is_a_candidate_and_the_one_that_listens_wins() {
    let (mut listener, port) = listening(Target::Addr(([127, 0, 0, 1], 0).into())).await;
    let loopback: Vec<IpAddr> = vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
    let ctx = at("two.example", port).derive_many(&IP, (), move |()| {
        let loopback = loopback.clone();
        async move { Ok(loopback) }
    });
    let flow = ctx.resolve().await.unwrap();
    assert_eq!(flow.fact(&PEER), Some(listener.local()));
    assert_eq!(flow.report().candidates.len(), 2);
    listener.accept().await.unwrap();
}

#[tokio::test]
async fn literals_need_no_lookup_whatever_the_net_and_policy() {
    let policy = Policy::new().no_local_lookup();
    let ctx = at("127.0.0.1", 1).with(&POLICY, policy.clone());
    assert_eq!(ctx.get(&IP).await.unwrap(), Some("127.0.0.1".parse().unwrap()));
    let error = at("localhost", 1).with(&POLICY, policy).resolve().await.unwrap_err();
    assert!(format!("{error:#}").contains("policy"), "{error:#}");
}

#[tokio::test]
async fn a_refusal_says_so_for_both_families() {
    let (listener, port) = listening(Target::name("localhost", 0)).await;
    drop(listener);
    let error = at("localhost", port).resolve().await.unwrap_err();
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    let text = format!("{error:#}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("nobody listens"), "{text}");
}

/// A net that looks names up at its far end.
struct Proxy;

impl Net for Proxy {
    fn describe(&self) -> String {
        "proxy".into()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        assert_eq!(*target, Target::name("far.example", 80));
        Box::pin(async { Ok(duplex().0) })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Target,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        Box::pin(async { Err(ConnectError::new(ConnectErrorKind::Unsupported, "listen")) })
    }

    fn lookup<'a>(&'a self, _: &'a str, _: &'a Policy) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        Box::pin(async { Err(ConnectError::new(ConnectErrorKind::Unsupported, "lookup")) })
    }
}

#[tokio::test]
async fn a_net_that_looks_names_up_itself_is_given_the_name() {
    let proxy: SharedNet = Arc::new(Proxy);
    at("far.example", 80).with(&NET, proxy).resolve().await.unwrap();
}

#[tokio::test]
async fn names_in_memory_are_those_of_the_contexts_hub() {
    let hub = MemHub::new();
    let mut listener = hub.listen("s").unwrap();
    let ctx = |name: &str| derivations(Context::new().with(&MEM_NAME, name.into())).offer(&MEM);
    let _flow = ctx("s").with(&MEM_HUB, hub.clone()).resolve().await.unwrap();
    listener.accept().await.unwrap();
    assert_eq!(
        ctx("t").with(&MEM_HUB, hub.clone()).resolve().await.unwrap_err().kind(),
        ConnectErrorKind::Refused
    );
    assert_eq!(
        ctx("s").resolve().await.unwrap_err().kind(),
        ConnectErrorKind::Refused,
        "another context's hub"
    );
    assert_eq!(hub.listen("s").unwrap_err().kind(), ConnectErrorKind::Environment);
    drop(listener);
    hub.listen("s").unwrap();
}
