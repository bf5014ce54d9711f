//! `tuyau listen`.

use std::error::Error;
use std::ffi::OsString;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tuyau::names::PEER;
use tuyau::{Accepted, Context, Flow, Listener, Target, Uri};
use tuyau_tokio::{Command, EXEC, Failure as ServeFailure, Served};

use super::connect::{relay_stdio, stdio};
use crate::app::App;
use crate::base;
use crate::cli::ServerTls;
use crate::exit::{Chain, Failure};
use crate::output::{Output, Visible};
use crate::refused::Refused;
use crate::relay::{Buffers, echo, relay_child};
use crate::route::to_listen;
use crate::signals::Signals;

/// How long connections may go on once a signal came; a second signal ends them at once.
const DRAIN: Duration = Duration::from_secs(1);

/// What each connection gets.
#[derive(Clone, Debug)]
pub(crate) enum Service {
    Echo,
    Exec(Vec<OsString>),
}

impl Service {
    /// `None` for the standard streams.
    pub(crate) fn of(echo: bool, exec: Option<Vec<OsString>>) -> Option<Self> {
        match exec {
            Some(argv) => Some(Self::Exec(argv)),
            None => echo.then_some(Self::Echo),
        }
    }

    async fn handle(&self, flow: Flow, out: Output) {
        let peer = peer(&flow);
        match self {
            Self::Echo => match echo(flow).await {
                Ok(bytes) => tracing::info!(%peer, bytes, "echoed"),
                Err(error) => out.error(format_args!("{peer}: {}", Chain(&error))),
            },
            Self::Exec(argv) => {
                let ctx = Context::new().with(&EXEC, Command::argv(argv).in_own_group()).offer(&EXEC);
                let child = match ctx.resolve().await {
                    Ok(child) => child.into_flow(),
                    Err(error) => return out.error(format_args!("{peer}: {error}")),
                };
                let (relayed, result) = relay_child(flow, child, &Buffers::default()).await;
                match result {
                    Ok(()) => tracing::info!(%peer, relayed.sent, relayed.received, "served"),
                    Err(broken) => out.error(broken.explain(&peer, "the program", relayed)),
                }
            }
        }
    }
}

/// Who is at the other end, as it may be shown.
pub(crate) fn peer(flow: &Flow) -> String {
    match flow.fact(&PEER) {
        Some(peer) => Visible(&peer.to_string()).to_string(),
        None => "somebody".into(),
    }
}

/// Serves the standard streams to the first who connects.
pub(crate) async fn one(app: &App, uri: &str, tls: &ServerTls) -> Result<(), Failure> {
    let uri = to_listen(uri, Some(tls))?;
    let ctx = base::context(&uri)?;
    let mut listener = listen(app, &uri, &ctx).await?;
    let flow = first(app, &mut listener).await?;
    // Who comes now is refused, and knows it.
    drop(listener);
    if app.verbose {
        app.out.tell(format_args!("connection from {}", peer(&flow)));
    }
    let from = peer(&flow);
    relay_stdio(stdio(&ctx).await?, flow, &from).await
}

/// Serves `service` to whoever connects.
pub(crate) async fn serve(
    app: &App,
    uri: &str,
    service: Service,
    once: bool,
    max: Option<u32>,
    tls: &ServerTls,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let uri = to_listen(uri, Some(tls))?;
    let out = app.out;
    let mut listener = listen(app, &uri, &base::context(&uri)?).await?;
    if once {
        let one = async {
            let flow = first(app, &mut listener).await?;
            drop(listener);
            service.handle(flow, out).await;
            Ok(())
        };
        return match signals.end(one).await {
            Err(Failure::Signal(_)) => Ok(()),
            ended => ended,
        };
    }
    let service = Arc::new(service);
    let verbose = app.verbose;
    let handler = move |flow: Flow| {
        let service = service.clone();
        async move {
            if verbose {
                out.tell(format_args!("connection from {}", peer(&flow)));
            }
            service.handle(flow, out).await;
        }
    };
    until_signal(app, listener, max, handler, signals).await
}

/// Listens on `uri`, and says where, a line for each address.
pub(crate) async fn listen(app: &App, uri: &Uri, ctx: &Context) -> Result<Listener, Failure> {
    let listener = uri.listen_in(ctx).await?;
    let local = listener.local();
    tracing::info!(%local, "listening");
    // The standard streams are where whoever started this knows them to be.
    if uri.scheme().name != "-" {
        for local in listener.locals() {
            app.out.tell(format_args!("listening on {}", shown(uri, &local)));
        }
    }
    Ok(listener)
}

/// The URI to connect to: with the port that the system chose.
fn shown(uri: &Uri, local: &Target) -> String {
    match local {
        Target::Addr(address) => format!("{}://{address}", stack(uri)),
        Target::Name { host, port } => format!("{}://{host}:{port}", stack(uri)),
        Target::Path(_) => Visible(&format!("{}:{local}", stack(uri))).to_string(),
        _ => Visible(&uri.to_string()).to_string(),
    }
}

/// The stack as it is written.
fn stack(uri: &Uri) -> String {
    let uri = uri.to_string();
    uri.split(':').next().unwrap_or_default().to_owned()
}

/// The first connection that is made.
async fn first(app: &App, listener: &mut Listener) -> Result<Flow, Failure> {
    use tuyau::AcceptErrorKind::Closed;
    let refused = Refused::new(app);
    loop {
        match listener.accept().await.map(Accepted::finish) {
            Ok(handshake) => match handshake.await {
                Ok(flow) => return Ok(flow),
                Err(error) => refused.tell(&error),
            },
            Err(error) if error.kind() == Closed => return Err(Failure::Failed(Chain(&error).to_string())),
            Err(error) => {
                tracing::warn!("{}", Chain(&error));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves until a signal comes; then what is under way may end, but not for long.
///
/// # Errors
/// If nothing more can come, because what is listened through is gone.
pub(crate) async fn until_signal<H, Fut>(
    app: &App,
    listener: Listener,
    max: Option<u32>,
    handler: H,
    signals: &mut Signals,
) -> Result<(), Failure>
where
    H: Fn(Flow) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (out, refused) = (app.out, Refused::new(app));
    let (stop, stopped) = oneshot::channel::<()>();
    let gone = Arc::new(OnceLock::new());
    let noted = gone.clone();
    let mut serve = tuyau::serve(listener, handler)
        .drain(DRAIN)
        .on_failure(move |failure| match failure {
            ServeFailure::Accept(error) if error.kind() == tuyau::AcceptErrorKind::Closed => {
                tracing::debug!("{}", Chain(&error));
                // What ends of itself has no cause.
                if error.source().is_some() {
                    noted.get_or_init(|| Chain(&error).to_string());
                }
            }
            ServeFailure::Accept(error) => out.error(Chain(&error)),
            ServeFailure::Handshake(error) => refused.tell(&error),
            _ => out.error("a connection ended by a bug of this program"),
        })
        .stop(async move {
            let _ = stopped.await;
        });
    if let Some(max) = max {
        serve = serve.max_connections(max as usize);
    }
    let mut serving = Box::pin(serve.into_future());
    let served = tokio::select! {
        served = &mut serving => served,
        signal = signals.next() => {
            tracing::info!(?signal, "stopping");
            drop(stop);
            tokio::select! {
                served = serving => served,
                _ = signals.next() => Served::default(),
            }
        }
    };
    tracing::info!(%served, "served");
    match gone.get() {
        Some(why) => Err(Failure::Broken(format!("nobody can connect any more: {why}"))),
        None => Ok(()),
    }
}
