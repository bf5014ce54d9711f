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
    let outcome = cx.in_time(poll_fn(|task| drive(&mut engine, &mut lower, task))).await;
    let outcome =
        outcome.unwrap_or_else(|| Err(Failed::Tls(TlsError::Silent { silent: lower.head().is_empty() })));
    let what = || describe(role, server_name.as_deref(), peer.as_ref());
    match outcome {
        Ok(()) => {}
        Err(Failed::Flow(error)) => {
            let error = ConnectError::from(error);
            return Err(ConnectError::new(error.kind(), what()).with_source(error));
        }
        Err(Failed::Tls(error)) => return Err(error.into_connect(what())),
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
    loop {
        match engine.receive(lower, cx) {
            Poll::Ready(Ok(1..)) => {}
            // A program tells how it ended.
            Poll::Ready(Err(why)) if why.kind() == FlowErrorKind::UnexpectedEof => return Failed::Flow(why),
            _ => return Failed::Tls(TlsError::HungUp { silent: lower.head().is_empty() }),
        }
        if lower.is_plain() {
            return Failed::Tls(TlsError::PlainText { banner: harmless(lower.head()) });
        }
        match engine.handshake() {
            Ok(false) => {}
            Ok(true) => return Failed::Flow(error),
            Err(alert) => return Failed::Tls(alert),
        }
    }
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
