//! Over TLS.

use std::sync::Arc;

use tuyau_core::names::{HOST, POLICY, PORT, RUNTIME};
use tuyau_core::{ConnectCx, Context, Net, Policy, Target};
use tuyau_testing::certs::Ca;
use tuyau_tls::{Identity, ROOTS, Roots, ServerSettings, TLS, TlsServer};
use tuyau_tokio::{Host, TCP, derivations, runtime};
use tuyau_ws::{Settings, WSS, WsLayer, over};

#[tokio::test]
async fn wss_is_encrypted_end_to_end() {
    let ca = Ca::new("CA");
    let leaf = ca.leaf(&["localhost", "127.0.0.1"]);
    let tls = TlsServer::new(ServerSettings::new(Identity::der(leaf.chain(), leaf.key()))).expect("a server");
    let serving = Context::new().with(&RUNTIME, runtime());
    let cx = ConnectCx::new(&serving).expect("a context");
    let listener = Host::new().listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let Target::Addr(at) = listener.local() else { panic!("an address") };
    let ws = Arc::new(WsLayer::new(Settings::default()));
    let mut listener = listener.layered(tls.layer(), &serving).layered(ws, &serving);

    let ctx = derivations(Context::new())
        .with(&HOST, "127.0.0.1".into())
        .with(&PORT, at.port())
        .with(&POLICY, Policy::new().encrypted_end_to_end())
        .with(&ROOTS, Roots::Der([ca.der().to_vec()].into()));
    let ctx = over(tuyau_tls::over(ctx, &TLS, &TCP), &WSS, &TLS).offer(&WSS);
    let server = async { listener.accept().await.expect("accept").finish().await.expect("handshakes") };
    let (client, mut server) = tokio::join!(ctx.resolve(), server);
    let mut client = client.expect("resolve").into_flow();
    client.write_all(b"hello").await.expect("write");
    client.shutdown().await.expect("shutdown");
    let mut got = [0; 5];
    server.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"hello");
    assert_eq!(server.read(&mut got).await.expect("read"), 0);
    server.write_all(b"still").await.expect("write");
    client.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"still");
}
