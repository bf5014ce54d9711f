//! TLS without knowing with whom: for tests, and for servers that can't be verified any better way.
//!
//! It protects from who only listens, and from nobody who can answer in the server's place. So it is
//! another endpoint key, declared [`Encrypted`](Protection::Encrypted) only: no setting of a context, nor of a
//! URI, turns [`TLS`](crate::TLS) into this, and where a context holds both, this one never follows where that
//! one has failed. Reports show it by its name, and the fact `SECURITY` says what it is.

use std::fmt;

use tuyau_core::{AnyEndpoint, ConnectCx, ConnectError, Context, Endpoint, Flow, Key, Protection, Protocol};

use crate::client::TlsClient;
use crate::config::Settings;
use crate::tls::{TlsEndpoint, bind, clients, upgrades_by};

/// TLS over what the endpoint dials, with anybody.
pub static UNVERIFIED_TLS: Endpoint<UnverifiedTls> =
    Endpoint::new("unverified-tls", &UnverifiedTls).protection(Protection::Encrypted);

/// Like [`CLIENT`](crate::CLIENT), for clients that verify nobody.
pub static UNVERIFIED_CLIENT: Key<TlsClient> = Key::new("unverified-tls-client");

/// The protocol of [`UNVERIFIED_TLS`].
#[derive(Clone, Copy, Debug)]
pub struct UnverifiedTls;

impl Protocol for UnverifiedTls {
    type Endpoint = TlsEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: TlsEndpoint, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        endpoint.open(cx).await
    }

    fn describe(&self, endpoint: &TlsEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{endpoint:?} (not verified)")
    }

    fn group(&self, endpoint: &TlsEndpoint) -> Option<u32> {
        endpoint.below.group()
    }
}

/// Like [`over`](crate::over), with anybody. [`ROOTS`](crate::ROOTS) is not read.
#[track_caller]
pub fn over_unverified(
    ctx: Context,
    layer: &'static Endpoint<UnverifiedTls>,
    below: &'static dyn AnyEndpoint,
) -> Context {
    bind(clients(ctx, &UNVERIFIED_CLIENT, false), layer, below, &UNVERIFIED_CLIENT)
}

/// Like [`upgrades`](crate::upgrades), with anybody.
#[track_caller]
pub fn upgrades_unverified(ctx: Context) -> Context {
    upgrades_by(clients(ctx, &UNVERIFIED_CLIENT, false), &UNVERIFIED_CLIENT)
}

/// Like [`TlsClient::new`], with anybody. The roots of `settings` are not read.
///
/// # Errors
/// As [`TlsClient::new`].
pub fn unverified_client(settings: Settings) -> Result<TlsClient, ConnectError> {
    TlsClient::make(settings, false)
}
