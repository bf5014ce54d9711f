//! The handshake, and what becomes of one that fails.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tuyau_core::names::PEER;
use tuyau_core::{ConnectCx, ConnectError, Flow, FlowError, FlowErrorKind, Protection, Role, Target};

use crate::backend::Engine;
use crate::error::{About, TlsError, harmless};
use crate::flow::TlsFlow;
use crate::lower::Lower;

/// How much of what a refused peer still sends is read, so that it gets to see why.
const LAST_WORDS: usize = 64 * 1024;

/// What the handshake is to give.
pub(crate) struct Wanted {
    pub(crate) role: Role,
    /// The server name that a client asks for.
    pub(crate) server_name: Option<Arc<str>>,
    pub(crate) about: About,
    /// Whether a peer that shows a certificate was verified.
    pub(crate) verifies: bool,
}

/// Does the handshake over `flow`. Dropping the future closes it.
pub(crate) async fn handshake<E: Engine>(
    mut engine: E,
    flow: Flow,
    wanted: Wanted,
    cx: &ConnectCx<'_>,
) -> Result<Flow, ConnectError> {
    let Wanted { role, server_name, about, verifies } = wanted;
    // Whoever has hung up has no address any more.
    let peer = flow.fact(&PEER);
    let mut lower = Lower::new(flow);
    // Whoever upgrades a flow has nobody else to keep the deadline; whoever connects learns what was waited for.
    let clock = cx.runtime().zip(cx.deadline());
    let mut timer = clock.map(|(runtime, deadline)| runtime.sleep_until(deadline));
    let outcome = poll_fn(|task| {
        if let Poll::Ready(outcome) = drive(&mut engine, &mut lower, task) {
            return Poll::Ready(outcome);
        }
        let is_late = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(task).is_ready())
            || clock.is_some_and(|(runtime, deadline)| deadline <= runtime.now());
        match is_late {
            true => Poll::Ready(Err(Failed::Tls(TlsError::Silent { silent: lower.head().is_empty() }))),
            false => Poll::Pending,
        }
    })
    .await;
    let what = || describe(role, server_name.as_deref(), peer.as_ref());
    match outcome {
        Ok(()) => {}
        Err(Failed::Flow(error)) => {
            let error = ConnectError::from(error);
            return Err(ConnectError::new(error.kind(), what()).with_source(error));
        }
        Err(Failed::Tls(error)) => {
            let error = if is_for_want_of_a_certificate(&error, role, &about, lower.head()) {
                TlsError::ClientCertificateRequired
            } else {
                error
            };
            return Err(error.into_connect(what()));
        }
    }
    let agreed = engine.agreed();
    if let Some(alpn) = &agreed.alpn
        && !about.alpn.iter().any(|offered| **offered == **alpn)
    {
        let why = format!("the peer chose a protocol that was not offered: {}", harmless(alpn));
        return Err(TlsError::Protocol { why }.into_connect(what()));
    }
    let security = match verifies && agreed.peer.is_some() {
        true => Protection::Authenticated,
        false => Protection::Encrypted,
    };
    Ok(Flow::new(TlsFlow::new(engine, lower, agreed, server_name, security)))
}

/// Whether a server refused a client that showed no certificate. Before TLS 1.3 there is no alert for that; but one
/// that had agreed on all else, and said so first, has no other reason.
fn is_for_want_of_a_certificate(error: &TlsError, role: Role, about: &About, head: &[u8]) -> bool {
    const HANDSHAKE: u8 = 22; // RFC 8446 section 5.1
    let refused = |name: &str| matches!(error, TlsError::Alert { name: it } if it == name);
    role == Role::Client
        && !about.has_identity
        && head.first() == Some(&HANDSHAKE)
        && (refused("handshake failure") || refused("bad certificate"))
}

enum Failed {
    Tls(TlsError),
    Flow(FlowError),
}

