//! `tuyau connect`.

use std::io::IsTerminal;

use tuyau::{Context, Flow};

use crate::app::App;
use crate::exit::Failure;
use crate::relay::{AtEnd, Break, Relayed, is, relay};
use crate::route::typed;

pub(crate) async fn run(app: &App, uri: &str) -> Result<(), Failure> {
    let uri = typed(uri)?;
    let ctx = app.route.context(&uri, None)?;
    let resolved = uri.connect_in(&ctx).await.map_err(|error| app.failed_to_connect(error))?;
    app.show(&resolved.report());
    relay_stdio(stdio(&ctx).await?, resolved.into_flow()).await
}

/// The standard streams, which `base` can give out once. It must not offer anything else.
pub(crate) async fn stdio(base: &Context) -> Result<Flow, Failure> {
    Ok(typed("-")?.connect_in(base).await?.into_flow())
}

/// Joins the standard streams with `peer`.
pub(crate) async fn relay_stdio(stdio: Flow, peer: Flow) -> Result<(), Failure> {
    let at_end = if std::io::stdin().is_terminal() { AtEnd::Stop } else { AtEnd::SendOn };
    let (relayed, result) = relay(stdio, peer, at_end).await;
    let Relayed { sent, received } = relayed;
    tracing::debug!(sent, received, "the transfer has ended");
    match result {
        Ok(()) => Ok(()),
        Err(Break::NearWrite(error)) if is(&error, tuyau::FlowErrorKind::BrokenPipe) => {
            Err(Failure::OutputClosed)
        }
        Err(broken) => Err(Failure::Broken(broken.explain("standard input or output", "the peer", relayed))),
    }
}
