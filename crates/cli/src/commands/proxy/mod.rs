//! `tuyau proxy`.

mod onward;
mod users;

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{timeout, timeout_at};
use tower::{Service, service_fn};
use tuyau::Listener;
use tuyau::http::proxy::{Forward, Reverse, Tunnel, Tunnels};
use tuyau::http::{BoxError, Error, Incoming, Limits, Server, Stage};

use crate::access::{Asked, End, Entry, Logged, Told, Unanswered, log_refused};
use crate::app::App;
use crate::cli::{Connecting, ServerTls};
use crate::commands::serve::{has_tls, listeners, serve};
use crate::exit::{Failure, joined};
use crate::output::{Count, Output, Visible};
use crate::route::typed;
use crate::signals::Signals;
use crate::web::said;
use onward::{anywhere, onward, refuse_itself};
use users::Secret;

/// What is passed on, and where.
#[derive(Args, Debug)]
pub(crate) struct ProxyArgs {
    /// Listen on URI; may be given several times. By default tcp://localhost:3128, or with --to port 8080;
    /// with a certificate tls://localhost:8443
    #[arg(long, value_name = "URI")]
    listen: Vec<String>,
    /// Be a reverse proxy for the server at URI: http://HOST:PORT, https://HOST, unix:PATH, tls+unix:PATH, …
    #[arg(long, value_name = "URI")]
    to: Option<String>,
    /// Ask the server for NAME, in place of the host that clients ask for
    #[arg(long, value_name = "NAME", requires = "to")]
    host: Option<Authority>,
    /// Believe what clients say in Forwarded and X-Forwarded-*, and add to it: they are proxies of yours
    #[arg(long, requires = "to")]
    trust_forwarded: bool,
    /// Speak HTTP/1.1 only to the server
    #[arg(long = "http1.1", requires = "to", conflicts_with = "http2")]
    http1: bool,
    /// Speak HTTP/2 only to the server, without TLS by prior knowledge; but upgrades are HTTP/1.1's
    #[arg(long = "http2", requires = "to")]
    http2: bool,
    /// Let in only who has a user name and password of FILE: a line USER:PASSWORD for each, not
    /// hashed
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    user_file: Option<PathBuf>,
    /// Let in only this user, or those of the other options. Other users of this machine can see it: better
    /// is --user-file
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "to")]
    auth: Vec<Secret>,
    /// How long either side may be silent where something is waited for
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = crate::cli::seconds)]
    idle: Duration,
    /// At most so many tunnels at a time (CONNECT, WebSocket); more are refused
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u32).range(1..))]
    max_tunnels: u32,
    /// Close tunnels in which nothing moved for so long
    #[arg(long, value_name = "SECS", default_value = "3600", value_parser = crate::cli::seconds)]
    tunnel_idle: Duration,
    /// Log no requests, but what fails
    #[arg(short, long)]
    quiet: bool,
    /// How long what is under way at the end may take
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = crate::cli::seconds)]
    drain: Duration,
    /// Show clients the certificate in FILE (PEM), with its chain
    #[arg(long, value_name = "FILE", help_heading = "TLS with clients")]
    tls_cert: Option<String>,
    /// The private key of that certificate (PEM), if it is not in the same file
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS with clients")]
    tls_key: Option<String>,
    /// Clients must show a certificate of the authorities in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "TLS with clients")]
    client_ca: Option<String>,
    #[command(flatten)]
    connecting: Connecting,
}

pub(crate) async fn run(app: &App, args: &ProxyArgs, signals: &mut Signals) -> Result<(), Failure> {
    let ProxyArgs {
        listen,
        to,
        host,
        trust_forwarded,
        http1,
        http2,
        user_file,
        auth,
        idle,
        max_tunnels,
        tunnel_idle,
        quiet,
        drain,
        tls_cert,
        tls_key,
        client_ca,
        connecting,
    } = args;
    let users = users::of(user_file.as_deref(), auth)?;
    let beyond = match to {
        Some(to) => onward(app, to, connecting, (*http1, *http2), *idle)?,
        None => anywhere(app, connecting, *idle)?,
    };
    let tls_is_spoken = || listen.iter().any(|uri| typed(uri).is_ok_and(|uri| has_tls(&uri)));
    if tls_cert.is_some() && !listen.is_empty() && !tls_is_spoken() {
        return Err(Failure::Usage("--tls-cert has no use: nothing that is listened on has TLS".into()));
    }
    let tls = ServerTls {
        tls: None,
        cert: tls_cert.clone(),
        key: tls_key.clone(),
        client_ca: client_ca.clone(),
        alpn: None,
    };
    let clear = if to.is_some() { "tcp://localhost:8080" } else { "tcp://localhost:3128" };
    let listeners = listeners(app, listen, clear, "tls://localhost:8443", &tls).await?;
    for local in listeners.iter().flat_map(Listener::locals) {
        refuse_itself(&beyond.first, &local)?;
    }
    let (logging, mut logged) = mpsc::channel(1);
    let log = Log { out: app.out, requests: !quiet, asked: Asked::Url, users: None, logging };
    let (ended, tunnels) = match beyond.server {
        None => {
            let proxy = Forward::new(beyond.client).limit_tunnels(*max_tunnels, *tunnel_idle);
            let proxy = users.iter().fold(proxy, |proxy, (user, password)| proxy.user(user, password));
            let tunnels = proxy.tunnels();
            let log = Log { users: Some(proxy.clone()), ..log };
            (pass(app, log, proxy, listeners, *idle, *drain, signals).await, tunnels)
        }
        Some(server) => {
            let proxy = Reverse::new(beyond.client, server).believe(*trust_forwarded);
            let proxy = host.iter().fold(proxy, Reverse::host).limit_tunnels(*max_tunnels, *tunnel_idle);
            let tunnels = proxy.tunnels();
            let log = Log { asked: Asked::Path, ..log };
            (pass(app, log, proxy, listeners, *idle, *drain, signals).await, tunnels)
        }
    };
    let result = match ended {
        Ok(ended) => {
            let end = async {
                tunnels.ended().await;
                all_said(&mut logged).await;
            };
            tokio::select! {
                _ = timeout_at(ended + *drain, end) => Ok(()),
                signal = signals.next() => Err(Failure::Signal(signal)),
            }
        }
        Err(failure) => Err(failure),
    };
    cut_off(app, &tunnels, &mut logged).await;
    result
}

