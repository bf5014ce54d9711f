//! Against the kernel's TCP, over TAP and TUN devices in a network namespace of each test's own.
#![cfg(target_os = "linux")]

#[path = "support/kernel.rs"]
mod kernel;
mod support;

use std::time::Duration;

use kernel::{stack_on_tap, stack_on_tun, stack_with};
use support::{accept, addr, cx};
use tuyau_core::{ConnectErrorKind, Context, Flow, FlowErrorKind, Net, Policy, Target};
use tuyau_stack::Stack;
use tuyau_testing::netns::ip;
use tuyau_testing::peers::{Peer, command, run};
use tuyau_testing::{Abilities, NetCase, Pair, flow_conformance, net_conformance};

/// The stack connects to the kernel.
async fn to_kernel(stack: Stack, on: &str) -> Pair {
    let (cx, host) = (cx(), tuyau_tokio::host());
    let mut listener = host.listen(&addr(on), &cx).await.expect("listen");
    let target = listener.local();
    let (client, server) = tokio::join!(stack.connect(&target, &cx), accept(&mut listener));
    Pair::new(client.expect("connect"), server).keep(listener).keep(stack)
}

/// The kernel connects to the stack.
async fn from_kernel(stack: Stack, on: &str) -> Pair {
    let (cx, host) = (cx(), tuyau_tokio::host());
    let mut listener = stack.listen(&addr(on), &cx).await.expect("listen");
    let target = listener.local();
    let (client, server) = tokio::join!(host.connect(&target, &cx), accept(&mut listener));
    Pair::new(client.expect("connect"), server).keep(listener).keep(stack)
}

async fn tap_to_kernel() -> Pair {
    to_kernel(stack_on_tap(), "10.9.0.1:0").await
}

async fn tap_from_kernel() -> Pair {
    from_kernel(stack_on_tap(), "10.9.0.2:0").await
}

async fn tap_v6_to_kernel() -> Pair {
    to_kernel(stack_on_tap(), "[fd09::1]:0").await
}

async fn tun_from_kernel() -> Pair {
    from_kernel(stack_on_tun(), "10.9.0.2:0").await
}

flow_conformance!(to_the_kernel_over_tap, Abilities::ALL, tap_to_kernel);
flow_conformance!(from_the_kernel_over_tap, Abilities::ALL, tap_from_kernel);
flow_conformance!(to_the_kernel_over_tap_by_ipv6, Abilities::ALL, tap_v6_to_kernel);
flow_conformance!(from_the_kernel_over_tun, Abilities::ALL, tun_from_kernel);

/// A DNS server of the kernel's side, for what the stack asks: `a.example` has addresses, `long.example` so many that
/// they fit no datagram, and all else does not exist.
async fn name_server() {
    let at = "10.9.0.1:53";
    let udp = tokio::net::UdpSocket::bind(at).await.expect("bind");
    let tcp = tokio::net::TcpListener::bind(at).await.expect("bind");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((n, from)) = udp.recv_from(&mut query).await {
            let _ = udp.send_to(&reply(&query[..n], 512), from).await;
        }
    });
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.expect("a length");
            let mut query = vec![0; length.into()];
            stream.read_exact(&mut query).await.expect("a query");
            let reply = reply(&query, usize::MAX);
            let length = u16::try_from(reply.len()).expect("it fits");
            stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await.expect("write");
        }
    });
}

fn reply(query: &[u8], most: usize) -> Vec<u8> {
    let kind = query[query.len() - 3];
    let count: u8 = match &query[12..] {
        [1, b'a', 7, ..] => 1,
        [4, b'l', b'o', b'n', b'g', ..] => 100,
        _ => 0,
    };
    let mut reply = query.to_vec();
    reply[2..4].copy_from_slice(if count == 0 { &[0x81, 0x83] } else { &[0x81, 0x80] });
    for n in 0..count {
        let data =
            if kind == 1 { vec![10, 9, 0, n + 1] } else { [&[0xfd, 9][..], &[0; 13], &[n + 1]].concat() };
        let record = [&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 9, 0, data.len() as u8][..], &data].concat();
        if reply.len() + record.len() > most {
            reply.truncate(query.len());
            reply[2] |= 2;
            reply[7] = 0;
            return reply;
        }
        reply.extend(record);
        reply[7] += 1;
    }
    reply
}

async fn case() -> NetCase {
    let stack = stack_on_tap();
    name_server().await;
    NetCase {
        net: stack.into(),
        listen: || addr("10.9.0.2:0"),
        ctx: tuyau_tokio::derivations(Context::new()),
        name: Some("a.example"),
        no_name: Some("nobody.example"),
        unsupported: Target::path("/tmp/s"),
        keep: Box::new(()),
    }
}

net_conformance!(a_stack_on_tap, case);

async fn lookup(stack: &Stack, name: &str) -> Vec<std::net::IpAddr> {
    match stack.lookup(name, &Policy::new()).await.expect("lookup") {
        tuyau_core::Many::All(all) => all,
        tuyau_core::Many::Stream(_) => panic!("a list was expected"),
    }
}

