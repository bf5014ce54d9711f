//! Servers and the contexts that reach them, over every transport.

use axum::Router;
use axum::body::Body;
use axum::extract::Extension;
use axum::routing::{any, get};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tuyau_core::names::{NEGOTIATED_ALPN, SECURITY, SERVER_NAME};
use tuyau_core::{
    Accepted, Ask, ConnectCx, Context, Flow, Listener, Net, Protection, RawFlow, Target, forward,
};
use tuyau_http::{Client, Connection, Report, Server, Versions};
use tuyau_testing::certs::Ca;
use tuyau_tls::{BACKEND, Backend, Identity, ROOTS, Roots, ServerSettings, TLS, TlsServer};
use tuyau_tokio::{Host, MEM, MEM_HUB, MEM_NAME, MemHub, TCP, UNIX, UNIX_PATH, derivations};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    Tcp,
    Unix,
    Mem,
}

/// What a server is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) below: Below,
    pub(crate) tls: Option<Backend>,
}

pub(crate) const BELOW: [Below; 3] = [Below::Tcp, Below::Unix, Below::Mem];

pub(crate) const MEMORY: Stack = Stack { below: Below::Mem, tls: None };

pub(crate) fn stacks() -> impl Iterator<Item = Stack> {
    let tls = [None, Some(Backend::Rustls), Some(Backend::OpenSsl)];
    BELOW.into_iter().flat_map(move |below| tls.into_iter().map(move |tls| Stack { below, tls }))
}

/// A listener, and the context that connects to it. `alpn` is what the server agrees to.
pub(crate) async fn reach(stack: Stack, alpn: &[&str]) -> (Listener, Context, u16) {
    let cx = ConnectCx::new(&Context::new()).unwrap();
    let host = Host::new();
    let mut port = 80;
    let ctx = derivations(Context::new());
    let (listener, ctx) = match stack.below {
        Below::Tcp => {
            let listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.unwrap();
            if let Target::Addr(address) = listener.local() {
                port = address.port();
            }
            (listener, ctx)
        }
        Below::Unix => {
            let target = tuyau_testing::abstract_target();
            (host.listen(&target, &cx).await.unwrap(), ctx.with(&UNIX_PATH, target))
        }
        Below::Mem => {
            let hub = MemHub::new();
            let listener = hub.listen("svc").unwrap();
            (listener, ctx.with(&MEM_HUB, hub).with(&MEM_NAME, "svc".into()))
        }
    };
    let Some(backend) = stack.tls else {
        let ctx = match stack.below {
            Below::Tcp => ctx.offer(&TCP),
            Below::Unix => ctx.offer(&UNIX),
            Below::Mem => ctx.offer(&MEM),
        };
        return (listener, ctx, port);
    };
    let ca = Ca::new("CA");
    let leaf = ca.leaf(&["svc.test"]);
    let alpn: Vec<Vec<u8>> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let settings =
        ServerSettings::new(Identity::pem(leaf.chain_pem(), leaf.key_pem())).backend(backend).alpn(&alpn);
    let server = TlsServer::new(settings).unwrap();
    let listener = listener.layered(server.layer(), &Context::new());
    let ctx = match stack.below {
        Below::Tcp => tuyau_tls::over(ctx, &TLS, &TCP),
        Below::Unix => tuyau_tls::over(ctx, &TLS, &UNIX),
        Below::Mem => tuyau_tls::over(ctx, &TLS, &MEM),
    };
    let ctx = ctx
        .with(&BACKEND, backend)
        .with(&ROOTS, Roots::Pem(ca.pem().into_bytes().into()))
        .with(&SERVER_NAME, "svc.test".into())
        .offer(&TLS);
    (listener, ctx, port)
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) ctx: Context,
    /// Without a path.
    pub(crate) url: String,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) report: JoinHandle<Report>,
}

pub(crate) async fn run(stack: Stack, version: Versions, server: Server<Router>) -> Running {
    let alpn = match version {
        Versions::Http1 => &["http/1.1"][..],
        Versions::Http2 => &["h2"],
        _ => &["h2", "http/1.1"],
    };
    let (listener, ctx, port) = reach(stack, alpn).await;
    let (stop, stopped) = oneshot::channel();
    let server = server
        .on_failure(|failure| println!("{failure:?}"))
        .listen_as("main", listener)
        .graceful(async { drop(stopped.await) });
    let report = tokio::spawn(server.serve());
    let scheme = if stack.tls.is_some() { "https" } else { "http" };
    Running { ctx, url: format!("{scheme}://127.0.0.1:{port}"), stop, report }
}

impl Running {
    pub(crate) fn client(&self) -> Client {
        Client::new(self.ctx.clone())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn end(self) -> Report {
        drop(self.stop);
        self.report.await.unwrap()
    }
}

/// What the tests ask for.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", any(|body: Body| async { body }))
        .route(
            "/length",
            any(|body: Body| async {
                body.collect()
                    .await
                    .map_or_else(|error| error.to_string(), |body| body.to_bytes().len().to_string())
            }),
        )
        .route("/large", get(|| async { vec![b'x'; 5_000_000] }))
        .route("/method", any(|method: http::Method| async move { method.to_string() }))
        .route(
            "/facts",
            get(|Extension(connection): Extension<Connection>, version: http::Version| async move {
                let alpn = String::from_utf8_lossy(connection.alpn().unwrap_or(b"none")).into_owned();
                format!("{version:?} {:?} {} {alpn}", connection.listener(), connection.security())
            }),
        )
}

/// A flow in memory that says that ALPN agreed on this.
pub(crate) struct Says {
    pub(crate) flow: Flow,
    pub(crate) alpn: &'static str,
    pub(crate) security: Protection,
}

impl RawFlow for Says {
    forward!(flow: read write itself lower unwrap);

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&NEGOTIATED_ALPN, || self.alpn.as_bytes().into()).answer(&SECURITY, || self.security);
    }
}

pub(crate) fn says(flow: Flow, alpn: &'static str) -> Flow {
    Flow::new(Says { flow, alpn, security: Protection::Clear })
}

/// The bytes that a flow gives until its end.
pub(crate) async fn rest(flow: &mut Flow) -> String {
    let mut all = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = flow.read(&mut bytes).await {
        all.extend_from_slice(&bytes[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A handshake that never ends.
pub(crate) fn hanging() -> Accepted {
    Accepted::Handshake(Box::pin(std::future::pending()))
}