/// Goes on until the handshake is done, and what it says is sent.
fn drive<E: Engine>(engine: &mut E, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
    loop {
        let done = match engine.handshake() {
            Ok(done) => done,
            Err(error) => {
                farewell(engine, lower, cx);
                return Poll::Ready(Err(Failed::Tls(error)));
            }
        };
        if let Err(error) = ready!(poll_send(engine, lower, cx)) {
            return Poll::Ready(Err(reason(engine, lower, cx, error)));
        }
        if done {
            return Poll::Ready(Ok(()));
        }
        match ready!(engine.receive(lower, cx)) {
            Ok(0) => {
                return Poll::Ready(Err(Failed::Tls(TlsError::HungUp { silent: lower.head().is_empty() })));
            }
            Ok(_) => {}
            Err(error) if error.kind() == FlowErrorKind::Reset => {
                return Poll::Ready(Err(Failed::Tls(TlsError::HungUp { silent: lower.head().is_empty() })));
            }
            Err(error) => return Poll::Ready(Err(Failed::Flow(error))),
        }
        if lower.is_plain() {
            let banner = harmless(lower.head());
            return Poll::Ready(Err(Failed::Tls(TlsError::PlainText { banner })));
        }
    }
}

fn poll_send<E: Engine>(
    engine: &mut E,
    lower: &mut Lower,
    cx: &mut Context<'_>,
) -> Poll<Result<(), FlowError>> {
    while engine.has_output() {
        if ready!(engine.send(lower, cx))? == 0 {
            return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into()));
        }
    }
    lower.flow.poll_flush(cx)
}

/// Whoever refuses us says so in an alert before hanging up, and we may learn of the latter first.
fn reason<E: Engine>(engine: &mut E, lower: &mut Lower, cx: &mut Context<'_>, error: FlowError) -> Failed {
    if !matches!(error.kind(), FlowErrorKind::Reset | FlowErrorKind::BrokenPipe) {
        return Failed::Flow(error);
    }
    while let Poll::Ready(Ok(1..)) = engine.receive(lower, cx) {
        if lower.is_plain() {
            return Failed::Tls(TlsError::PlainText { banner: harmless(lower.head()) });
        }
        match engine.handshake() {
            Ok(false) => {}
            Ok(true) => return Failed::Flow(error),
            Err(alert) => return Failed::Tls(alert),
        }
    }
    Failed::Tls(TlsError::HungUp { silent: lower.head().is_empty() })
}

/// Tells the peer why, as far as that goes without waiting. Bytes that it has sent are read first: closing
/// over them would have the system throw away what we say.
fn farewell<E: Engine>(engine: &mut E, lower: &mut Lower, cx: &mut Context<'_>) {
    if poll_send(engine, lower, cx).is_pending() || lower.flow.poll_shutdown(cx).is_pending() {
        return;
    }
    let mut left = LAST_WORDS;
    let mut bytes = [0; 4096];
    while let Poll::Ready(Ok(n @ 1..)) = lower.poll_read(cx, &mut bytes) {
        left = left.saturating_sub(n);
        if left == 0 {
            break;
        }
    }
}

/// Whether `address`, with its port, already names the host so.
pub(crate) fn is_host_of(name: &str, address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']') == name
}

/// Whom it is with: `TLS handshake with db.test at 10.0.0.1:5432`.
fn describe(role: Role, name: Option<&str>, peer: Option<&Target>) -> String {
    let address = peer.map(Target::to_string);
    let whom = match (role, name, address) {
        (Role::Client, Some(name), Some(address)) if !is_host_of(name, &address) => {
            format!("{name} at {address}")
        }
        (Role::Client, _, Some(address)) => address,
        (Role::Client, Some(name), None) => name.to_owned(),
        (Role::Client, None, None) => "the server".into(),
        (Role::Server, _, Some(address)) => format!("the client {address}"),
        (Role::Server, _, None) => "a client".into(),
    };
    format!("TLS handshake with {whom}")
}
