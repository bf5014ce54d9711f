//! Stacks pass the suites, over good links and bad ones, over switches, and with themselves.

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use support::{cx, pair_of, stacks};
use tuyau_core::{BoxFuture, ConnectCx, ConnectError, Context, Flow, Listener, Many, Net, Policy, Target};
use tuyau_stack::{Conditions, Config, Link, Stack};
use tuyau_testing::{Abilities, NetCase, Pair, flow_conformance, net_conformance};

async fn clean() -> Pair {
    pair_of(&stacks(Conditions::new(), 1), "10.0.0.2:0").await
}

async fn clean_v6() -> Pair {
    pair_of(&stacks(Conditions::new(), 1), "[fd00::2]:0").await
}

async fn small_buffers() -> Pair {
    let runtime = tuyau_tokio::runtime();
    let (here, there) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
    let config = |last| Config::new().address([10, 0, 0, last], 24).buffers(16 << 10, 16 << 10).seed(3);
    let client = Stack::new(config(1), here, runtime.clone()).expect("a stack");
    let server = Stack::new(config(2), there, runtime).expect("a stack");
    pair_of(&[client, server], "10.0.0.2:0").await
}

async fn switched() -> Pair {
    let runtime = tuyau_tokio::runtime();
    let switch = Link::new(runtime.clone(), Conditions::new(), 1);
    let hosts = [1, 2, 3].map(|last| {
        let config = Config::new().address([10, 0, 0, last], 24).seed(last.into());
        Stack::new(config, switch.plug(), runtime.clone()).expect("a stack")
    });
    pair_of(&hosts, "10.0.0.2:0").await
}

async fn itself() -> Pair {
    let [stack, _] = stacks(Conditions::new(), 1);
    pair_of(&[stack.clone(), stack], "10.0.0.1:0").await
}

/// One packet of a hundred is lost, and more come late.
fn bad() -> Conditions {
    Conditions::new()
        .loss(0.01)
        .reordering(0.02)
        .delay(Duration::from_millis(2))
        .jitter(Duration::from_micros(300))
}

async fn lossy() -> Pair {
    pair_of(&stacks(bad(), 7), "10.0.0.2:0").await
}

flow_conformance!(over_a_link, Abilities::ALL, clean);
flow_conformance!(over_a_link_by_ipv6, Abilities::ALL, clean_v6);
flow_conformance!(over_small_buffers, Abilities::ALL, small_buffers);
flow_conformance!(over_a_switch, Abilities::ALL, switched);
flow_conformance!(with_itself, Abilities::ALL, itself);
flow_conformance!(paused over_a_bad_link, Abilities::ALL, lossy);

/// A stack that is asked about itself.
async fn one() -> NetCase {
    let [stack, other] = stacks(Conditions::new(), 1);
    NetCase {
        net: stack.into(),
        listen: || Target::Addr(([10, 0, 0, 1], 0).into()),
        ctx: tuyau_tokio::derivations(Context::new()),
        name: Some("localhost"),
        no_name: None,
        unsupported: Target::path("/tmp/s"),
        keep: Box::new(other),
    }
}

/// Two stacks as one net: the first connects, the second listens.
struct Across([Stack; 2]);

impl Net for Across {
    fn describe(&self) -> String {
        "two stacks".into()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        self.0[0].connect(target, cx)
    }

    fn listen<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        self.0[1].listen(target, cx)
    }

    fn lookup<'a>(
        &'a self,
        name: &'a str,
        policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<IpAddr>, ConnectError>> {
        self.0[0].lookup(name, policy)
    }
}

fn across(conditions: Conditions) -> NetCase {
    NetCase {
        net: Arc::new(Across(stacks(conditions, 4))),
        listen: || Target::Addr(([10, 0, 0, 2], 0).into()),
        ctx: tuyau_tokio::derivations(Context::new()),
        name: Some("localhost"),
        no_name: None,
        unsupported: Target::path("/tmp/s"),
        keep: Box::new(()),
    }
}

async fn two_on_a_link() -> NetCase {
    across(Conditions::new())
}

async fn two_on_a_bad_link() -> NetCase {
    across(bad())
}

net_conformance!(one_net, one);
net_conformance!(two_nets, two_on_a_link);
net_conformance!(paused two_nets_on_a_bad_link, two_on_a_bad_link);

#[tokio::test]
async fn a_context_with_a_stack_dials_through_it() {
    let [client, server] = stacks(Conditions::new(), 1);
    let mut listener = server.listen(&Target::Addr(([10, 0, 0, 2], 80).into()), &cx()).await.expect("listen");
    let ctx = tuyau_tokio::derivations(
        Context::new()
            .with(&tuyau_core::names::NET, client.into())
            .with(&tuyau_core::names::HOST, "10.0.0.2".into())
            .with(&tuyau_core::names::PORT, 80),
    );
    let serving = async {
        let flow = listener.accept().await.expect("accept").finish().await.expect("no handshake");
        pingpong::handler(flow).await.expect("served");
    };
    let ctx = ctx.offer(&tuyau_tokio::TCP);
    let (answers, ()) = tokio::join!(pingpong::client(&ctx, &["ping", "pong", "hello"]), serving);
    assert_eq!(answers.expect("answers"), ["pong", "ping", "hello"]);
}
