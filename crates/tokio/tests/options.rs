//! Socket options: they reach the socket, and one that is refused is named.
#![cfg(target_os = "linux")]

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Key, Net, Target};
use tuyau_tokio::{BIND, FAST_OPEN, Host, INTERFACE, KEEPALIVE, Keepalive, NODELAY};

async fn connected(ctx: Context) -> Result<(Flow, Flow), ConnectError> {
    let (host, cx) = (Host::new(), ConnectCx::new(&ctx)?);
    // The listener has the options that listeners have; the rest it must not mind.
    let mut listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await?;
    let client = host.connect(&listener.local(), &cx).await?;
    let server = listener.accept().await.expect("accept").finish().await?;
    Ok((client, server))
}

fn socket(flow: &Flow) -> SockRef<'_> {
    SockRef::from(flow.find::<TcpStream>().expect("a TCP stream"))
}

#[tokio::test]
async fn nodelay_is_on_unless_told_otherwise_on_both_sides() {
    let (client, server) = connected(Context::new()).await.unwrap();
    assert!(socket(&client).tcp_nodelay().unwrap() && socket(&server).tcp_nodelay().unwrap());
    let (client, server) = connected(Context::new().with(&NODELAY, false)).await.unwrap();
    assert!(!socket(&client).tcp_nodelay().unwrap() && !socket(&server).tcp_nodelay().unwrap());
}

#[tokio::test]
async fn keepalive_reaches_both_sides() {
    let (client, _server) = connected(Context::new()).await.unwrap();
    assert!(!socket(&client).keepalive().unwrap());
    let keepalive = Keepalive {
        idle: Some(Duration::from_secs(11)),
        interval: Some(Duration::from_secs(7)),
        count: Some(3),
    };
    let (client, server) = connected(Context::new().with(&KEEPALIVE, keepalive)).await.unwrap();
    for flow in [&client, &server] {
        assert!(socket(flow).keepalive().unwrap());
        assert_eq!(socket(flow).tcp_keepalive_time().unwrap(), Duration::from_secs(11));
        assert_eq!(socket(flow).tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket(flow).tcp_keepalive_retries().unwrap(), 3);
    }
}

#[tokio::test]
async fn the_local_address_can_be_chosen() {
    let from: SocketAddr = "127.0.0.2:0".parse().unwrap();
    let (client, server) = connected(Context::new().with(&BIND, from)).await.unwrap();
    assert_eq!(client.fact(&tuyau_core::names::LOCAL).unwrap().ip(), Some(from.ip()));
    assert_eq!(server.fact(&tuyau_core::names::PEER).unwrap().ip(), Some(from.ip()));
}

#[tokio::test]
async fn fast_open_and_the_interface_can_be_chosen() {
    let ctx = Context::new().with(&FAST_OPEN, true).with(&INTERFACE, "lo".into());
    let (mut client, mut server) = {
        let (host, cx) = (Host::new(), ConnectCx::new(&ctx).unwrap());
        let mut listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.unwrap();
        let mut client = host.connect(&listener.local(), &cx).await.unwrap();
        // The SYN may wait for the first bytes.
        client.write_all(b"x").await.unwrap();
        (client, listener.accept().await.unwrap().finish().await.unwrap())
    };
    assert_eq!(socket(&client).device().unwrap().as_deref(), Some(&b"lo"[..]));
    server.read_exact(&mut [0]).await.unwrap();
    server.write_all(b"y").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_named() {
    async fn refused<T: Send + Sync + 'static>(key: &'static Key<T>, value: T, kind: ConnectErrorKind) {
        let error = connected(Context::new().with(key, value)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.to_string().contains(&format!("`{}`", key.name())), "{error}");
        assert!(error.hint().is_some());
    }
    refused(&INTERFACE, "nosuch0".into(), ConnectErrorKind::Environment).await;
    refused(&BIND, "192.0.2.1:0".parse().unwrap(), ConnectErrorKind::Environment).await;
    refused(&BIND, "[::1]:0".parse().unwrap(), ConnectErrorKind::Misuse).await;
    let never = Keepalive { idle: Some(Duration::ZERO), ..Keepalive::default() };
    refused(&KEEPALIVE, never, ConnectErrorKind::Misuse).await;
}
