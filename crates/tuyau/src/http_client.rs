//! How an HTTP client connects: what URIs say, for the hosts that URLs name.

use tuyau_core::ConnectCx;
use tuyau_core::names::{HOST, PORT};
use tuyau_http::{Scheme, Stacks};

use crate::{Uri, UriError};

/// For the [`STACKS`](tuyau_http::STACKS) of an HTTP client: it connects by `clear` for `http` URLs and by `tls` for
/// `https` ones, with their stacks, hops and options, but to the host and port of the URL. Where a URI has no host
/// (`unix:`, `exec:`, …), that is where all requests go.
///
/// A client connects nothing for `https` that is not encrypted from end to end, whatever `tls` is.
///
/// ```no_run
/// use tuyau::http::{Client, STACKS};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let stacks = tuyau::http_stacks(tuyau::uri("tcp://localhost")?, tuyau::uri("tls://localhost")?)?;
/// let client = Client::new(tuyau::context().with(&STACKS, stacks));
/// let page = client.get("https://example.org/").send().await?.into_body().text().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// If one of the URIs can't be connected to: see [`Uri::apply`].
pub fn http_stacks(clear: Uri, tls: Uri) -> Result<Stacks, UriError> {
    for uri in [&clear, &tls] {
        uri.apply(crate::context())?;
    }
    Ok(Stacks::new(move |scheme, ctx| {
        let uri = match scheme {
            Scheme::Http => &clear,
            Scheme::Https => &tls,
        };
        // What the URL says goes over what the URI does.
        let said = ConnectCx::new(&ctx).and_then(|cx| Ok((cx.get(&HOST)?, cx.get(&PORT)?)));
        // It was applied before: what depends on the context alone is said when connecting.
        let Ok(applied) = uri.apply(ctx.clone()) else { return ctx };
        match said {
            Ok((Some(host), Some(port))) => applied.with(&HOST, host).with(&PORT, port),
            _ => applied,
        }
    }))
}
