//! What the tour goes through: a SOCKS5 and an HTTP proxy, an SSH server and a network of its own, with a certificate made for
//! the occasion.

use std::path::Path;

#[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
use tokio::task::JoinSet;

use crate::exit::Failure;
#[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
use crate::exit::in_a_line;

/// Servers that end when this is dropped.
#[derive(Debug)]
pub(super) struct Servers {
    /// The file with the certificate, which signs itself.
    #[cfg(feature = "tls")]
    pub(super) cert: String,
    #[cfg(feature = "tls")]
    pub(super) key: String,
    #[cfg(feature = "socks5")]
    pub(super) socks5: String,
    #[cfg(feature = "socks5")]
    pub(super) socks5h: String,
    #[cfg(feature = "http")]
    pub(super) http: String,
    #[cfg(feature = "ssh")]
    pub(super) ssh: String,
    #[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
    _tasks: JoinSet<()>,
}

impl Servers {
    /// Starts them; `dir` is for their files.
    #[cfg_attr(
        not(all(feature = "http", feature = "socks5", feature = "ssh", feature = "tls")),
        allow(unused, clippy::unused_async, reason = "there may be none that need it")
    )]
    pub(super) async fn start(dir: &Path) -> Result<Self, Failure> {
        #[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
        let mut tasks = JoinSet::new();
        #[cfg(feature = "tls")]
        let (cert, key) = certificate(dir)?;
        #[cfg(feature = "socks5")]
        let socks5 = socks5(&mut tasks).await?;
        Ok(Self {
            #[cfg(feature = "tls")]
            cert,
            #[cfg(feature = "tls")]
            key,
            #[cfg(feature = "socks5")]
            socks5: format!("socks5://{socks5}"),
            #[cfg(feature = "socks5")]
            socks5h: format!("socks5h://{socks5}"),
            #[cfg(feature = "http")]
            http: format!("http://{}", http(&mut tasks).await?),
            #[cfg(feature = "ssh")]
            ssh: ssh(dir, &mut tasks).await?,
            #[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
            _tasks: tasks,
        })
    }
}

#[cfg(any(feature = "ssh", feature = "tls"))]
fn write(dir: &Path, name: &str, text: &str) -> Result<String, Failure> {
    let file = dir.join(name);
    std::fs::write(&file, text).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    Ok(file.display().to_string())
}

#[cfg(feature = "tls")]
fn certificate(dir: &Path) -> Result<(String, String), Failure> {
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| Failure::Failed(format!("a certificate for the tour: {error}")))?;
    let cert = write(dir, "cert.pem", &made.cert.pem())?;
    Ok((cert, write(dir, "key.pem", &made.signing_key.serialize_pem())?))
}

/// Serves whoever connects to a port of this machine, and says which.
#[cfg(any(feature = "http", feature = "socks5", feature = "ssh"))]
async fn serve<Fut>(
    tasks: &mut JoinSet<()>,
    handler: impl Fn(tuyau::Flow) -> Fut + Send + Sync + 'static,
) -> Result<String, Failure>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = tuyau::listen("tcp://127.0.0.1:0").await?;
    let local = listener.local().to_string();
    let serving = tuyau::serve(listener, handler).into_future();
    tasks.spawn(async move {
        serving.await;
    });
    Ok(local)
}

#[cfg(feature = "socks5")]
async fn socks5(tasks: &mut JoinSet<()>) -> Result<String, Failure> {
    let ctx = tuyau::context().offer(&tuyau_tokio::TCP);
    let server = tuyau::proxy::Socks5Server::new(ctx).map_err(|error| Failure::Failed(in_a_line(&error)))?;
    serve(tasks, move |flow| {
        let server = server.clone();
        async move {
            if let Err(error) = server.serve(flow).await {
                tracing::warn!("the SOCKS5 proxy of the tour: {}", in_a_line(&error));
            }
        }
    })
    .await
}

#[cfg(feature = "http")]
async fn http(tasks: &mut JoinSet<()>) -> Result<String, Failure> {
    let ctx = tuyau::context().offer(&tuyau_tokio::TCP);
    let server =
        tuyau::proxy::HttpConnectServer::new(ctx).map_err(|error| Failure::Failed(in_a_line(&error)))?;
    serve(tasks, move |flow| {
        let server = server.clone();
        async move {
            if let Err(error) = server.serve(flow).await {
                tracing::warn!("the HTTP proxy of the tour: {}", in_a_line(&error));
            }
        }
    })
    .await
}

#[cfg(feature = "ssh")]
async fn ssh(dir: &Path, tasks: &mut JoinSet<()>) -> Result<String, Failure> {
    use std::fmt::Write;
    use tuyau::ssh::{Secret, SshServer};

    let mut random = [0; 48];
    getrandom::fill(&mut random).map_err(|error| Failure::Failed(format!("random numbers: {error}")))?;
    let (seed, rest) = random.split_at(32);
    let seed: [u8; 32] = seed.try_into().map_err(|_| Failure::Failed("a seed of 32 bytes".into()))?;
    let mut password = String::new();
    for byte in rest {
        let _ = write!(password, "{byte:02x}");
    }
    let server = SshServer::new(&seed).allow_password("tour", Secret::new(password.as_str()));
    let host_key = server.host_key();
    let local = serve(tasks, move |flow| {
        let server = server.clone();
        async move {
            let ctx = tuyau::context();
            if let Err(error) = server.serve(flow, tuyau_tokio::host(), &ctx).await {
                tracing::warn!("the SSH server of the tour: {}", in_a_line(&error));
            }
        }
    })
    .await?;
    let (host, port) = local.rsplit_once(':').unwrap_or((&local, "22"));
    let known = self::write(dir, "known_hosts", &format!("[{host}]:{port} {host_key}\n"))?;
    Ok(format!("ssh://tour:{password}@{local}?known-hosts={known}"))
}

/// Two TCP/IP stacks of our own on one wire in memory: that of the server, 10.0.0.2, and that of the client.
#[cfg(feature = "tap")]
pub(super) fn linked() -> Result<(tuyau::SharedNet, tuyau::SharedNet), Failure> {
    use tuyau_stack::{Conditions, Config, Link, Stack};

    let runtime = tuyau_tokio::runtime();
    let (here, there) = Link::new(runtime.clone(), Conditions::new(), 7).ends();
    let failed = |error| Failure::Failed(crate::exit::in_a_line(&error));
    let server =
        Stack::new(Config::new().address([10, 0, 0, 2], 24), there, runtime.clone()).map_err(failed)?;
    let client = Stack::new(Config::new().address([10, 0, 0, 1], 24), here, runtime).map_err(failed)?;
    Ok((server.into(), client.into()))
}