#[tokio::test]
async fn names_are_looked_up_through_the_stack_by_udp_and_what_is_long_by_tcp() {
    let stack = stack_on_tap();
    name_server().await;
    let found = lookup(&stack, "A.Example.").await;
    assert_eq!(found, ["fd09::1".parse::<std::net::IpAddr>().expect("v6"), [10, 9, 0, 1].into()]);
    assert_eq!(lookup(&stack, "long.example").await.len(), 200);
    let mut listener = tuyau_tokio::host().listen(&addr("10.9.0.1:7"), &cx()).await.expect("listen");
    let cx = cx();
    let target = Target::name("a.example", 7);
    let (client, _server) = tokio::join!(stack.connect(&target, &cx), accept(&mut listener));
    assert_eq!(
        client.expect("the IPv4 address works").fact(&tuyau_core::names::PEER),
        Some(addr("10.9.0.1:7"))
    );
}

#[tokio::test]
async fn a_forbidden_lookup_and_a_missing_name_server_are_said() {
    let stack = stack_on_tap();
    let error = stack.lookup("a.example", &Policy::new().no_local_lookup()).await.expect_err("forbidden");
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
}

/// Speaks HTTP/1.0 as far as curl needs it.
async fn serve_http(mut flow: Flow, body: &[u8]) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        flow.read_exact(&mut byte).await.expect("a request");
        request.extend(byte);
    }
    let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    flow.write_all(head.as_bytes()).await.expect("write");
    flow.write_all(body).await.expect("write");
    flow.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_nc_talk_to_it() {
    let stack = stack_on_tap();
    let body: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 7) >> 3) as u8).collect();
    let mut listener = stack.listen(&addr("0.0.0.0:80"), &cx()).await.expect("listen");
    let served = body.clone();
    let serving = tokio::spawn(async move {
        let flow = accept(&mut listener).await;
        serve_http(flow, &served).await;
        let mut flow = accept(&mut listener).await;
        let mut all = Vec::new();
        let mut part = [0; 1000];
        while let n @ 1.. = flow.read(&mut part).await.expect("read") {
            all.extend_from_slice(&part[..n]);
        }
        flow.write_all(&all).await.expect("write");
        flow.shutdown().await.expect("shutdown");
    });
    let mut curl = command("curl", "curl");
    curl.args(["-sS", "--max-time", "50", "http://10.9.0.2/"]);
    let got = tokio::task::block_in_place(|| run(curl, b"")).code(0);
    assert!(got.stdout == body, "{} bytes", got.stdout.len());
    let mut nc = command("nc", "netcat-openbsd");
    nc.args(["-N", "10.9.0.2", "80"]);
    let got = tokio::task::block_in_place(|| run(nc, &body[..100_000])).code(0);
    assert!(got.stdout == body[..100_000], "{} bytes", got.stdout.len());
    serving.await.expect("server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_talks_to_socat() {
    let stack = stack_on_tap();
    let mut socat = command("socat", "socat");
    let mut socat = Peer::spawn(socat.args(["-d", "-d", "TCP6-LISTEN:7,ipv6only=0", "EXEC:cat"]));
    tokio::task::block_in_place(|| socat.error_line("listening on"));
    let mut flow = stack.connect(&addr("[fd09::1]:7"), &cx()).await.expect("connect");
    flow.write_all(b"hello").await.expect("write");
    flow.shutdown().await.expect("shutdown");
    let mut got = [0; 5];
    flow.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"hello");
    assert_eq!(flow.read(&mut got).await.expect("the end"), 0);
}

#[tokio::test]
async fn the_kernel_refuses_and_unreachable_is_told() {
    let stack = stack_on_tap();
    let error = stack.connect(&addr("10.9.0.1:1"), &cx()).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.hint().is_some_and(|hint| hint.contains("nobody listens")), "{error:?}");
    let error = stack.connect(&addr("192.0.2.1:1"), &cx()).await.expect_err("no route");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    assert!(error.hint().is_some_and(|hint| hint.contains("gateway")), "{error:?}");
}

#[tokio::test]
async fn a_router_that_knows_no_way_is_believed_at_once() {
    let stack = stack_with(|config| config.gateway([10, 9, 0, 1]));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a namespace of our own");
    ip("route add unreachable 192.0.2.0/24");
    let connecting = stack.connect(&addr("192.0.2.1:1"), &cx()).await;
    assert_eq!(connecting.expect_err("no way").kind(), ConnectErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_goes_down_in_mid_transfer_is_told() {
    let stack = stack_with(|config| config.timeout(Duration::from_secs(2)));
    let Pair { mut a, b: _b, keep: _keep } = to_kernel(stack, "10.9.0.1:0").await;
    a.write_all(&[1; 100_000]).await.expect("write");
    ip("link set tap0 down");
    let error = loop {
        if let Err(error) = a.write_all(&[1; 100_000]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), FlowErrorKind::TimedOut, "{error:?}");
}
