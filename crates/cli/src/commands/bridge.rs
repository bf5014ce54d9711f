//! `tuyau bridge`.

use tuyau::{Context, Flow};

use super::listen::{listen, peer, until_signal};
use crate::app::App;
use crate::cli::Connecting;
use crate::exit::{Failure, in_a_line};
use crate::output::{Output, Visible};
use crate::relay::{AtEnd, Buffers, relay, reset};
use crate::route::{Routed, route_from, to_listen};
use crate::signals::Signals;

pub(crate) async fn run(
    app: &App,
    listen_on: &str,
    connect_to: &str,
    connecting: &Connecting,
    max: u32,
    signals: &mut Signals,
) -> Result<(), Failure> {
    let mut near = to_listen(listen_on, None)?;
    let Routed { uri: far, ctx } = route_from(Some(&mut near), connect_to, connecting, None)?;
    far.require_port(&ctx).await?;
    let there = There { ctx: far.apply(ctx)?, shown: Visible(&far.to_string()).to_string() };
    raise_open_files();
    let listener = listen(app, &near, &tuyau::context()).await?;
    let there = std::sync::Arc::new(there);
    let (out, verbose, buffers) = (app.out, app.verbose, Buffers::default());
    let handler = move |flow: Flow| {
        let (there, buffers) = (there.clone(), buffers.clone());
        async move { there.carry(flow, &buffers, out, verbose).await }
    };
    until_signal(app, listener, Some(max), handler, signals).await;
    Ok(())
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
        let dialled = Box::pin(self.dial(&from, out, verbose)).await;
        let Some(mut far) = dialled else { return reset(near) };
        let (relayed, result) = relay(&mut near, &mut far, AtEnd::SendOn, buffers).await;
        match result {
            Ok(()) => tracing::info!(%from, relayed.sent, relayed.received, "relayed"),
            Err(broken) => {
                reset(near);
                reset(far);
                out.error(format_args!("{from}: {}", broken.explain("it", &self.shown, relayed)));
            }
        }
    }

    async fn dial(&self, from: &str, out: Output, verbose: bool) -> Option<Flow> {
        match self.ctx.resolve().await {
            Ok(resolved) => {
                if verbose {
                    let report = resolved.report().without_places();
                    out.tell(format_args!("{from}: {}", report.to_string().trim_end()));
                }
                Some(resolved.into_flow())
            }
            Err(error) => {
                if verbose {
                    out.tell(format_args!(
                        "{from}: {}",
                        error.report().without_places().to_string().trim_end()
                    ));
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
