//! Flows to name servers that are kept, and shared.

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tuyau_core::{ConnectErrorKind, Net, Policy};
use tuyau_dns::Config;
use tuyau_testing::peers::nsd;
use tuyau_testing::{CountingNet, free_port};
use tuyau_tokio::host;

use crate::scripted::{address, bytes};
use crate::{LONG, config, dns, ip, lookup};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_is_asked_all_over_one_flow() {
    let zone: String = (0..100).map(|n| format!("n{n} A 192.0.2.{n}\nn{n} AAAA 2001:db8::{n}\n")).collect();
    let nsd = nsd(([127, 0, 0, 1], free_port()).into(), &[("x.example", &zone)]);
    let counting = CountingNet::new(host());
    let net = dns(config(&[nsd.address()])).over(Arc::new(counting.clone()));
    let mut asking = JoinSet::new();
    for n in 0..100 {
        let net = net.clone();
        asking.spawn(async move {
            let found = lookup(&net, &format!("n{n}.x.example")).await.expect("lookup");
            assert!(found.contains(&ip(&format!("192.0.2.{n}"))), "{found:?}");
            assert!(found.contains(&ip(&format!("2001:db8::{n}"))), "{found:?}");
        });
    }
    asking.join_all().await;
    assert_eq!(counting.made(), 1);
}

/// A server on TCP, whose `serve` gets each connection, and its number.
async fn server<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> (Config, JoinSet<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let config = config(&[listener.local_addr().expect("bound")]);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 0.. {
            let (stream, _) = listener.accept().await.expect("accept");
            connections.spawn(serve(number, stream));
        }
    });
    (config, tasks)
}

async fn query(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.expect("a query");
    let mut query = vec![0; length.into()];
    stream.read_exact(&mut query).await.expect("a query");
    Message::from_vec(&query).expect("a query")
}

async fn reply(stream: &mut TcpStream, query: &Message) {
    let reply = bytes(&address(query, 60));
    stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).await.expect("write");
}

#[tokio::test]
async fn queries_do_not_wait_for_each_other_and_answers_come_in_any_order() {
    let (config, _tasks) = server(|_, mut stream| async move {
        let (first, second) = (query(&mut stream).await, query(&mut stream).await);
        reply(&mut stream, &second).await;
        reply(&mut stream, &first).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let net = dns(Config { timeout: LONG, ..config }).over(host());
    assert_eq!(lookup(&net, "a.example").await.expect("lookup"), [ip("2001:db8::1"), ip("192.0.2.1")]);
}

#[tokio::test]
async fn a_flow_that_the_server_has_ended_is_made_anew() {
    let (config, _tasks) = server(|_, mut stream| async move {
        for _ in 0..2 {
            let query = query(&mut stream).await;
            reply(&mut stream, &query).await;
        }
    })
    .await;
    let counting = CountingNet::new(host());
    let net = dns(Config { attempts: 1, timeout: LONG, ..config }).over(Arc::new(counting.clone()));
    for name in ["a.example", "b.example", "c.example"] {
        assert_eq!(lookup(&net, name).await.expect(name).len(), 2);
    }
    assert_eq!(counting.made(), 3);
}

#[tokio::test]
async fn a_flow_that_is_dead_is_given_up_after_the_first_timeout() {
    let (config, _tasks) = server(|number, mut stream| async move {
        while let Ok(1..) = stream.peek(&mut [0]).await {
            let query = query(&mut stream).await;
            let name = query.queries[0].name.to_string();
            if number > 0 || name == "a.example." {
                reply(&mut stream, &query).await;
            }
        }
    })
    .await;
    let counting = CountingNet::new(host());
    let timeout = Duration::from_millis(200);
    let net = dns(Config { attempts: 20, timeout, ..config }).over(Arc::new(counting.clone()));
    assert_eq!(lookup(&net, "a.example").await.expect("lookup").len(), 2);
    assert_eq!(lookup(&net, "b.example").await.expect("a second attempt").len(), 2);
    assert!(counting.made() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_nobody_needs_is_closed_after_some_seconds() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let (config, _tasks) = server(move |number, mut stream| {
        let ended = ended.clone();
        async move {
            while let Ok(1..) = stream.peek(&mut [0]).await {
                let query = query(&mut stream).await;
                reply(&mut stream, &query).await;
            }
            let _ = ended.send(number);
        }
    })
    .await;
    let net = dns(Config { timeout: LONG, ..config }).over(host());
    let before = tokio::time::Instant::now();
    lookup(&net, "a.example").await.expect("lookup");
    assert_eq!(ends.recv().await, Some(0));
    assert_eq!(before.elapsed().as_secs(), 10);
    lookup(&net, "b.example").await.expect("lookup");
    drop(net);
    assert_eq!(ends.recv().await, Some(1));
    assert_eq!(before.elapsed().as_secs(), 10, "with the net, it ends at once");
}

#[tokio::test]
async fn what_one_policy_let_pass_another_does_not_use() {
    let (config, _tasks) = server(|_, mut stream| async move {
        while let Ok(1..) = stream.peek(&mut [0]).await {
            let query = query(&mut stream).await;
            reply(&mut stream, &query).await;
        }
    })
    .await;
    let counting = CountingNet::new(host());
    let net = dns(Config { timeout: LONG, ..config }).over(Arc::new(counting.clone()));
    assert!(net.lookup("a.example", &Policy::new()).await.is_ok());
    let only = |network: &str| Policy::new().only_networks([network.parse().expect("a network")]);
    let error = net.lookup("b.example", &only("192.0.2.0/24")).await.expect_err("asked all the same");
    assert_eq!(error.kind(), ConnectErrorKind::Policy);
    assert_eq!(counting.made(), 1);
    assert!(net.lookup("c.example", &only("127.0.0.0/8")).await.is_ok());
    assert_eq!(counting.made(), 2);
}
