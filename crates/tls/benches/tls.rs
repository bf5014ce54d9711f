//! TLS over a flow against tokio-rustls and tokio-openssl over the bare `TcpStream`, alternating in one run:
//! bulk one way, and handshakes. Both ends are of one kind, on one thread, over loopback TCP; connections are new
//! in each round. What counts is the time that the thread runs, in the kernel too: nothing here ever waits, and
//! what else the machine does is no concern.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use openssl::ssl::{Ssl, SslAcceptor, SslConnector, SslContext, SslMethod, SslSessionCacheMode, SslVersion};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tuyau_core::{ConnectCx, Context, Flow, Layer, Role};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_tls::{Backend, Identity, Roots, ServerSettings, Settings, TlsClient, TlsServer, Version};

/// How often each is measured; the medians count.
const ROUNDS: usize = 61;
const BULK: usize = 32 << 20;
const CHUNK: usize = 64 << 10;
const HANDSHAKES: usize = 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let ca = Ca::new("CA");
        let leaf = ca.leaf(&["a.test"]);
        println!("{:40} {:>14} {:>14} {:>8}", "", "bare", "flow", "ratio");
        compare("rustls", &tokio_rustls(&ca, &leaf), &Ours::new(Backend::Rustls, &ca, &leaf)).await;
        compare("openssl", &tokio_openssl(&ca, &leaf), &Ours::new(Backend::OpenSsl, &ca, &leaf)).await;
    });
}

/// Both ends of a connection of one kind.
trait Kind {
    type Client: AsyncRead + AsyncWrite + Unpin + 'static;
    type Server: AsyncRead + AsyncWrite + Unpin + 'static;
    async fn shake(&self, client: TcpStream, server: TcpStream) -> (Self::Client, Self::Server);
}

async fn compare(name: &str, bare: &impl Kind, flow: &impl Kind) {
    let mut times = [[vec![], vec![]], [vec![], vec![]]];
    for round in 0..ROUNDS {
        // In turns, so that none always comes after the other.
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (bulk, handshakes) = match which {
                0 => (bulk(bare).await, handshakes(bare).await),
                _ => (bulk(flow).await, handshakes(flow).await),
            };
            times[0][which].push(bulk);
            times[1][which].push(handshakes);
        }
    }
    for (what, [bare, flow], unit) in [("bulk", &times[0], "MB/s"), ("handshakes", &times[1], "/s")] {
        let rate = |times: &[f64]| match unit {
            "/s" => format!("{:.0} {unit}", HANDSHAKES as f64 / median(times.iter().copied())),
            _ => format!("{:.0} {unit}", BULK as f64 / median(times.iter().copied()) / 1e6),
        };
        let ratio = median(bare.iter().zip(flow).map(|(bare, flow)| bare / flow));
        println!("{:40} {:>14} {:>14} {ratio:>8.3}", format!("{name}, {what}"), rate(bare), rate(flow));
    }
}

/// Seconds for one transfer, one write of a chunk at a time.
async fn bulk(kind: &impl Kind) -> f64 {
    let (a, b) = sockets().await;
    let (mut client, mut server) = kind.shake(a, b).await;
    let sink = tokio::task::spawn_local(async move {
        let mut bytes = vec![0; CHUNK];
        let mut left = BULK;
        while left > 0 {
            left -= server.read(&mut bytes).await.expect("read");
        }
        server
    });
    let bytes = vec![7; CHUNK];
    let began = now();
    for _ in 0..BULK / CHUNK {
        client.write_all(&bytes).await.expect("write");
    }
    client.flush().await.expect("flush");
    let server = sink.await.expect("the sink");
    let took = (now() - began).as_secs_f64();
    drop((client, server));
    took
}

/// Seconds for some handshakes, the TCP connections made before.
async fn handshakes(kind: &impl Kind) -> f64 {
    let mut pairs = Vec::new();
    for _ in 0..HANDSHAKES {
        pairs.push(sockets().await);
    }
    let began = now();
    let mut done = Vec::new();
    for (a, b) in pairs {
        done.push(kind.shake(a, b).await);
    }
    (now() - began).as_secs_f64()
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let (a, b) = tokio::join!(TcpStream::connect(listener.local_addr().expect("bound")), listener.accept());
    let (a, b) = (a.expect("connect"), b.expect("accept").0);
    a.set_nodelay(true).expect("nodelay");
    b.set_nodelay(true).expect("nodelay");
    (a, b)
}

