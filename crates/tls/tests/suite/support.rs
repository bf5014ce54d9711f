//! What the tests share: both backends, crosswise, over memory or TCP.

use std::sync::Arc;

use tuyau_core::names::{DEADLINE, HOST};
use tuyau_core::{ConnectCx, ConnectError, Context, Flow, Layer, Role, SharedLayer};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_tls::{Backend, Identity, Roots, ServerSettings, Settings, TlsClient, TlsServer};

pub(crate) const BOTH: [Backend; 2] = [Backend::Rustls, Backend::OpenSsl];

/// Every client with every server.
pub(crate) fn crosswise() -> impl Iterator<Item = (Backend, Backend)> {
    BOTH.into_iter().flat_map(|client| BOTH.into_iter().map(move |server| (client, server)))
}

pub(crate) fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&tuyau_tokio::derivations(Context::new())).expect("a context")
}

pub(crate) fn identity(leaf: &Leaf) -> Identity {
    Identity::der(leaf.chain(), leaf.key())
}

pub(crate) fn roots(ca: &Ca) -> Roots {
    Roots::Der([ca.der().to_vec()].into())
}

pub(crate) fn trusting(backend: Backend, ca: &Ca) -> Settings {
    Settings::new().backend(backend).roots(roots(ca))
}

pub(crate) fn client(settings: Settings) -> TlsClient {
    TlsClient::new(settings).expect("a client").for_server("a.test")
}

pub(crate) fn server(settings: ServerSettings) -> TlsServer {
    TlsServer::new(settings).expect("a server")
}

pub(crate) fn serving(backend: Backend, leaf: &Leaf) -> ServerSettings {
    ServerSettings::new(identity(leaf)).backend(backend)
}

/// Both ends' outcomes of a handshake over memory.
pub(crate) async fn shake(
    client: &TlsClient,
    server: &TlsServer,
) -> (Result<Flow, ConnectError>, Result<Flow, ConnectError>) {
    let (a, b) = tuyau_tokio::duplex();
    over(client, server, a, b).await
}

pub(crate) async fn over(
    client: &TlsClient,
    server: &TlsServer,
    a: Flow,
    b: Flow,
) -> (Result<Flow, ConnectError>, Result<Flow, ConnectError>) {
    let cx = cx();
    tokio::join!(client.wrap(a, Role::Client, &cx), server.wrap(b, Role::Server, &cx))
}

/// `error`, its causes and its hint, in one line.
pub(crate) fn said(error: &ConnectError) -> String {
    let mut text = chain(error);
    if let Some(hint) = error.hint() {
        text += &format!(" ({hint})");
    }
    text
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// A context that dials TLS over TCP, to `port` of this machine, whose certificate is to be for `name`.
pub(crate) fn dialling(settings: &Settings, name: &str, port: u16) -> Context {
    let client = TlsClient::new(settings.clone()).expect("a client");
    tuyau_tls::over(tuyau_tokio::derivations(Context::new()), &tuyau_tls::TLS, &tuyau_tokio::TCP)
        .with(&tuyau_tls::CLIENT, client)
        .with(&HOST, "127.0.0.1".into())
        .with(&tuyau_core::names::SERVER_NAME, name.into())
        .with(&tuyau_core::names::PORT, port)
        .with(&DEADLINE, std::time::Duration::from_secs(30))
        .offer(&tuyau_tls::TLS)
}

pub(crate) fn shared(layer: impl Layer) -> SharedLayer {
    Arc::new(layer)
}

/// Writes, and reads back what an echo says.
pub(crate) async fn read_line(flow: &mut Flow) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while flow.read(&mut byte).await.expect("read") == 1 {
        line.push(byte[0]);
        if byte[0] == b'\n' {
            break;
        }
    }
    String::from_utf8(line).expect("text")
}
