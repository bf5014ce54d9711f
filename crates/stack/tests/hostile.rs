//! Bad links, many flows, dead peers: on a clock that stands still while there is anything to do.

mod support;

use std::time::Duration;

use support::{accept, addr, config, cx, linked, pair_of, stacks};
use tuyau_core::{ConnectErrorKind, FlowErrorKind, Net, Policy, Target};
use tuyau_stack::{Conditions, Link, Stack};
use tuyau_testing::Pair;

fn hostile() -> Conditions {
    Conditions::new()
        .loss(0.03)
        .duplication(0.02)
        .corruption(0.01)
        .reordering(0.05)
        .delay(Duration::from_millis(20))
        .jitter(Duration::from_millis(10))
        .bandwidth(2_000_000)
        .queue(200)
}

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

async fn transfer_over_a_hostile_link(seed: u64) -> Duration {
    let began = tokio::time::Instant::now();
    let Pair { mut a, mut b, keep: _keep } = pair_of(&stacks(hostile(), seed), "10.0.0.2:0").await;
    let sent = bytes(seed, 1 << 20);
    let writing = async {
        a.write_all(&sent).await.expect("write");
        a.shutdown().await.expect("shutdown");
    };
    let reading = async {
        let mut got = Vec::new();
        let mut part = [0; 4096];
        while let n @ 1.. = b.read(&mut part).await.expect("read") {
            got.extend_from_slice(&part[..n]);
        }
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
    };
    tokio::join!(writing, reading);
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_hostile_link_loses_and_changes_nothing_whatever_the_seed() {
    for seed in 0..10 {
        let took = transfer_over_a_hostile_link(seed).await;
        assert!(took < Duration::from_secs(300), "{took:?} for seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_happens_follows_from_the_seed() {
    let first = transfer_over_a_hostile_link(3).await;
    assert_eq!(first, transfer_over_a_hostile_link(3).await);
    assert_ne!(first, transfer_over_a_hostile_link(4).await);
}

/// How much of a link's bandwidth 20 MB get, with buffers of that size, where the queue in the middle is shorter.
async fn share_of_bandwidth(buffer: usize, loss: f64) -> f64 {
    let runtime = tuyau_tokio::runtime();
    let bandwidth = 10_000_000;
    let conditions =
        Conditions::new().bandwidth(bandwidth).queue(100).delay(Duration::from_millis(5)).loss(loss);
    let (here, there) = Link::new(runtime.clone(), conditions, 5).ends();
    let stack = |last: u8, port| {
        Stack::new(config(last).buffers(buffer, buffer).seed(5), port, runtime.clone()).expect("a stack")
    };
    let Pair { mut a, mut b, keep: _keep } = pair_of(&[stack(1, here), stack(2, there)], "10.0.0.2:0").await;
    let began = tokio::time::Instant::now();
    let total = 20_000_000;
    let writing = async {
        a.write_all(&vec![0; total]).await.expect("write");
        a.shutdown().await.expect("shutdown");
    };
    let reading = async {
        let mut part = vec![0; 64 << 10];
        while b.read(&mut part).await.expect("read") > 0 {}
    };
    tokio::join!(writing, reading);
    total as f64 / began.elapsed().as_secs_f64() / bandwidth as f64
}

#[tokio::test(start_paused = true)]
async fn windows_beyond_what_the_link_holds_do_not_stall_it() {
    let default = share_of_bandwidth(128 << 10, 0.0).await;
    assert!(default > 0.8, "{default} of the bandwidth with the default");
    for kib in [64, 256, 1024, 4096] {
        for loss in [0.0, 0.002] {
            let share = share_of_bandwidth(kib << 10, loss).await;
            assert!(share > 0.1, "{share} of the bandwidth with {kib} KiB, {loss} lost");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_flows_at_once() {
    let runtime = tuyau_tokio::runtime();
    let (here, there) =
        Link::new(runtime.clone(), Conditions::new().delay(Duration::from_millis(5)), 1).ends();
    let small = |last| config(last).buffers(8 << 10, 8 << 10).backlog(2000).seed(last.into());
    let client = Stack::new(small(1), here, runtime.clone()).expect("a stack");
    let server = Stack::new(small(2), there, runtime).expect("a stack");
    let mut listener = server.listen(&addr("10.0.0.2:80"), &cx()).await.expect("listen");
    tokio::spawn(async move {
        loop {
            let mut flow = accept(&mut listener).await;
            tokio::spawn(async move {
                let mut got = [0; 8];
                flow.read_exact(&mut got).await.expect("read");
                flow.write_all(&got).await.expect("write");
                flow
            });
        }
    });
    let cx = cx();
    let mut open = tokio::task::JoinSet::new();
    for n in 0..1000u64 {
        let (client, cx) = (client.clone(), cx.clone());
        open.spawn(async move { (n, client.connect(&addr("10.0.0.2:80"), &cx).await.expect("connect")) });
    }
    let open = open.join_all().await;
    assert_eq!(open.len(), 1000, "all are open at once");
    for (n, mut flow) in open {
        flow.write_all(&n.to_le_bytes()).await.expect("write");
        let mut got = [0; 8];
        flow.read_exact(&mut got).await.expect("read");
        assert_eq!(u64::from_le_bytes(got), n);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_beyond_the_backlog_comes_through_in_the_end() {
    let runtime = tuyau_tokio::runtime();
    let (here, there) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
    let client = Stack::new(config(1).seed(1), here, runtime.clone()).expect("a stack");
    let server = Stack::new(config(2).backlog(4).seed(2), there, runtime).expect("a stack");
    let mut listener = server.listen(&addr("10.0.0.2:80"), &cx()).await.expect("listen");
    let cx = cx();
    let target = addr("10.0.0.2:80");
    let accepting = tokio::spawn(async move {
        let mut flows = Vec::new();
        for _ in 0..20 {
            flows.push(accept(&mut listener).await);
        }
        flows
    });
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, cx, target) = (client.clone(), cx.clone(), target.clone());
        open.spawn(async move { client.connect(&target, &cx).await.expect("connect") });
    }
    assert_eq!(open.join_all().await.len(), 20);
    assert_eq!(accepting.await.expect("accepted").len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_dies_in_mid_transfer_is_told_to_writers() {
    let (link, stacks) = linked(Conditions::new().delay(Duration::from_millis(1)), 1);
    let Pair { mut a, b: _b, keep: _keep } = pair_of(&stacks, "10.0.0.2:0").await;
    a.write_all(&[1; 1000]).await.expect("write");
    link.cut();
    let began = tokio::time::Instant::now();
    let error = loop {
        if let Err(error) = a.write_all(&[1; 10_000]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), FlowErrorKind::TimedOut, "{error:?}");
    assert!((59..70).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_is_noticed_by_an_idle_reader_if_it_is_probed() {
    let runtime = tuyau_tokio::runtime();
    let link = Link::new(runtime.clone(), Conditions::new(), 1);
    let (here, there) = link.ends();
    let client =
        Stack::new(config(1).keepalive(Duration::from_secs(10)), here, runtime.clone()).expect("a stack");
    let server = Stack::new(config(2), there, runtime).expect("a stack");
    let Pair { mut a, b: _b, keep: _keep } = pair_of(&[client, server], "10.0.0.2:0").await;
    let idle = tokio::time::timeout(Duration::from_secs(3600), a.read(&mut [0; 8])).await;
    assert!(idle.is_err(), "an idle peer that is alive is not given up: {idle:?}");
    link.cut();
    let error = a.read(&mut [0; 8]).await.expect_err("the peer is gone");
    assert_eq!(error.kind(), FlowErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn idle_flows_live_on_for_ever() {
    let Pair { mut a, mut b, keep: _keep } = pair_of(&stacks(Conditions::new(), 1), "10.0.0.2:0").await;
    for _ in 0..3 {
        a.write_all(b"x").await.expect("write");
        b.read_exact(&mut [0]).await.expect("read");
        tokio::time::advance(Duration::from_secs(3600)).await;
        tokio::time::timeout(Duration::from_secs(600), b.read(&mut [0])).await.expect_err("nothing comes");
    }
    // The end of one that was idle is not taken for one that nobody answered.
    a.shutdown().await.expect("shutdown");
    assert_eq!(b.read(&mut [0]).await.expect("the end"), 0);
    tokio::time::advance(Duration::from_secs(3600)).await;
    b.write_all(b"y").await.expect("write");
    a.read_exact(&mut [0]).await.expect("read");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_acknowledges_is_given_up() {
    let (link, stacks) = linked(Conditions::new(), 1);
    let Pair { mut a, b: _b, keep: _keep } = pair_of(&stacks, "10.0.0.2:0").await;
    link.cut();
    a.shutdown().await.expect("shutdown");
    let error = a.read(&mut [0]).await.expect_err("the peer is gone");
    assert_eq!(error.kind(), FlowErrorKind::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn silence_refusal_and_no_route_are_told_apart() {
    let (link, [client, _server]) = linked(Conditions::new(), 1);
    let error = client.connect(&addr("10.0.0.2:9"), &cx()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    let error = client.connect(&addr("10.1.0.2:9"), &cx()).await.expect_err("no route");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    link.cut();
    let error = client.connect(&addr("10.0.0.2:9"), &cx()).await.expect_err("silence");
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert_eq!(error.to_string(), "connect to 10.0.0.2:9");
}

#[tokio::test(start_paused = true)]
async fn ports_can_be_exhausted_and_come_back_in_spite_of_time_wait() {
    let runtime = tuyau_tokio::runtime();
    let (here, there) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
    let client = Stack::new(config(1).ports(50_000..=50_001), here, runtime.clone()).expect("a stack");
    let server = Stack::new(config(2), there, runtime).expect("a stack");
    let mut listener = server.listen(&addr("10.0.0.2:80"), &cx()).await.expect("listen");
    let target = addr("10.0.0.2:80");
    let cx = cx();
    let first = client.connect(&target, &cx).await.expect("a port");
    let _second = client.connect(&target, &cx).await.expect("another port");
    let error = client.connect(&target, &cx).await.expect_err("no port");
    assert_eq!(error.kind(), ConnectErrorKind::Environment);
    assert!(error.hint().is_some_and(|hint| hint.contains("50000 to 50001")), "{error:?}");
    // We end first, so the port waits; it is back when TIME-WAIT is over.
    drop(first);
    drop(accept(&mut listener).await);
    tokio::time::timeout(Duration::from_secs(20), std::future::pending::<()>())
        .await
        .expect_err("time passes");
    client.connect(&target, &cx).await.expect("the port is back");
}

#[tokio::test(start_paused = true)]
async fn two_thousand_connections_one_after_the_other_leave_nothing_behind() {
    let [client, server] = stacks(Conditions::new(), 1);
    let mut listener = server.listen(&addr("10.0.0.2:80"), &cx()).await.expect("listen");
    let (target, cx) = (addr("10.0.0.2:80"), cx());
    for n in 0..2000 {
        let (client, server) = tokio::join!(client.connect(&target, &cx), accept(&mut listener));
        let (mut client, mut server) = (client.unwrap_or_else(|error| panic!("{n}: {error:?}")), server);
        client.shutdown().await.expect("shutdown");
        assert_eq!(server.read(&mut [0]).await.expect("the end"), 0);
        server.shutdown().await.expect("shutdown");
        assert_eq!(client.read(&mut [0]).await.expect("the end"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_received_outlives_time_wait() {
    let Pair { mut a, mut b, keep: _keep } = pair_of(&stacks(Conditions::new(), 1), "10.0.0.2:0").await;
    a.shutdown().await.expect("shutdown");
    assert_eq!(b.read(&mut [0]).await.expect("the end"), 0);
    b.write_all(b"last words").await.expect("write");
    drop(b);
    tokio::time::timeout(Duration::from_secs(60), std::future::pending::<()>())
        .await
        .expect_err("time passes");
    let mut got = [0; 10];
    a.read_exact(&mut got).await.expect("read");
    assert_eq!((&got, a.read(&mut [0]).await.expect("the end")), (b"last words", 0));
}

#[tokio::test(start_paused = true)]
async fn an_address_is_in_use_once_and_a_foreign_one_never() {
    let [stack, _other] = stacks(Conditions::new(), 1);
    let cx = cx();
    let first = stack.listen(&addr("0.0.0.0:80"), &cx).await.expect("listen");
    for taken in ["10.0.0.1:80", "0.0.0.0:80", "[::]:80"] {
        let error = stack.listen(&addr(taken), &cx).await.expect_err("it is taken");
        assert_eq!(error.kind(), ConnectErrorKind::Environment);
        assert!(error.hint().is_some_and(|hint| hint.contains("something else listens there")), "{error:?}");
    }
    stack.listen(&addr("[fd00::1]:80"), &cx).await.expect("the other family is free");
    drop(first);
    stack.listen(&addr("10.0.0.1:80"), &cx).await.expect("it is free again");
    let error = stack.listen(&addr("10.0.0.9:80"), &cx).await.expect_err("not ours");
    assert!(error.hint().is_some_and(|hint| hint.contains("10.0.0.1, fd00::1")), "{error:?}");
}

#[tokio::test]
async fn a_stack_without_a_name_server_says_so() {
    let [stack, _other] = stacks(Conditions::new(), 1);
    let error = stack.lookup("a.example", &Policy::new()).await.expect_err("nobody to ask");
    assert_eq!(error.to_string(), "lookup of `a.example`");
    assert!(error.hint().is_some_and(|hint| hint.contains("no name server")), "{error:?}");
    let error = stack.connect(&Target::name("a..b", 1), &cx()).await.expect_err("no name");
    assert_eq!(error.kind(), ConnectErrorKind::Misuse);
}

#[tokio::test(start_paused = true)]
async fn a_name_server_that_is_silent_is_named() {
    let runtime = tuyau_tokio::runtime();
    let (here, _there) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
    let stack = Stack::new(config(1).name_server([10, 0, 0, 2]), here, runtime).expect("a stack");
    let error = stack.lookup("a.example", &Policy::new()).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    assert!(error.hint().is_some_and(|hint| hint.contains("10.0.0.2")), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_told_from_an_end_and_what_ended_unaccepted_is_accepted() {
    let [client, server] = stacks(Conditions::new(), 1);
    let mut listener = server.listen(&addr("10.0.0.2:80"), &cx()).await.expect("listen");
    let (cx, target) = (cx(), addr("10.0.0.2:80"));
    let mut flow = client.connect(&target, &cx).await.expect("connect");
    flow.write_all(b"x").await.expect("write");
    // A reset is sent where what came was not read: so the server's side must write, and not be read.
    let mut accepted = accept(&mut listener).await;
    accepted.write_all(b"unread").await.expect("write");
    let second = client.connect(&target, &cx).await.expect("connect");
    tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>())
        .await
        .expect_err("time passes");
    drop(flow);
    drop(second);
    assert_eq!(accepted.read(&mut [0; 9]).await.expect("what came before the reset"), 1);
    assert_eq!(accepted.read(&mut [0; 9]).await.expect_err("reset").kind(), FlowErrorKind::Reset);
    assert_eq!(accept(&mut listener).await.read(&mut [0]).await.expect("a clean end"), 0);
}

#[tokio::test]
async fn configurations_without_sense_are_refused() {
    let runtime = tuyau_tokio::runtime();
    let bad = [
        (config(1).address([10, 0, 0, 1], 33), "10.0.0.1/33: the address has 32 bits"),
        (config(1).address([224, 0, 0, 1], 24), "224.0.0.1 can't be the address of a stack"),
        (config(1).gateway([192, 0, 2, 1]), "no route to 0.0.0.0/0 through 192.0.2.1"),
        (config(1).buffers(1, 1 << 20), "a stack with a receive buffer not between 4 KiB and 1 GiB"),
        (
            config(1).keepalive(Duration::from_secs(90)),
            "a stack with a keepalive that is zero, or not shorter than the timeout",
        ),
    ];
    for (config, expected) in bad {
        let (port, _) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
        let error = Stack::new(config, port, runtime.clone()).expect_err(expected);
        assert_eq!((error.kind(), error.to_string().as_str()), (ConnectErrorKind::Misuse, expected));
    }
}

/// Tells when it is dropped, with the device that it is in.
struct Watched(tuyau_stack::Port, #[allow(dead_code)] tokio::sync::mpsc::Sender<()>);

impl tuyau_stack::Device for Watched {
    fn medium(&self) -> tuyau_stack::Medium {
        self.0.medium()
    }
    fn mtu(&self) -> usize {
        self.0.mtu()
    }
    fn poll_receive(
        &mut self,
        cx: &mut std::task::Context<'_>,
        packet: &mut [u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.0.poll_receive(cx, packet)
    }
    fn send(&mut self, packet: &[u8]) -> std::io::Result<()> {
        self.0.send(packet)
    }
}

#[tokio::test(start_paused = true)]
async fn the_device_is_dropped_with_the_last_owner() {
    let runtime = tuyau_tokio::runtime();
    let (here, there) = Link::new(runtime.clone(), Conditions::new(), 1).ends();
    let (alive, mut gone) = tokio::sync::mpsc::channel(1);
    let client = Stack::new(config(1), Watched(here, alive), runtime.clone()).expect("a stack");
    let server = Stack::new(config(2), there, runtime).expect("a stack");
    let Pair { mut a, mut b, keep } = pair_of(&[client, server.clone()], "10.0.0.2:0").await;
    drop(keep);
    a.write_all(b"still here").await.expect("the flow keeps it alive");
    assert!(gone.try_recv().is_err_and(|error| error == tokio::sync::mpsc::error::TryRecvError::Empty));
    drop(a);
    let mut got = [0; 10];
    b.read_exact(&mut got).await.expect("what was written before the drop arrives");
    drop(b);
    assert!(gone.recv().await.is_none());
}
