//! `tuyau connect`.

use std::io::IsTerminal;

use tuyau::names::{DEADLINE, POLICY};
use tuyau::{Context, Flow};

use crate::app::App;
use crate::cli::Connecting;
use crate::exit::Failure;
use crate::output::Visible;
use crate::relay::{AtEnd, Break, Buffers, Relayed, relay};
use crate::route::{Routed, route, typed, way};

pub(crate) async fn run(app: &App, uri: &str, connecting: &Connecting) -> Result<(), Failure> {
    let Routed { uri, ctx, .. } = route(uri, connecting, None)?;
    let resolved = uri.connect_in(&ctx).await.map_err(|error| app.failed_to_connect(error))?;
    app.show(&resolved.report());
    relay_stdio(stdio(&ctx).await?, resolved.into_flow(), &Visible(&way(&uri)).to_string()).await
}

/// The standard streams, which `base` can give out once. It must not offer anything else.
pub(crate) async fn stdio(base: &Context) -> Result<Flow, Failure> {
    let own = base.clone().without(&POLICY).without(&DEADLINE); // those are for the way to the peer
    Ok(typed("-")?.connect_in(&own).await?.into_flow())
}

/// Joins the standard streams with `peer`, who is `shown` so.
pub(crate) async fn relay_stdio(stdio: Flow, peer: Flow, shown: &str) -> Result<(), Failure> {
    let at_end = if std::io::stdin().is_terminal() { AtEnd::Stop } else { AtEnd::SendOn };
    let (mut stdio, mut peer) = (stdio, peer);
    let (relayed, result) = relay(&mut stdio, &mut peer, at_end, &Buffers::default()).await;
    let Relayed { sent, received } = relayed;
    tracing::debug!(sent, received, "the transfer has ended");
    match result {
        Ok(()) => Ok(()),
        Err(Break::NearWrite(error)) if error.kind() == tuyau::FlowErrorKind::BrokenPipe => {
            Err(Failure::OutputClosed)
        }
        Err(broken) => Err(Failure::Broken(broken.explain("standard input or output", shown, relayed))),
    }
}
