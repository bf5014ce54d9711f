//! `tuyau serve`.

mod files;
mod listing;
mod site;
mod unwanted;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tuyau::http::{Failure as ServeFailure, Server};
use tuyau::{AcceptErrorKind, Uri};

use crate::access::log_refused;
use crate::app::App;
use crate::cli::ServerTls;
use crate::commands::listen::listen;
use crate::exit::{Chain, Failure};
use crate::output::Visible;
use crate::refused::Refused;
use crate::route::to_listen;
use crate::signals::Signals;
use files::Files;
use site::Site;

/// Where files are served.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// The directory
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Listen on URI; may be given several times. By default tcp://localhost:8080, or with a certificate
    /// tls://localhost:8443
    #[arg(long, value_name = "URI")]
    listen: Vec<String>,
    /// Serve files too whose names begin with a dot
    #[arg(long)]
    dotfiles: bool,
    /// Show no listing of directories that have no index.html
    #[arg(long)]
    no_listing: bool,
    /// Log no requests, but what fails
    #[arg(short, long)]
    quiet: bool,
    /// How long responses that are under way at the end may take
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = crate::cli::seconds)]
    drain: Duration,
    #[command(flatten)]
    tls: ServerTls,
}

pub(crate) async fn run(app: &App, args: &ServeArgs, signals: &mut Signals) -> Result<(), Failure> {
    let ServeArgs { dir, listen, dotfiles, no_listing, quiet, drain, tls } = args;
    let files = Files::new(dir, *dotfiles)
        .map_err(|error| Failure::Failed(format!("the directory {}: {error}", dir.display())))?;
    let site = Arc::new(Site::new(files, !no_listing));
    let log = (!quiet).then_some(app.out);
    let mut server = log_refused(Server::new(site::service(site, app.out, *quiet)).drain(*drain), log);
    for listener in listeners(app, listen, "tcp://localhost:8080", "tls://localhost:8443", tls).await? {
        server = server.listen(listener);
    }
    serve(app, server, signals).await.map(drop)
}

/// What is listened on for HTTP: on each of the URIs, or by default on what depends on whether there is a certificate.
pub(crate) async fn listeners(
    app: &App,
    uris: &[String],
    clear: &str,
    secure: &str,
    tls: &ServerTls,
) -> Result<Vec<tuyau::Listener>, Failure> {
    let default = [if tls.cert.is_some() { secure } else { clear }.to_owned()];
    let uris = if uris.is_empty() { &default } else { uris };
    let with_tls = |uri: &&String| crate::route::typed(uri).is_ok_and(|uri| has_tls(&uri));
    let any = uris.iter().any(|uri| with_tls(&uri));
    let mut listeners = Vec::new();
    for uri in uris {
        // What is for those with TLS is for all of them; if there is none it is for none, which is an error.
        let uri = to_listen(uri, (with_tls(&uri) || !any).then_some(tls))?;
        let uri = with_alpn(uri)?;
        listeners.push(listen(app, &uri, &tuyau::context()).await?);
    }
    Ok(listeners)
}

pub(crate) fn has_tls(uri: &Uri) -> bool {
    uri.layers().any(|layer| layer.name == "tls")
}

/// Unless it says what to speak, both.
fn with_alpn(uri: Uri) -> Result<Uri, Failure> {
    match uri.listen_option_spellings("alpn").as_slice() {
        [spelt] => Ok(uri.clone().with_option(spelt, "h2,http/1.1").unwrap_or(uri)),
        _ => Ok(uri),
    }
}

/// Serves until a signal comes, and what is under way to its end; a second signal ends that, too. When the first came.
/// What was served is told in either case.
pub(crate) async fn serve<S, B>(
    app: &App,
    server: Server<S>,
    signals: &mut Signals,
) -> Result<Instant, Failure>
where
    S: tower::Service<http::Request<tuyau::http::Incoming>, Response = http::Response<B>>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    S::Error: Into<tuyau::http::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tuyau::http::BoxError>,
{
    let out = app.out;
    let (verbose, refused) = (app.verbose, Refused::new(app));
    let (stop, stopped) = oneshot::channel::<()>();
    let (abort, aborted) = oneshot::channel::<()>();
    let serving = server
        .graceful(async move { drop(stopped.await) })
        .abort(async move { drop(aborted.await) })
        .on_failure(move |failure| match failure {
            ServeFailure::Accept(tuyau_tokio::Failure::Accept(error))
                if error.kind() != AcceptErrorKind::Closed =>
            {
                out.error(Chain(&error));
            }
            ServeFailure::Accept(tuyau_tokio::Failure::Handshake(error)) => refused.tell(&error),
            ServeFailure::Connection { peer, error } if verbose => {
                let peer = peer.map_or_else(|| "somebody".into(), |peer| peer.to_string());
                out.error(format_args!("{}: {}", Visible(&peer), Chain(&error)));
            }
            _ => {}
        })
        .serve();
    let mut serving = Box::pin(serving);
    let (report, ended) = tokio::select! {
        report = &mut serving => (report, Ok(Instant::now())),
        _ = signals.next() => {
            let ended = Instant::now();
            drop(stop);
            tokio::select! {
                report = &mut serving => (report, Ok(ended)),
                signal = signals.next() => {
                    drop(abort);
                    (serving.await, Err(Failure::Signal(signal)))
                }
            }
        }
    };
    out.tell(format_args!("served: {report}"));
    ended
}
