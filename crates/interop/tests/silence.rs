//! What must stay silent: whatever goes wrong on the way, nothing comes to the target, and nothing is said in clear text
//! that was to be said by TLS; and no secret is in any error or report.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tuyau_core::names::{DEADLINE, HOST, PORT, SERVER_NAME};
use tuyau_core::{ConnectCx, ConnectErrorKind, Context, Error, Flow, Hop, Layer, Report, Role};
use tuyau_proxy::{Credentials, HttpConnect, Socks5};
use tuyau_ssh::{Asker, HostKeys, Secret, SshHop, SshServer};
use tuyau_testing::certs::{Ca, Leaf};
use tuyau_testing::peers::{self, Sshd, keygen, microsocks, tinyproxy};
use tuyau_testing::{Place, dead_port};
use tuyau_tls::{BACKEND, Backend, IDENTITY, Identity, ROOTS, Roots, ServerSettings, TLS, TlsServer};
use tuyau_tokio::{TCP, derivations, host, runtime, serve};

const BOTH: [Backend; 2] = [Backend::Rustls, Backend::OpenSsl];

/// What nobody may ever read, as it is and as HTTP proxies are told it: the nine bytes of `somebody:` make the base64 of
/// what follows that of `hunter2` itself.
const SECRETS: [&str; 7] =
    ["hunter2", "open sesame", "sesame", "somebody:", "c29tZWJvZHk6", "aHVudGVy", "PRIVATE KEY"];
const RIGHT: &str = "hunter2-right";
const WRONG: &str = "hunter2-wrong";
const PASSPHRASE: &str = "open sesame";

/// A socket that listens, and that nobody may come to.
struct Untouched(TcpListener);

impl Untouched {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("listen");
        listener.set_nonblocking(true).expect("nonblocking");
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("it is bound").port()
    }

    /// Who connected on this machine is in its queue by the time that the call that connects is over.
    #[track_caller]
    fn check(&self, what: &str) {
        let nobody = self.0.accept().map(|(_, from)| from).expect_err(what);
        assert_eq!(nobody.kind(), ErrorKind::WouldBlock, "{what}");
    }
}

fn to(ctx: Context, port: u16) -> Context {
    ctx.with(&HOST, "127.0.0.1".into()).with(&PORT, port)
}

/// By TCP to a port of this machine.
fn near(port: u16) -> Context {
    to(derivations(Context::new()), port).offer(&TCP)
}

/// Resolves `ctx` towards somebody who must not notice: why it failed, for which all that can be shown was looked at.
#[track_caller]
fn silent(what: &str, ctx: Context) -> impl Future<Output = Error> {
    let (what, target) = (what.to_owned(), Untouched::new());
    async move {
        let ctx = to(ctx, target.port());
        let error = ctx.resolve().await.map(drop).expect_err(&what);
        target.check(&what);
        assert_keeps_secrets(&ctx, &error).await;
        target.check(&what);
        error
    }
}

/// All that anybody could show of it.
async fn assert_keeps_secrets(ctx: &Context, error: &Error) {
    let mut texts = vec![format!("{error}"), format!("{error:#}"), format!("{error:?}"), format!("{ctx:?}")];
    for error in error.errors() {
        let mut next = Some(error);
        while let Some(error) = next {
            texts.extend([
                format!("{error}"),
                format!("{error:#}"),
                format!("{error:?}"),
                format!("{error:#?}"),
            ]);
            next = error.source();
        }
    }
    for report in [error.report(), ctx.plan(), ctx.explain().await] {
        texts.extend(renderings(&report));
    }
    assert_no_secret(&texts);
}

fn renderings(report: &Report) -> Vec<String> {
    let json = serde_json::to_string(report).expect("JSON");
    let summary = format!("{}", report.summary());
    vec![
        format!("{report}"),
        format!("{report:#}"),
        format!("{report:?}"),
        summary,
        report.dot().to_string(),
        json,
    ]
}

#[track_caller]
fn assert_no_secret(texts: &[String]) {
    for text in texts {
        assert!(!text.is_empty());
        for secret in SECRETS {
            assert!(!text.contains(secret), "`{secret}` in: {text}");
        }
    }
}