/// Until nobody has anything to say of tunnels any more.
async fn all_said(logged: &mut mpsc::Receiver<Infallible>) {
    while logged.recv().await.is_some() {}
}

/// Ends what tunnels there are, and waits for what is to be said of them.
async fn cut_off(app: &App, tunnels: &Tunnels, logged: &mut mpsc::Receiver<Infallible>) {
    if let count @ 1.. = tunnels.count() {
        tunnels.cut_off();
        let _ = timeout(LAST_LINES, all_said(logged)).await;
        app.out.tell(format_args!("{} cut off", Count(count as u64, "tunnel")));
    }
}

/// How long that may take at most, which takes no time but what the machine needs.
const LAST_LINES: Duration = Duration::from_secs(1);

async fn pass<S, B>(
    app: &App,
    log: Log,
    proxy: S,
    listeners: Vec<tuyau::Listener>,
    idle: Duration,
    drain: Duration,
    signals: &mut Signals,
) -> Result<tokio::time::Instant, Failure>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut limits = Limits::default();
    limits.body_idle = idle;
    let out = log.requests.then_some(log.out);
    let server = log_refused(Server::new(log.of(proxy)).limits(limits).drain(drain), out);
    serve(app, listeners.into_iter().fold(server, Server::listen), signals).await
}

/// The flag that set what a request failed for.
fn flag_of(error: &Error, status: StatusCode) -> &'static str {
    match error.stage() {
        Stage::Send | Stage::Wait if error.is_timeout() => " (--idle)",
        Stage::Connect if status == StatusCode::SERVICE_UNAVAILABLE => " (--max-tunnels)",
        _ => "",
    }
}

/// Says what was passed on.
#[derive(Clone)]
struct Log {
    out: Output,
    requests: bool,
    asked: Asked,
    /// Who knows its users.
    users: Option<Forward>,
    /// Gone once all is said.
    logging: mpsc::Sender<Infallible>,
}

impl Log {
    /// The proxy, whose requests are logged, and its failures in any case.
    fn of<S, B>(
        self,
        proxy: S,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Logged>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Logged>, Infallible>> + Send,
    > + Clone
    + Send
    + 'static
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        service_fn(move |request: Request<Incoming>| {
            let log = self.clone();
            let unanswered = Unanswered::new(match log.requests {
                true => {
                    let user = log.users.as_ref().and_then(|proxy| proxy.user_of(request.headers()));
                    Told::Entry(Entry::of(&request, log.asked, log.out).by(user))
                }
                false => Told::failure_of(&request, log.asked, log.out),
            });
            let answering = proxy.clone().call(request);
            async move {
                let mut response = answering.await?;
                let status = response.status();
                if let Some(error) = response.extensions_mut().remove::<Error>() {
                    log.out.error(format_args!(
                        "{}{}",
                        Visible(&joined(&said(&error))),
                        flag_of(&error, status)
                    ));
                }
                let tunnel = response.extensions_mut().remove::<Tunnel>();
                let told = match (tunnel, unanswered.answered()) {
                    // It is a line once it has ended.
                    (Some(mut tunnel), Some(Told::Entry(entry))) => {
                        tokio::spawn(async move {
                            let carried = tunnel.ended().await;
                            entry.print(status, carried.received, &End::of_tunnel(carried.cut));
                            drop(log.logging);
                        });
                        None
                    }
                    (_, told) => told,
                };
                Ok(Logged::response(response, told))
            }
        })
    }
}
