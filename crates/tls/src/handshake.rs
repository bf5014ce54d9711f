//! The handshake, and what becomes of one that fails.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tuyau_core::names::PEER;
use tuyau_core::{ConnectCx, ConnectError, Flow, FlowError, FlowErrorKind, Protection, Role, Target};

use crate::backend::Engine;
use crate::error::{About, TlsError, harmless};
use crate::flow::TlsFlow;
use crate::lower::Lower;

/// How much of what a refused peer still sends is read, in bytes, so that it gets to see why.
const LAST_WORDS: usize = 1024 * 1024;

/// How long a server waits for the end of that.
const LINGER: Duration = Duration::from_secs(2);

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
        Err(Failed::Tls(error)) => {
            farewell(&mut engine, &mut lower, role, cx).await;
            let error = match error {
                TlsError::Protocol { .. } if role == Role::Client && lower.is_client_hello() => {
                    TlsError::NotAServer
                }
                error => error,
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

enum Failed {
    Tls(TlsError),
    Flow(FlowError),
}

/// Goes on until the handshake is done, and what it says is sent.
fn drive<E: Engine>(engine: &mut E, lower: &mut Lower, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
    loop {
        let done = match engine.handshake() {
            Ok(done) => done,
            Err(error) => return Poll::Ready(Err(Failed::Tls(error))),
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

/// Tells the peer why. A client may have sent its request by then, and closing over bytes that were not read has the
/// system reset the connection, and the client throw away what it was told: so a server, if it has a clock, waits a
/// little for the end.
async fn farewell<E: Engine>(engine: &mut E, lower: &mut Lower, role: Role, cx: &ConnectCx<'_>) {
    let clock = cx.runtime().filter(|_| role == Role::Server);
    let mut linger = clock.map(|runtime| {
        let until = runtime.now() + LINGER;
        runtime.sleep_until(cx.deadline().map_or(until, |deadline| until.min(deadline)))
    });
    let mut left = LAST_WORDS;
    poll_fn(|task| {
        let said = poll_farewell(engine, lower, &mut left, task);
        match linger.as_mut() {
            Some(linger) if said.is_pending() => linger.as_mut().poll(task),
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// Sends what there is to say, and the end; then reads up to the peer's end, or as much as `left` has.
fn poll_farewell<E: Engine>(
    engine: &mut E,
    lower: &mut Lower,
    left: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if ready!(poll_send(engine, lower, cx)).is_err() || ready!(lower.flow.poll_shutdown(cx)).is_err() {
        return Poll::Ready(());
    }
    let mut bytes = [0; 4096];
    while *left > 0
        && let Ok(n @ 1..) = ready!(lower.poll_read(cx, &mut bytes))
    {
        *left = left.saturating_sub(n);
    }
    Poll::Ready(())
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
