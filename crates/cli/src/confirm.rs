//! What is known of a connection only once it is there: that the other side does not want it, or is gone.

use std::time::Duration;

use tokio::time::timeout;
use tuyau::{ConnectError, ConnectErrorKind, Flow, FlowError, Report, Resolved, Uri};
use tuyau_tokio::EXIT_STATUS;

/// How long the other side has for a word, where it may refuse.
const PATIENCE: Duration = Duration::from_secs(1);

/// The report of what was connected, which is ended: of a failure, if that is what it turns out to be. A program
/// may have exited, and a server of TLS 1.3 that does not accept our certificate says so after the handshake.
pub(crate) async fn confirmed(uri: &Uri, mut resolved: Resolved) -> Report {
    let report = resolved.report();
    let refused = match may_refuse(uri, &resolved) {
        true => refusal(&mut resolved).await,
        false => None,
    };
    // A clean end, where there is one: a server should not see an error for this.
    let _ = resolved.shutdown().await;
    match refused {
        Some(error) => report.refuted(&error),
        None => report,
    }
}

fn may_refuse(uri: &Uri, flow: &Flow) -> bool {
    #[cfg(feature = "tls")]
    if flow.fact(&tuyau::tls::CERTIFICATE_REQUESTED) == Some(true) {
        return true;
    }
    #[cfg(not(feature = "tls"))]
    let _ = flow;
    let nearest = uri.hops().last().map_or(uri.scheme(), |hop| hop.scheme());
    // Whatever lies over a program has heard from it.
    uri.layers().next().is_none() && ["exec", "sh"].contains(&nearest.name)
}

async fn refusal(flow: &mut Flow) -> Option<ConnectError> {
    let heard = timeout(PATIENCE, flow.read(&mut [0])).await.ok()?;
    match (heard, flow.fact(&EXIT_STATUS)) {
        (Ok(0) | Err(_), Some(status)) => Some(
            ConnectError::new(ConnectErrorKind::Closed, format!("the program ended at once ({status})"))
                .with_hint("its standard error may say why: run it by itself"),
        ),
        (Err(error), None) => refused_by_tls(&error),
        _ => None,
    }
}

/// What a TLS server said, if it did.
#[cfg(feature = "tls")]
fn refused_by_tls(error: &FlowError) -> Option<ConnectError> {
    use std::error::Error;

    use tuyau::tls::TlsError;

    let why = error.source()?.downcast_ref::<TlsError>().filter(|why| **why != TlsError::Truncated)?;
    let refused = ConnectError::new(ConnectErrorKind::Authentication, "refused after the handshake")
        .with_source(why.clone());
    Some(match why.hint() {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    })
}

#[cfg(not(feature = "tls"))]
fn refused_by_tls(_: &FlowError) -> Option<ConnectError> {
    None
}
