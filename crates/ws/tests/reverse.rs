//! Our client and our server, with a reverse proxy in front of the server, which speaks HTTP until both have agreed.

use std::fs;
use std::net::TcpStream as Probe;
use std::sync::Arc;

use tokio::net::TcpListener;
use tuyau_core::names::{HOST, LAYER, PORT};
use tuyau_core::{Context, Flow, Role};
use tuyau_testing::peers::{Peer, command, nginx};
use tuyau_testing::{Place, free_port};
use tuyau_tokio::{TCP, derivations};
use tuyau_ws::{Settings, WS, WsLayer, over};

/// Goes through the proxy that `start` starts, on the port that comes first, in front of the server on the other.
async fn goes_through(start: impl Fn(&Place, u16, u16) -> Peer) {
    const N: usize = 300_000;
    let (place, port) = (Place::new(), free_port());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = listener.local_addr().expect("bound").port();
    let proxy = start(&place, port, server);
    while Probe::connect(("127.0.0.1", port)).is_err() {
        tokio::task::yield_now().await;
    }
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accept");
        let ctx = Context::new().with(&LAYER, Arc::new(WsLayer::new(Settings::default())));
        let mut flow = ctx.upgrade(Flow::from_tokio(stream), Role::Server).await.expect("handshake");
        // It speaks first: that comes right behind the answer.
        flow.write_all(b"hello").await.expect("write");
        let mut got = vec![0; N];
        flow.read_exact(&mut got).await.expect("read");
        flow.write_all(&got).await.expect("write");
        assert_eq!(flow.read(&mut [0]).await.expect("a clean end"), 0);
        flow.shutdown().await.expect("shutdown");
    });
    let ctx = derivations(Context::new()).with(&HOST, "127.0.0.1".into()).with(&PORT, port);
    let mut flow = over(ctx, &WS, &TCP).offer(&WS).resolve().await.expect("resolve").into_flow();
    let sent: Vec<u8> = (0..N).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut hello = [0; 5];
    flow.read_exact(&mut hello).await.expect("read");
    assert_eq!(&hello, b"hello");
    flow.write_all(&sent).await.expect("write");
    let mut got = vec![0; N];
    flow.read_exact(&mut got).await.expect("read");
    assert!(got == sent, "the bytes differ");
    flow.shutdown().await.expect("shutdown");
    assert_eq!(flow.read(&mut [0]).await.expect("a clean end"), 0);
    serving.await.expect("the server");
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_nginx() {
    goes_through(|place, port, server| {
        let http = format!(
            "server {{ listen 127.0.0.1:{port};
             location / {{ proxy_pass http://127.0.0.1:{server}; proxy_http_version 1.1;
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }}"
        );
        nginx(place, &http)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_haproxy() {
    goes_through(|place, port, server| {
        let config = format!(
            "defaults\n mode http\n timeout connect 30s\n timeout client 30s\n timeout server 30s\n timeout tunnel 1m\n\
             frontend near\n bind 127.0.0.1:{port}\n default_backend far\n\
             backend far\n server far 127.0.0.1:{server}\n"
        );
        fs::write(place.path("conf"), config).expect("write");
        Peer::spawn(command("haproxy", "haproxy").args(["-db", "-f", &place.path("conf")]))
    })
    .await;
}