struct Ours {
    client: TlsClient,
    server: TlsServer,
    cx: ConnectCx<'static>,
}

impl Ours {
    fn new(backend: Backend, ca: &Ca, leaf: &Leaf) -> Self {
        let roots = Roots::Der([ca.der().to_vec()].into());
        let settings =
            Settings::new().backend(backend).roots(roots).resumption(false).min_version(Version::Tls13);
        let identity = Identity::der(leaf.chain(), leaf.key());
        Self {
            client: TlsClient::new(settings).expect("a client").for_server("a.test"),
            server: TlsServer::new(ServerSettings::new(identity).backend(backend)).expect("a server"),
            cx: ConnectCx::new(&Context::new()).expect("a context"),
        }
    }
}

impl Kind for Ours {
    type Client = Flow;
    type Server = Flow;

    async fn shake(&self, client: TcpStream, server: TcpStream) -> (Flow, Flow) {
        let (a, b) = tokio::join!(
            self.client.wrap(Flow::from_tokio(client), Role::Client, &self.cx),
            self.server.wrap(Flow::from_tokio(server), Role::Server, &self.cx)
        );
        (a.expect("a handshake"), b.expect("a handshake"))
    }
}

struct TokioRustls(tokio_rustls::TlsConnector, tokio_rustls::TlsAcceptor);

fn tokio_rustls(ca: &Ca, leaf: &Leaf) -> TokioRustls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.der().to_vec())).expect("a root");
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let chain = leaf.chain().iter().cloned().map(CertificateDer::from).collect();
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(leaf.key().to_vec()).expect("a key"))
        .expect("a certificate");
    TokioRustls(Arc::new(client).into(), Arc::new(server).into())
}

impl Kind for TokioRustls {
    type Client = tokio_rustls::client::TlsStream<TcpStream>;
    type Server = tokio_rustls::server::TlsStream<TcpStream>;

    async fn shake(&self, client: TcpStream, server: TcpStream) -> (Self::Client, Self::Server) {
        let name = ServerName::try_from("a.test").expect("a name");
        let (a, b) = tokio::join!(self.0.connect(name, client), self.1.accept(server));
        (a.expect("a handshake"), b.expect("a handshake"))
    }
}

struct TokioOpenSsl(SslConnector, SslContext);

fn tokio_openssl(ca: &Ca, leaf: &Leaf) -> TokioOpenSsl {
    let mut client = SslConnector::builder(SslMethod::tls_client()).expect("a builder");
    client
        .cert_store_mut()
        .add_cert(openssl::x509::X509::from_der(ca.der()).expect("a root"))
        .expect("added");
    client.set_min_proto_version(Some(SslVersion::TLS1_3)).expect("a version");
    client.set_session_cache_mode(SslSessionCacheMode::OFF);
    let mut server = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("a builder");
    server.set_certificate(&openssl::x509::X509::from_der(&leaf.chain()[0]).expect("one")).expect("set");
    server
        .set_private_key(&openssl::pkey::PKey::private_key_from_der(leaf.key()).expect("one"))
        .expect("set");
    TokioOpenSsl(client.build(), server.build().into_context())
}

impl Kind for TokioOpenSsl {
    type Client = tokio_openssl::SslStream<TcpStream>;
    type Server = tokio_openssl::SslStream<TcpStream>;

    async fn shake(&self, client: TcpStream, server: TcpStream) -> (Self::Client, Self::Server) {
        let ssl = self.0.configure().expect("a configuration").into_ssl("a.test").expect("a connection");
        let mut a = tokio_openssl::SslStream::new(ssl, client).expect("a stream");
        let ssl = Ssl::new(&self.1).expect("a connection");
        let mut b = tokio_openssl::SslStream::new(ssl, server).expect("a stream");
        let (to, from) = tokio::join!(Pin::new(&mut a).connect(), Pin::new(&mut b).accept());
        to.expect("a handshake");
        from.expect("a handshake");
        (a, b)
    }
}

/// For how long this thread has run.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
