//! `tuyau bridge`.

use std::io;

use tuyau::{Context, Flow, Uri};

use super::listen::{listen, peer, until_signal};
use crate::app::App;
use crate::base;
use crate::cli::Connecting;
use crate::exit::{Failure, in_a_line};
use crate::output::{Output, Visible, wrapped};
use crate::relay::{AtEnd, Buffers, relay, reset};
use crate::route::{Routed, route_from, to_listen, way};
use crate::signals::Signals;
use crate::told;
use crate::via::parse_all;

/// What the two ends are.
pub(crate) struct Ends<'a> {
    pub(crate) listen: &'a str,
    /// What is gone through to listen.
    pub(crate) listen_via: &'a [String],
    pub(crate) connect: &'a str,
}

pub(crate) async fn run(
    app: &App,
    ends: Ends<'_>,
    connecting: &Connecting,
    max: u32,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut near = to_listen(ends.listen, None)?;
    let Routed { uri: far, ctx, .. } = route_from(Some(&mut near), ends.connect, connecting, None)?;
    let hops =
        parse_all(ends.listen_via).map_err(|error| Failure::Usage(format!("--listen-via: {error}")))?;
    let near = hops.into_iter().fold(near, Uri::via);
    far.require_port(&ctx).await?;
    let there = There { ctx: far.apply(ctx)?, shown: Visible(&way(&far)).to_string() };
    raise_open_files();
    // What is gone through to listen is connected first.
    let listener = signals.end(listen(app, &near, &base::context(&near)?)).await?;
    let there = std::sync::Arc::new(there);
    let (out, verbose, buffers) = (app.out, app.verbose, Buffers::default());
    let handler = move |flow: Flow| {
        let (there, buffers) = (there.clone(), buffers.clone());
        async move { there.carry(flow, &buffers, out, verbose).await }
    };
    until_signal(app, listener, Some(max), handler, signals).await
}

/// Where connections go.
struct There {
    ctx: Context,
    shown: String,
}

impl There {
    async fn carry(&self, mut near: Flow, buffers: &Buffers, out: Output, verbose: bool) {
        let from = peer(&near);
        // Boxed, and gone before the relaying begins: an idle connection keeps nothing of it.
        #[cfg(feature = "proxy-protocol")]
        let ctx = tuyau::on_behalf_of(self.ctx.clone(), &near);
        #[cfg(not(feature = "proxy-protocol"))]
        let ctx = self.ctx.clone();
        let dialled = Box::pin(self.dial(ctx, &from, out, verbose)).await;
        let Some(mut far) = dialled else { return reset(near).await };
        let (relayed, result) = relay(&mut near, &mut far, AtEnd::SendOn, buffers).await;
        match result {
            Ok(()) => tracing::info!(%from, relayed.sent, relayed.received, "relayed"),
            Err(broken) => {
                out.error(format_args!("{from}: {}", broken.explain("it", &self.shown, relayed)));
                // Boxed, as it would be room in the task of each connection.
                Box::pin(async { tokio::join!(reset(near), reset(far)) }).await;
            }
        }
    }

    async fn dial(&self, ctx: Context, from: &str, out: Output, verbose: bool) -> Option<Flow> {
        match ctx.resolve().await {
            Ok(resolved) => {
                if verbose {
                    let report = told::report(resolved.report());
                    out.tell(format_args!("{from}: {}", wrapped(&report, &io::stderr())));
                }
                Some(resolved.into_flow())
            }
            Err(error) => {
                if verbose {
                    let report = told::report(error.report());
                    out.tell(format_args!("{from}: {}", wrapped(&report, &io::stderr())));
                }
                out.error(format_args!("{from}: {}: {}", self.shown, in_a_line(&error)));
                None
            }
        }
    }
}

/// Each connection takes two descriptors, and the usual limit is 1,024, for the sake of programs that `select`.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // As many as we may; with less it works, too.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