/// The same, in one line.
fn words(error: &Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn hops() -> [(&'static str, Box<dyn Hop>); 4] {
    let wrong = || Credentials::new("somebody", WRONG);
    [
        ("socks5", Box::new(Socks5::new().with_credentials(wrong()))),
        ("socks5h", Box::new(Socks5::new().lookup_by_proxy().with_credentials(wrong()))),
        ("http", Box::new(HttpConnect::new().with_credentials(wrong()))),
        (
            "ssh",
            Box::new(SshHop::new("ops").host_keys(HostKeys::dangerous_accept_any()).ask(answering(WRONG))),
        ),
    ]
}

fn answering(secret: &'static str) -> Asker {
    Asker::new(move |_| async move { Some(Secret::new(secret)) })
}

#[tokio::test]
async fn a_dead_hop() {
    for (name, hop) in hops() {
        let dead = dead_port();
        let error = silent(name, near(dead).via(hop)).await;
        assert_eq!(error.kind(), ConnectErrorKind::Refused, "{name}: {error:#}");
        assert!(words(&error).contains(&format!("127.0.0.1:{dead}")), "{name}: {error:#}");
    }
}

#[tokio::test]
async fn a_dead_hop_behind_one_that_lives() {
    let proxy = microsocks(None);
    for (name, hop) in hops() {
        let dead = dead_port();
        let ctx = to(near(proxy.port()).via(Box::new(Socks5::new())), dead).via(hop);
        let error = silent(name, ctx).await;
        assert_eq!(error.kind(), ConnectErrorKind::Refused, "{name}: {error:#}");
        assert!(words(&error).contains(&format!("127.0.0.1:{dead}")), "{name}: {error:#}");
    }
}

/// On a clock that jumps as soon as there is nothing left to do but wait.
#[tokio::test(start_paused = true)]
async fn a_hop_that_says_nothing() {
    for (name, hop) in hops() {
        let mute = Untouched::new();
        let ctx = near(mute.port()).via(hop).with(&DEADLINE, Duration::from_secs(20));
        let error = silent(name, ctx).await;
        assert_eq!(error.kind(), ConnectErrorKind::TimedOut, "{name}: {error:#}");
    }
}

#[tokio::test]
async fn files_that_cant_be_used() {
    let (place, ca) = (Place::new(), Ca::new("CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (chain, key) = ca.client("alice").files(&place, "alice");
    let encrypted = place.path("encrypted.key");
    let lines =
        ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "aHVudGVyMg==", "-----END ENCRYPTED PRIVATE KEY-----"];
    fs::write(&encrypted, lines.join("\n")).expect("write");
    let garbled = place.path("garbled.key");
    fs::write(&garbled, fs::read_to_string(&key).expect("a key").replace("\nM", "\nhunter2")).expect("write");
    let (missing, directory) = (place.path("missing"), place.dir().to_str().expect("text").to_owned());

    let trusted = Roots::File(cacert.into());
    let mut cases: Vec<(Context, String)> = vec![];
    for file in [&missing, &directory] {
        let ctx = Context::new().with(&ROOTS, Roots::File(file.into()));
        cases.push((ctx, format!("root certificates {file}")));
    }
    for file in [&missing, &directory, &encrypted, &garbled] {
        let identity = Identity::files(&chain, file);
        let ctx = Context::new().with(&ROOTS, trusted.clone()).with(&IDENTITY, identity);
        cases.push((ctx, format!("key {file}")));
    }
    for (settings, says) in cases {
        for backend in BOTH {
            let settings = settings.clone().with(&BACKEND, backend);
            // Clear text is offered, too: nothing may come of it.
            let ctx = tuyau_tls::over(derivations(settings.clone()), &TLS, &TCP);
            let error = silent(&says, ctx.offer_at(&TLS, 1).offer_at(&TCP, 2)).await;
            assert!(words(&error).contains(&says), "{error:#}");

            // On the way to a proxy neither that nor the target hears anything.
            let proxy = Untouched::new();
            let ctx = tuyau_tls::over(derivations(settings), &TLS, &TCP).offer(&TLS);
            let ctx = to(ctx, proxy.port()).via(Box::new(HttpConnect::new().over_tls()));
            let error = silent(&says, ctx.only(&TCP).offer(&TCP)).await;
            assert!(words(&error).contains(&says), "{error:#}");
            proxy.check(&says);
        }
    }
}

#[tokio::test]
async fn ssh_keys_that_cant_be_used() {
    let place = Place::new();
    let garbled = place.path("garbled");
    fs::write(&garbled, "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n")
        .expect("write");
    let (missing, directory) = (place.path("missing"), place.dir().to_str().expect("text").to_owned());
    for file in [missing, directory, garbled] {
        let bastion = Untouched::new();
        let hop = SshHop::new("ops")
            .host_keys(HostKeys::dangerous_accept_any())
            .identity(tuyau_ssh::Identity::file(&file));
        let error = silent(&file, near(bastion.port()).via(Box::new(hop))).await;
        assert!(words(&error).contains(&file), "{error:#}");
        bastion.check(&file);
    }
}

/// The server, known by its host key.
fn known(sshd: &Sshd) -> SshHop {
    SshHop::new(sshd.user()).host_keys(HostKeys::files([sshd.known_hosts()]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ssh_server_that_is_not_the_right_one() {
    let (sshd, other) = (peers::sshd(), peers::sshd());
    let hop = |hosts: PathBuf| {
        let hop = SshHop::new(sshd.user()).host_keys(HostKeys::files([hosts]));
        hop.identity(tuyau_ssh::Identity::file(sshd.identity())).ask(answering(RIGHT))
    };
    // Nothing is known of it.
    let ctx = near(sshd.port()).via(Box::new(hop(other.known_hosts())));
    let error = silent("unknown", ctx).await;
    assert_eq!(error.kind(), ConnectErrorKind::Verification, "{error:#}");
    // Another is.
    let host_key = fs::read_to_string(other.place().path("host_ed25519.pub")).expect("a key");
    let line = format!("[127.0.0.1]:{} {host_key}", sshd.port());
    fs::write(other.known_hosts(), line).expect("write");
    let ctx = near(sshd.port()).via(Box::new(hop(other.known_hosts())));
    let error = silent("changed", ctx).await;
    assert_eq!(error.kind(), ConnectErrorKind::Verification, "{error:#}");
    assert!(words(&error).contains("has changed"), "{error:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ssh_server_that_lets_nobody_in() {
    let (place, sshd) = (Place::new(), peers::sshd());
    let (strange, locked) = (place.path("strange"), place.path("locked"));
    keygen(&["-t", "ed25519", "-N", "", "-f", &strange]);
    fs::copy(sshd.identity(), &locked).expect("a key");
    fs::copy(sshd.place().path("id_ed25519.pub"), format!("{locked}.pub")).expect("a key");
    keygen(&["-p", "-P", "", "-N", PASSPHRASE, "-f", &locked]);
    let ways = [
        ("no key", known(&sshd)),
        ("another's key", known(&sshd).identity(tuyau_ssh::Identity::file(strange))),
        ("no passphrase", known(&sshd).identity(tuyau_ssh::Identity::file(&locked))),
        (
            "a wrong passphrase",
            known(&sshd).identity(tuyau_ssh::Identity::file(&locked)).ask(answering(WRONG)),
        ),
    ];
    for (what, hop) in ways {
        let error = silent(what, near(sshd.port()).via(Box::new(hop))).await;
        assert_eq!(error.kind(), ConnectErrorKind::Authentication, "{what}: {error:#}");
    }
    // The right one: it is the passphrase that was wrong.
    let hop = known(&sshd).identity(tuyau_ssh::Identity::file(&locked)).ask(answering(PASSPHRASE));
    assert_gets_through(near(sshd.port()).via(Box::new(hop))).await;

    // One that takes passwords.
    let server = SshServer::new(&[9; 32]).allow_password("ops", Secret::new(RIGHT));
    let host_key = server.host_key();
    let port = serving(move |flow| {
        let server = server.clone();
        async move { drop(server.serve(flow, host(), &derivations(Context::new())).await) }
    })
    .await;
    let hop = |asker| {
        let host_keys = HostKeys::only([host_key.as_str()]).expect("a key");
        SshHop::new("ops").host_keys(host_keys).ask(asker)
    };
    // The server takes its time to refuse one: it is tried once.
    let asked = Arc::new(AtomicBool::new(false));
    let once = Asker::new(move |_| {
        let again = asked.swap(true, Ordering::Relaxed);
        async move { (!again).then(|| Secret::new(WRONG)) }
    });
    let error = silent("a wrong password", near(port).via(Box::new(hop(once)))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Authentication, "{error:#}");
    assert_gets_through(near(port).via(Box::new(hop(answering(RIGHT))))).await;
}

#[tokio::test]
async fn a_proxy_that_lets_nobody_in() {
    let (socks, http) = (microsocks(Some(("somebody", RIGHT))), tinyproxy(Some(("somebody", RIGHT))));
    let (port, wrong) = (socks.port(), Credentials::new("somebody", WRONG));
    let right = Credentials::new("somebody", RIGHT);
    let by_proxy = || Socks5::new().lookup_by_proxy();
    let ways: [(&str, u16, Box<dyn Hop>); 5] = [
        ("socks5", port, Box::new(Socks5::new().with_credentials(wrong.clone()))),
        ("socks5h", port, Box::new(by_proxy().with_credentials(wrong.clone()))),
        ("socks5 without a password", port, Box::new(Socks5::new())),
        ("http", http.port(), Box::new(HttpConnect::new().with_credentials(wrong))),
        ("http without a password", http.port(), Box::new(HttpConnect::new())),
    ];
    for (what, port, hop) in ways {
        let error = silent(what, near(port).via(hop)).await;
        assert_eq!(error.kind(), ConnectErrorKind::Authentication, "{what}: {error:#}");
    }
    assert_gets_through(near(port).via(Box::new(Socks5::new().with_credentials(right.clone())))).await;
    assert_gets_through(near(http.port()).via(Box::new(HttpConnect::new().with_credentials(right)))).await;
}

/// That it works when all is right, that the socket would have noticed, and that this shows no secret either.
async fn assert_gets_through(ctx: Context) {
    let target = Untouched::new();
    let ctx = to(ctx, target.port());
    let resolved = ctx.resolve().await.unwrap_or_else(|error| panic!("{error:#}"));
    target.0.set_nonblocking(false).expect("blocking");
    target.0.accept().expect("it was connected");
    let texts = [renderings(&resolved.report()), renderings(&ctx.plan()), vec![format!("{ctx:?}")]].concat();
    assert_no_secret(&texts);
    assert_no_secret(&[format!("{:?}", resolved.into_flow())]);
}

async fn serving<F>(handler: impl Fn(Flow) -> F + Clone + Send + Sync + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let cx = ConnectCx::new(&derivations(Context::new())).expect("a context");
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into();
    let listener = host().listen(&any, &cx).await.expect("listen");
    let tuyau_core::Target::Addr(local) = listener.local() else { panic!("{}", listener.local()) };
    tokio::spawn(serve(listener, handler).into_future());
    local.port()
}

/// What a server does to a client that wants TLS.
#[derive(Clone)]
enum Server {
    /// It never heard of TLS.
    Says(&'static [u8]),
    /// It hangs up.
    HangsUp,
    /// It is not who it should be.
    Shows(Leaf),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clear_text_never_follows_tls_that_failed() {
    let (ca, other) = (Ca::new("CA"), Ca::new("Other"));
    let servers = [
        ("clear text", Server::Says(b"220 mail.test ESMTP\r\n")),
        ("hangs up", Server::HangsUp),
        ("expired", Server::Shows(ca.expired(&["a.test"]))),
        ("wrong host", Server::Shows(ca.leaf(&["b.test"]))),
        ("unknown authority", Server::Shows(other.leaf(&["a.test"]))),
        ("self-signed", Server::Shows(Leaf::self_signed(&["a.test"]))),
    ];
    for (what, server) in servers {
        for backend in BOTH {
            let (listener, port) = listening();
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let serving = tokio::spawn(record(listener, server.clone(), stopped));
            // A reset, or a failed handshake, is no reason to do without: were TCP tried, it would connect.
            let ctx = derivations(Context::new())
                .with(&BACKEND, backend)
                .with(&SERVER_NAME, "a.test".into())
                .with(&ROOTS, Roots::Der(Arc::new([ca.der().to_vec()])));
            let ctx = to(tuyau_tls::over(ctx, &TLS, &TCP), port).offer_at(&TLS, 1).offer_at(&TCP, 2);
            let error = ctx.resolve().await.map(drop).expect_err(what);
            let _ = stop.send(());
            let (listener, begun) = serving.await.expect("it serves");
            assert_eq!(
                begun,
                [Some(22)],
                "{what}, {backend}: not one connection, which begins with a handshake"
            );
            Untouched(listener).check(what);
            let left = words(&error);
            assert!(left.contains("tcp") && !left.contains("connected"), "{what}, {backend}: {left}");
            assert_no_secret(&[left]);
        }
    }
}

fn listening() -> (TcpListener, u16) {
    let Untouched(listener) = Untouched::new();
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// Does to each client what `server` does, until it is stopped: the first byte of each.
async fn record(
    listener: TcpListener,
    server: Server,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) -> (TcpListener, Vec<Option<u8>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
    let mut begun = vec![];
    loop {
        let mut stream = tokio::select! {
            biased;
            accepted = listener.accept() => accepted.expect("accept").0,
            _ = &mut stopped => return (listener.into_std().expect("it listens"), begun),
        };
        let mut first = [0];
        let n = stream.peek(&mut first).await.expect("read");
        begun.push((n == 1).then_some(first[0]));
        match &server {
            Server::Says(banner) => {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, banner).await;
                let _ = stream.read_to_end(&mut vec![]).await;
            }
            Server::HangsUp => drop(stream),
            Server::Shows(leaf) => {
                let identity = Identity::der(leaf.chain(), leaf.key());
                let tls = TlsServer::new(ServerSettings::new(identity)).expect("a server");
                let ctx = Context::new().with(&tuyau_core::names::RUNTIME, runtime());
                let cx = ConnectCx::new(&ctx).expect("a context");
                let flow = Flow::from_tokio(stream);
                if let Ok(mut flow) = tls.wrap(flow, Role::Server, &cx).await {
                    let _ = flow.read(&mut [0]).await;
                }
            }
        }
    }
}
