//! Every TLS flow passes the suite: both backends, crosswise, and TLS in TLS.

use std::task::{Context, Poll};

use tokio::sync::oneshot;
use tuyau_core::{Flow, FlowError, Layer, RawFlow, Role, forward};
use tuyau_testing::certs::Ca;
use tuyau_testing::{Abilities, Pair, flow_conformance};
use tuyau_tls::Backend::{self, OpenSsl, Rustls};
use tuyau_tls::Version;

use crate::support::*;

/// A flow that is merely dropped is told from one that ended.
const TLS: Abilities = Abilities { reset: false, drop_ends: false, ..Abilities::ALL };

async fn wrapped(backends: (Backend, Backend), version: Version, a: Flow, b: Flow) -> (Flow, Flow) {
    let ca = Ca::new("CA");
    let client = client(trusting(backends.0, &ca).min_version(version));
    let server = server(serving(backends.1, &ca.leaf(&["a.test"])));
    let (a, b) = over(&client, &server, a, b).await;
    (a.expect("the client's handshake"), b.expect("the server's"))
}

async fn pair(client: Backend, server: Backend) -> Pair {
    let (a, b) = tuyau_tokio::duplex();
    let (a, b) = wrapped((client, server), Version::Tls12, a, b).await;
    Pair::new(a, b)
}

async fn rustls() -> Pair {
    pair(Rustls, Rustls).await
}

async fn openssl() -> Pair {
    pair(OpenSsl, OpenSsl).await
}

async fn crossed() -> Pair {
    pair(Rustls, OpenSsl).await
}

async fn crossed_back() -> Pair {
    pair(OpenSsl, Rustls).await
}

async fn in_each_other() -> Pair {
    let (a, b) = tuyau_tokio::duplex();
    let (a, b) = wrapped((Rustls, OpenSsl), Version::Tls12, a, b).await;
    let (a, b) = wrapped((OpenSsl, Rustls), Version::Tls12, a, b).await;
    Pair::new(a, b)
}

async fn rustls_twice() -> Pair {
    let (a, b) = tuyau_tokio::duplex();
    let (a, b) = wrapped((Rustls, Rustls), Version::Tls13, a, b).await;
    let (a, b) = wrapped((Rustls, Rustls), Version::Tls13, a, b).await;
    Pair::new(a, b)
}

async fn over_sockets(backend: Backend) -> Pair {
    let (a, b) = tokio::net::UnixStream::pair().expect("a pair");
    let facts = |_: &tokio::net::UnixStream, ask: &mut tuyau_core::Ask<'_>| {
        let target = || tuyau_core::Target::Described("a pair".into());
        ask.answer(&tuyau_core::names::PEER, target).answer(&tuyau_core::names::LOCAL, target);
    };
    let (a, b) = (Flow::from_tokio_with(a, facts), Flow::from_tokio_with(b, facts));
    let (a, b) = wrapped((backend, backend), Version::Tls13, a, b).await;
    Pair::new(a, b)
}

async fn rustls_sockets() -> Pair {
    over_sockets(Rustls).await
}

async fn openssl_sockets() -> Pair {
    over_sockets(OpenSsl).await
}

/// TLS 1.2, which one side insists on by having nothing else: OpenSSL's command line, in other tests, is not
/// the only one to speak it.
async fn tls12(backend: Backend) -> Pair {
    let ca = Ca::new("CA");
    let (a, b) = tuyau_tokio::duplex();
    let leaf = ca.leaf(&["a.test"]);
    let server = server(serving(backend, &leaf));
    let cx = cx();
    let accepted = server.wrap(b, Role::Server, &cx);
    let old = async {
        let mut context =
            openssl::ssl::SslContextBuilder::new(openssl::ssl::SslMethod::tls_client()).unwrap();
        context.set_max_proto_version(Some(openssl::ssl::SslVersion::TLS1_2)).unwrap();
        let ssl = openssl::ssl::Ssl::new(&context.build()).unwrap();
        let mut stream = tokio_openssl::SslStream::new(ssl, a).unwrap();
        std::pin::Pin::new(&mut stream).connect().await.unwrap();
        stream
    };
    let (theirs, ours) = tokio::join!(old, accepted);
    let facts = |_: &tokio_openssl::SslStream<Flow>, ask: &mut tuyau_core::Ask<'_>| {
        let target = || tuyau_core::Target::Described("tokio-openssl".into());
        ask.answer(&tuyau_core::names::PEER, target).answer(&tuyau_core::names::LOCAL, target);
    };
    Pair::new(Flow::from_tokio_with(theirs, facts), ours.expect("the server's handshake"))
}

flow_conformance!(over_rustls, TLS, rustls);
flow_conformance!(over_openssl, TLS, openssl);
flow_conformance!(rustls_to_openssl, TLS, crossed);
flow_conformance!(openssl_to_rustls, TLS, crossed_back);
flow_conformance!(tls_in_tls, TLS, in_each_other);
flow_conformance!(rustls_in_rustls, TLS, rustls_twice);
flow_conformance!(rustls_over_sockets, TLS, rustls_sockets);
flow_conformance!(openssl_over_sockets, TLS, openssl_sockets);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_carries_much_both_ways() {
    for backend in BOTH {
        let pair = tls12(backend).await;
        assert_eq!(pair.b.fact(&tuyau_tls::VERSION), Some(Version::Tls12));
        tuyau_testing::checks::large_transfers_both_ways(pair, TLS).await;
    }
}

/// Whose end waits until it is told to come.
struct EndsLater(Flow, oneshot::Receiver<()>);

impl RawFlow for EndsLater {
    forward!(0: read itself lower unwrap);

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if !self.1.is_terminated() {
            std::task::ready!(std::pin::Pin::new(&mut self.1).poll(cx)).expect("told");
        }
        self.0.poll_shutdown(cx)
    }
}

/// The end of the outer TLS comes after that of the inner, and nobody asks for it: unread, it would have the system reset
/// the connection, and what is still on its way would be lost.
#[tokio::test]
async fn whoever_closes_has_read_the_end_of_tls_below() {
    for backend in BOTH {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let to = listener.local_addr().expect("bound");
        let (a, b) = tokio::join!(tokio::net::TcpStream::connect(to), listener.accept());
        let (a, b) = (a.expect("connect"), b.expect("accept").0);
        let facts = |_: &tokio::net::TcpStream, _: &mut tuyau_core::Ask<'_>| {};
        let (a, b) = (Flow::from_tokio_with(a, facts), Flow::from_tokio_with(b, facts));
        let (a, b) = wrapped((backend, backend), Version::Tls13, a, b).await;
        let (go, told) = oneshot::channel();
        let a = Flow::new(EndsLater(a, told));
        let (mut a, mut b) = wrapped((backend, backend), Version::Tls13, a, b).await;
        // More than the one is given before it reads.
        const MUCH: usize = 1_000_000;
        b.write_all(&[7; MUCH]).await.expect("write");
        let (ending, ended) = (a.shutdown(), async {
            assert_eq!(b.read(&mut [0; 1]).await.expect("read"), 0);
            go.send(()).expect("it waits");
        });
        let (ending, ()) = tokio::join!(ending, ended);
        ending.expect("shutdown");
        b.shutdown().await.expect("shutdown");
        drop(b);
        a.read_exact(&mut vec![0; MUCH]).await.expect("read");
        assert_eq!(a.read(&mut [0; 1]).await.expect("read"), 0);
    }
}
