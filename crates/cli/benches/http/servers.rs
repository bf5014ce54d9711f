//! What is measured: servers on threads of their own, and nginx.

use std::convert::Infallible;
use std::fs;
use std::future::{Ready, ready};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tuyau_core::{ConnectCx, Context, Net, Target};
use tuyau_http::{Limits, Server};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};
use tuyau_tls::{ServerSettings, TlsServer};
use tuyau_tokio::Host;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    H1,
    H2,
}

impl Speaks {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

pub(crate) static LARGE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

fn answer<B>(request: Request<B>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    let body = if request.uri().path() == "/large" { &LARGE[..] } else { b"hello" };
    ready(Ok(Response::new(Full::new(Bytes::from_static(body)))))
}

/// One key and certificate for all servers, which the load trusts.
pub(crate) struct Identity {
    ca: Ca,
    leaf: Leaf,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let ca = Ca::new("CA");
        let leaf = ca.leaf(&["a.test"]);
        Self { ca, leaf }
    }

    fn acceptor(&self, speaks: Speaks) -> TlsAcceptor {
        let chain = self.leaf.chain().iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::try_from(self.leaf.key().to_vec()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        config.alpn_protocols = vec![speaks.alpn().to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) async fn connect(
        &self,
        speaks: Speaks,
        stream: tokio::net::TcpStream,
    ) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.der().to_vec())).expect("a root");
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![speaks.alpn().to_vec()];
        let name = ServerName::try_from("a.test").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }
}

/// A server that runs, and where the kernel tells its CPU time.
pub(crate) struct Serving {
    pub(crate) port: u16,
    schedstat: String,
}

impl Serving {
    /// On a thread of its own.
    fn start<F: Future<Output = ()>>(serve: impl FnOnce(mpsc::Sender<u16>) -> F + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let thread = fs::read_link("/proc/thread-self").expect("Linux");
            tell.send(format!("/proc/{}/schedstat", thread.display())).expect("it is waited for");
            Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(serve(send));
        });
        Self { port: receive.recv().expect("it listens"), schedstat: told.recv().expect("it runs") }
    }

    /// This thread, for what it runs itself.
    pub(crate) fn here() -> Self {
        Self { port: 0, schedstat: "/proc/thread-self/schedstat".into() }
    }

    /// As it comes from the box; or with the one limit of time that it has for HTTP/1: a server that sets no timer
    /// never asks the kernel for one, and waits for ever for a head that does not come.
    pub(crate) fn hyper(speaks: Speaks, tls: Option<&Identity>, timer: bool) -> Self {
        let acceptor = tls.map(|identity| identity.acceptor(speaks));
        Self::start(move |port| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            port.send(listener.local_addr().expect("it is bound").port()).expect("it is waited for");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("nodelay");
                // Each in a task that has room for nothing else.
                match (&acceptor, speaks) {
                    (None, Speaks::H1) => drop(tokio::spawn(hyper_h1(stream, timer))),
                    (None, Speaks::H2) => drop(tokio::spawn(hyper_h2(stream))),
                    (Some(acceptor), speaks) => {
                        let accepting = acceptor.accept(stream);
                        tokio::spawn(async move {
                            let stream = accepting.await.expect("a handshake");
                            match speaks {
                                Speaks::H1 => hyper_h1(stream, timer).await,
                                Speaks::H2 => hyper_h2(stream).await,
                            }
                        });
                    }
                }
            }
        })
    }

    pub(crate) fn ours(speaks: Speaks, tls: Option<&Identity>) -> Self {
        let tls = tls.map(|identity| {
            let identity = tuyau_tls::Identity::der(identity.leaf.chain(), identity.leaf.key());
            let settings = ServerSettings::new(identity).alpn(&[speaks.alpn().to_vec()]);
            TlsServer::new(settings).expect("a server").layer()
        });
        Self::start(move |port| async move {
            let cx = ConnectCx::new(&Context::new()).expect("a context");
            let target = Target::Addr(([127, 0, 0, 1], 0).into());
            let mut listener = Host::new().listen(&target, &cx).await.expect("listen");
            if let Target::Addr(address) = listener.local() {
                port.send(address.port()).expect("it is waited for");
            }
            if let Some(tls) = tls {
                listener = listener.layered(tls, &Context::new());
            }
            let mut limits = Limits::default();
            // All come from one address here.
            limits.connections_per_address = limits.connections;
            Server::new(tower::service_fn(answer)).limits(limits).listen(listener).serve().await;
        })
    }

    /// Nanoseconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(&self.schedstat).expect("it runs");
        stat.split(' ').next().and_then(|time| time.parse::<f64>().ok()).expect("nanoseconds")
    }
}

async fn hyper_h1(stream: impl AsyncRead + AsyncWrite + Unpin, timer: bool) {
    let mut builder = http1::Builder::new();
    if timer {
        builder.timer(TokioTimer::new());
    }
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer::<Incoming>)).await;
}

async fn hyper_h2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let builder = http2::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer::<Incoming>)).await;
}

/// One process, with the same answers.
pub(crate) struct Nginx {
    port: u16,
    peer: Peer,
    _place: Place,
}

impl Nginx {
    pub(crate) fn start(speaks: Speaks, tls: Option<&Identity>) -> Self {
        let (place, port) = (Place::new(), free_port());
        fs::write(place.path("large"), LARGE).expect("a file");
        let mut listen = format!("127.0.0.1:{port}");
        let mut server = String::new();
        if let Some(identity) = tls {
            listen += " ssl";
            let (chain, key) = identity.leaf.files(&place, "srv");
            server = format!("ssl_certificate {chain}; ssl_certificate_key {key};");
        }
        if speaks == Speaks::H2 {
            listen += " http2";
        }
        let dir = place.dir().display();
        let http = format!(
            "sendfile on; tcp_nopush on; open_file_cache max=10; keepalive_requests 1000000000;
             server {{ listen {listen}; {server} root {dir}; location = / {{ return 200 hello; }} }}"
        );
        let peer = peers::nginx(&place, &http);
        Self { port, peer, _place: place }
    }

    pub(crate) fn serving(&self) -> Serving {
        Serving { port: self.port, schedstat: format!("/proc/{}/schedstat", self.peer.pid()) }
    }
}
