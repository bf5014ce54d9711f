//! Stacks to test with.
#![allow(dead_code)] // not each test file uses all of it

use std::net::SocketAddr;

use tuyau_core::{ConnectCx, Context, Flow, Listener, Net, Target};
use tuyau_stack::{Conditions, Config, Link, Stack};
use tuyau_testing::Pair;

/// What configures a connect: nothing but time.
pub(crate) fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&tuyau_tokio::derivations(Context::new())).expect("a context")
}

/// Two stacks on one wire: 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2.
pub(crate) fn stacks(conditions: Conditions, seed: u64) -> [Stack; 2] {
    linked(conditions, seed).1
}

/// Likewise, with the wire.
pub(crate) fn linked(conditions: Conditions, seed: u64) -> (Link, [Stack; 2]) {
    let runtime = tuyau_tokio::runtime();
    let link = Link::new(runtime.clone(), conditions, seed);
    let (here, there) = link.ends();
    let stack = |last: u8, port| {
        Stack::new(config(last).seed(seed + u64::from(last)), port, runtime.clone()).expect("a stack")
    };
    (link, [stack(1, here), stack(2, there)])
}

pub(crate) fn config(last: u8) -> Config {
    let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    Config::new().address([10, 0, 0, last], 24).address(v6, 64)
}

/// A flow from the first stack to the second, which listens on `on`.
pub(crate) async fn pair_of(stacks: &[Stack], on: &str) -> Pair {
    let cx = cx();
    let mut listener = stacks[1].listen(&addr(on), &cx).await.expect("listen");
    let target = listener.local();
    let (client, server) = tokio::join!(stacks[0].connect(&target, &cx), accept(&mut listener));
    Pair::new(client.expect("connect"), server).keep(listener).keep(stacks.to_vec())
}

pub(crate) async fn accept(listener: &mut Listener) -> Flow {
    listener.accept().await.expect("accept").finish().await.expect("no handshake")
}

pub(crate) fn addr(text: &str) -> Target {
    Target::Addr(text.parse::<SocketAddr>().expect("an address"))
}
