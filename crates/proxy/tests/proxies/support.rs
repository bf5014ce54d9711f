//! What these tests share.

use std::error::Error;

use tuyau_core::names::{HOST, NET, PORT};
use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Hop, Listener, Net, Target};
use tuyau_proxy::{HttpConnectServer, Socks5Server};
use tuyau_tokio::{Host, TCP, derivations, duplex, serve};

/// By TCP to a port of this machine.
pub(crate) fn local(port: u16) -> Context {
    at("127.0.0.1", port)
}

/// By TCP to `host`.
pub(crate) fn at(host: &str, port: u16) -> Context {
    to(derivations(Context::new()).offer(&TCP), host, port)
}

/// `ctx`, but for another target.
pub(crate) fn to(ctx: Context, host: &str, port: u16) -> Context {
    ctx.with(&HOST, host.into()).with(&PORT, port)
}

/// A context whose proxy is `play`, in memory.
pub(crate) fn played<F>(play: impl Fn(Flow) -> F + Send + Sync + 'static) -> Context
where
    F: Future<Output = ()> + Send + 'static,
{
    derivations(Context::from_fn(move || {
        let (ours, theirs) = duplex();
        tokio::spawn(play(theirs));
        async { Ok(ours) }
    }))
}

/// A proxy that expects each of these, and answers with the other; then it hangs up.
pub(crate) fn script(steps: &[(&'static [u8], &'static [u8])]) -> Context {
    let steps = steps.to_vec();
    played(move |flow| play(flow, steps.clone()))
}

async fn play(mut flow: Flow, steps: Vec<(&'static [u8], &'static [u8])>) {
    for (expected, answer) in steps {
        let mut got = vec![0; expected.len()];
        flow.read_exact(&mut got).await.expect("the client says more");
        assert_eq!(got.escape_ascii().to_string(), expected.escape_ascii().to_string());
        flow.write_all(answer).await.expect("the client reads");
    }
    // What the client sends beyond is read, so that it gets our answer.
    flow.shutdown().await.expect("the client reads");
    while flow.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
}

/// What a hop over `ctx` connects `target` to.
pub(crate) async fn through(ctx: &Context, hop: impl Hop, target: &Target) -> Result<Flow, ConnectError> {
    let net = Box::new(hop).over(ctx.clone());
    net.connect(target, &ConnectCx::new(ctx).expect("a context")).await
}

/// An error with its causes, and what to do.
pub(crate) fn text(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    format!("{text}\nwhat to do: {}", error.hint().unwrap_or("nothing"))
}

/// On a port of 127.0.0.1.
pub(crate) async fn listening() -> (Listener, u16) {
    let cx = ConnectCx::new(&Context::new()).expect("a context");
    let any = Target::Addr(([127, 0, 0, 1], 0).into());
    let listener = Host::new().listen(&any, &cx).await.expect("listen");
    match listener.local() {
        Target::Addr(local) => (listener, local.port()),
        other => panic!("{other}"),
    }
}

/// Sends back what comes in.
pub(crate) async fn echo(mut flow: Flow) {
    let mut some = [0; 4096];
    while let Ok(n @ 1..) = flow.read(&mut some).await {
        if flow.write_all(&some[..n]).await.is_err() {
            return;
        }
    }
    let _ = flow.shutdown().await;
}

/// Something that listens and echoes, on a port of 127.0.0.1.
pub(crate) async fn echoing() -> u16 {
    let (listener, port) = listening().await;
    tokio::spawn(serve(listener, echo).into_future());
    port
}

/// A server that this crate has to embed.
pub(crate) trait Embedded: Clone + Send + Sync + 'static {
    fn serve(self, client: Flow) -> impl Future<Output = Result<(u64, u64), ConnectError>> + Send;
}

impl Embedded for Socks5Server {
    async fn serve(self, client: Flow) -> Result<(u64, u64), ConnectError> {
        Self::serve(&self, client).await
    }
}

impl Embedded for HttpConnectServer {
    async fn serve(self, client: Flow) -> Result<(u64, u64), ConnectError> {
        Self::serve(&self, client).await
    }
}

/// An embedded server, on a port of 127.0.0.1.
pub(crate) async fn embedded(server: impl Embedded) -> u16 {
    let (listener, port) = listening().await;
    let handler = move |flow| {
        let server = server.clone();
        async move { drop(server.serve(flow).await) }
    };
    tokio::spawn(serve(listener, handler).into_future());
    port
}

/// What `server` answers to these bytes until it hangs up, and what it tells its program.
pub(crate) async fn answers(server: impl Embedded, says: &[u8]) -> (String, ConnectErrorKind, String) {
    let (mut client, theirs) = duplex();
    let serving = tokio::spawn(server.serve(theirs));
    client.write_all(says).await.expect("it reads");
    client.shutdown().await.expect("it reads");
    let got = all(&mut client).await;
    let error = serving.await.expect("no panic").expect_err("it was refused");
    (got.escape_ascii().to_string(), error.kind(), text(&error))
}

/// What comes until the end, or a reset.
pub(crate) async fn all(flow: &mut Flow) -> Vec<u8> {
    let (mut got, mut some) = (Vec::new(), [0; 64]);
    while let Ok(n @ 1..) = flow.read(&mut some).await {
        got.extend_from_slice(&some[..n]);
    }
    got
}

/// Answers one request.
pub(crate) async fn web(mut flow: Flow) {
    let mut request = Vec::new();
    let mut some = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        match flow.read(&mut some).await {
            Ok(n @ 1..) => request.extend_from_slice(&some[..n]),
            _ => return,
        }
    }
    let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n";
    flow.write_all(answer).await.expect("write");
    flow.shutdown().await.expect("shutdown");
}

/// That `flow` reaches somebody who echoes.
pub(crate) async fn assert_echoes(flow: &mut Flow) {
    flow.write_all(b"ping").await.expect("write");
    let mut got = [0; 4];
    flow.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"ping");
}

/// The net of a context.
pub(crate) async fn net(ctx: &Context) -> tuyau_core::SharedNet {
    ctx.get(&NET).await.expect("bound").expect("a net")
}
