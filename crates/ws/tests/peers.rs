//! Other implementations.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tuyau_core::names::{HOST, LAYER, PORT};
use tuyau_core::{Context, Flow, Role};
use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tokio::{TCP, derivations};
use tuyau_ws::{MAX_FRAME, NEGOTIATED_SUBPROTOCOL, SUBPROTOCOL, Settings, WS, WsLayer, over};

fn ws(port: u16) -> Context {
    let ctx = derivations(Context::new()).with(&HOST, "127.0.0.1".into()).with(&PORT, port);
    over(ctx, &WS, &TCP).offer(&WS)
}

/// Bytes of all values, that don't repeat soon.
fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|at| (at * 7 + at / 251) as u8).collect()
}

async fn read_to_end(flow: &mut Flow) -> Vec<u8> {
    let mut all = Vec::new();
    let mut part = vec![0; 70_000];
    loop {
        match flow.read(&mut part).await.expect("read") {
            0 => return all,
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockify_carries_what_we_send_to_a_tcp_server_and_back() {
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = free_port();
    let mut command = peers::command("websockify", "websockify");
    command.args([format!("127.0.0.1:{port}"), target.local_addr().expect("bound").to_string()]);
    let mut websockify = Peer::spawn(&mut command);
    websockify.error_line("proxying from");
    const N: usize = 300_000;
    let echo = tokio::spawn(async move {
        let (mut stream, _) = target.accept().await.expect("accept");
        // It speaks first.
        stream.write_all(b"hello").await.expect("write");
        let mut all = vec![0; N];
        stream.read_exact(&mut all).await.expect("read");
        stream.write_all(&all).await.expect("write");
    });
    let ctx = ws(port).with(&SUBPROTOCOL, "binary".into()).with(&MAX_FRAME, 20_000);
    let mut flow = ctx.resolve().await.expect("resolve").into_flow();
    assert_eq!(flow.fact(&NEGOTIATED_SUBPROTOCOL).as_deref(), Some("binary"));
    let mut hello = [0; 5];
    flow.read_exact(&mut hello).await.expect("read");
    assert_eq!(&hello, b"hello");
    let sent = bytes(N);
    flow.write_all(&sent).await.expect("write");
    // The server closes its side when it has sent all: a Close, and a clean end.
    assert!(read_to_end(&mut flow).await == sent, "the bytes differ");
    flow.shutdown().await.expect("shutdown");
    echo.await.expect("echo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_websockets_is_a_client_of_ours() {
    const SCRIPT: &str = r#"
import asyncio, os, websockets
async def main():
    async with websockets.connect("ws://127.0.0.1:PORT/", subprotocols=["binary"], max_size=None) as ws:
        assert ws.subprotocol == "binary"
        sent = os.urandom(200000)
        await ws.send(sent[:100000])
        await ws.send([sent[100000:150000], sent[150000:]])  # in fragments
        await (await ws.ping())
        got = b""
        while len(got) < len(sent):
            got += await ws.recv()
        assert got == sent
    assert ws.close_code == 1000, ws.close_code
    print("all is well")
asyncio.run(main())
"#;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port().to_string();
    let script = SCRIPT.replace("PORT", &port);
    let mut client = Peer::spawn(&mut peers::python("websockets", "python3-websockets", &script));
    let (stream, _) = listener.accept().await.expect("accept");
    let mut settings = Settings::default();
    settings.subprotocol = Some("binary".into());
    let ctx = Context::new().with(&LAYER, Arc::new(WsLayer::new(settings)));
    let mut flow = ctx.upgrade(Flow::from_tokio(stream), Role::Server).await.expect("handshake");
    let mut part = vec![0; 10_000];
    loop {
        match flow.read(&mut part).await {
            Ok(0) => break flow.shutdown().await.expect("shutdown"),
            Ok(n) => flow.write_all(&part[..n]).await.expect("write"),
            // What the client says shows why.
            Err(error) => break eprintln!("{error:?}"),
        }
    }
    tokio::task::spawn_blocking(move || {
        client.line("all is well");
        client.end().code(0);
    })
    .await
    .expect("the client");
}

/// The browser sends bytes, checks that they come back, and says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_is_a_client_of_ours() {
    const N: usize = 200_000;
    const PAGE: &str = r#"<script>
const ws = new WebSocket("ws://127.0.0.1:PORT/", ["binary"]);
ws.binaryType = "arraybuffer";
const sent = Uint8Array.from({length: 200000}, (_, at) => at * 7 + (at >> 8));
let came = 0, right = true;
ws.onopen = () => { ws.send(sent.slice(0, 1)); ws.send(sent.slice(1)); };
ws.onmessage = ({data}) => {
  for (const byte of new Uint8Array(data)) right &&= byte === sent[came++];
  if (came === sent.length) {
    ws.send(new TextEncoder().encode(right && ws.protocol === "binary" ? "right" : "wrong"));
    ws.close();
  }
};
</script>"#;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let place = Place::new();
    let port = listener.local_addr().expect("bound").port().to_string();
    std::fs::write(place.path("page.html"), PAGE.replace("PORT", &port)).expect("write");
    let mut command = peers::command("chromium", "chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    command.args(["--disable-component-update", "--disable-sync", "--remote-debugging-port=0"]);
    command.arg(format!("--user-data-dir={}", place.path("profile")));
    command.arg(format!("file://{}", place.path("page.html")));
    let browser = Peer::spawn(&mut command);
    let (stream, _) = listener.accept().await.expect("accept");
    let mut settings = Settings::default();
    settings.subprotocol = Some("binary".into());
    let ctx = Context::new().with(&LAYER, Arc::new(WsLayer::new(settings)));
    let mut flow = ctx.upgrade(Flow::from_tokio(stream), Role::Server).await.expect("handshake");
    let mut got = vec![0; N];
    flow.read_exact(&mut got).await.expect("read");
    flow.write_all(&got).await.expect("write");
    assert_eq!(read_to_end(&mut flow).await.escape_ascii().to_string(), "right");
    flow.shutdown().await.expect("shutdown");
    drop(browser);
}
