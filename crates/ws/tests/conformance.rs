//! Every flow that the layer makes passes the suite.

use std::sync::Arc;

use tuyau_core::names::RUNTIME;
use tuyau_core::{ConnectCx, Context, Flow, Layer, Role, Target};
use tuyau_testing::{Abilities, Pair, flow_conformance};
use tuyau_tokio::{duplex, host, runtime};
use tuyau_ws::{Settings, WsLayer};

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new().with(&RUNTIME, runtime())).expect("a context")
}

fn layer(change: impl Fn(&mut Settings)) -> WsLayer {
    let mut settings = Settings::default();
    settings.host = Some("test".into());
    change(&mut settings);
    WsLayer::new(settings)
}

async fn wrap(layer: WsLayer, client: Flow, server: Flow) -> Pair {
    let cx = cx();
    let (client, server) =
        tokio::join!(layer.wrap(client, Role::Client, &cx), layer.wrap(server, Role::Server, &cx));
    Pair::new(client.expect("client"), server.expect("server"))
}

async fn memory() -> Pair {
    let (a, b) = duplex();
    wrap(layer(|_| {}), a, b).await
}

async fn tcp() -> (Flow, Flow) {
    let (host, cx) = (host(), cx());
    let mut listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let target = listener.local();
    let (client, accepted) = tokio::join!(host.connect(&target, &cx), listener.accept());
    (client.expect("connect"), accepted.expect("accept").finish().await.expect("no handshake"))
}

async fn over_host() -> Pair {
    let (client, server) = tcp().await;
    wrap(layer(|settings| settings.subprotocol = Some("binary".into())), client, server).await
}

async fn tiny_frames() -> Pair {
    let (a, b) = duplex();
    wrap(layer(|settings| settings.max_frame = 16), a, b).await
}

async fn ws_in_ws() -> Pair {
    let Pair { a, b, keep: _ } = over_host().await;
    wrap(layer(|_| {}), a, b).await
}

async fn accepted() -> Pair {
    let (host, ctx) = (host(), Context::new().with(&RUNTIME, runtime()));
    let cx = cx();
    let listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.expect("listen");
    let mut listener = listener.layered(Arc::new(layer(|_| {})), &ctx);
    let target = listener.local();
    let client = async {
        let flow = host.connect(&target, &cx).await.expect("connect");
        layer(|_| {}).wrap(flow, Role::Client, &cx).await.expect("client")
    };
    let server = async { listener.accept().await.expect("accept").finish().await.expect("server") };
    let (client, server) = tokio::join!(client, server);
    Pair::new(client, server).keep(listener)
}

/// A flow that is dropped has not said its Close, so the peer can't tell whether it got all; and bytes that
/// were read ahead hide a reset.
const WS: Abilities = Abilities { reset: false, drop_delivers: false, ..Abilities::ALL };
/// A write takes one frame's worth.
const TINY: Abilities = Abilities { vectored: true, ..WS };

flow_conformance!(over_memory, WS, memory);
flow_conformance!(over_tcp, WS, over_host);
flow_conformance!(in_tiny_frames, TINY, tiny_frames);
flow_conformance!(in_itself, WS, ws_in_ws);
flow_conformance!(when_accepted, WS, accepted);
