//! The stages of the tour: how a server comes about, and how it is connected to.

use std::path::{Path, PathBuf};

use tuyau::SharedNet;

use super::servers::Servers;
use crate::exit::Failure;

/// One transport, with what lies over it and what is gone through.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) server: Server,
    /// What the client goes through, nearest first.
    pub(super) via: Vec<String>,
    /// What the server listens on and the client dials through, if not the host's.
    pub(super) nets: Option<(SharedNet, SharedNet)>,
    /// Why this machine can't have it, if it can't.
    pub(super) absent: Option<&'static str>,
}

#[derive(Debug)]
pub(super) enum Server {
    /// In this process.
    Here {
        /// The URI to listen on.
        listen: String,
        connect: Connect,
        /// The options to connect with.
        options: String,
    },
    #[cfg_attr(not(feature = "exec"), expect(dead_code, reason = "no program is started"))]
    /// A program that the client starts, which appends what it sees to a file.
    Program { connect: String, seen: PathBuf },
}

/// Where the client connects to.
#[derive(Debug)]
pub(super) enum Connect {
    /// What is listened on.
    Same,
    /// This host, at the port that the system chose.
    Host(&'static str),
}

impl Stage {
    fn of(name: &'static str, server: Server) -> Self {
        Self { name, server, via: Vec::new(), nets: None, absent: None }
    }

    fn here(name: &'static str, listen: impl Into<String>, connect: Connect) -> Self {
        Self::with(name, listen, connect, String::new())
    }

    fn with(name: &'static str, listen: impl Into<String>, connect: Connect, options: String) -> Self {
        Self::of(name, Server::Here { listen: listen.into(), connect, options })
    }

    #[cfg(any(feature = "exec", feature = "http", feature = "socks5", feature = "ssh"))]
    fn via<const N: usize>(self, hops: [&str; N]) -> Self {
        Self { via: hops.map(str::to_owned).into(), ..self }
    }
}

const HERE: &str = "127.0.0.1";
const TCP: &str = "tcp://127.0.0.1:0";

/// All of them; `dir` is for what needs a place in the file system.
pub(super) fn stages(dir: &Path, servers: &Servers) -> Result<Vec<Stage>, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("where this program is: {error}")))?;
    let program = program.to_string_lossy();
    let at = |scheme: &str, name: &str| format!("{scheme}:{}", dir.join(name).display());
    let mut stages = vec![
        Stage::here("tcp v4", TCP, Connect::Host(HERE)),
        Stage { absent: no_ipv6(), ..Stage::here("tcp v6", "tcp://[::1]:0", Connect::Host("[::1]")) },
        Stage::here("tcp name", "tcp://localhost:0", Connect::Host("localhost")),
        Stage::here("unix", at("unix", "socket"), Connect::Same),
    ];
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        stages.push(Stage::here("unix @", format!("unix:@{name}"), Connect::Same));
    }
    #[cfg(feature = "exec")]
    for scheme in ["exec", "sh"] {
        let seen = dir.join(format!("{scheme}.seen"));
        let words = [&*program, "demo", "server", "-", "--seen", &*seen.to_string_lossy()];
        let connect = format!("{scheme}:{}", shell_words::join(words));
        stages.push(Stage::of(scheme, Server::Program { connect, seen }));
    }
    stages.push(Stage::here("fifo", at("fifo", "pipe"), Connect::Same));
    stages.push(Stage::here("mem", "mem:tour", Connect::Same));
    layers(&mut stages, servers, &at);
    hops(&mut stages, servers, &program);
    #[cfg(feature = "tap")]
    stages.push(Stage {
        nets: Some(super::servers::linked()?),
        ..Stage::here("own stack", "tcp://10.0.0.2:4343", Connect::Same)
    });
    Ok(stages)
}

/// What lies over a transport.
#[cfg_attr(not(feature = "tls"), allow(unused, clippy::ptr_arg, reason = "there may be none that need it"))]
fn layers(stages: &mut Vec<Stage>, servers: &Servers, at: &dyn Fn(&str, &str) -> String) {
    #[cfg(feature = "tls")]
    {
        let files = |layer: &str| format!("{layer}cert={}&{layer}key={}", servers.cert, servers.key);
        let trusts = |layer: &str| format!("{layer}cacert={}", servers.cert);
        let tls = |name, backend: &str| {
            let listen = format!("tls://127.0.0.1:0?{}&backend={backend}", files(""));
            Stage::with(name, listen, Connect::Host(HERE), format!("?{}&backend={backend}", trusts("")))
        };
        stages.push(tls("tls", "rustls"));
        #[cfg(feature = "openssl")]
        stages.push(tls("tls ossl", "openssl"));
        let listen = format!("tls+tls://127.0.0.1:0?{}&{}", files("tls.1."), files("tls.2."));
        let options = format!("?{}&{}", trusts("tls.1."), trusts("tls.2."));
        stages.push(Stage::with("tls+tls", listen, Connect::Host(HERE), options));
        let listen = format!("{}?{}", at("tls+unix", "tls"), files(""));
        stages.push(Stage::with("tls+unix", listen, Connect::Same, format!("?{}&sni=localhost", trusts(""))));
        #[cfg(feature = "ws")]
        stages.push(Stage::with(
            "wss",
            format!("wss://127.0.0.1:0?{}", files("")),
            Connect::Host(HERE),
            format!("?{}", trusts("")),
        ));
    }
    #[cfg(feature = "ws")]
    stages.push(Stage::here("ws", "ws://127.0.0.1:0", Connect::Host(HERE)));
}

/// What is gone through.
#[cfg_attr(
    not(all(feature = "exec", feature = "http", feature = "socks5", feature = "ssh")),
    allow(unused, clippy::ptr_arg, reason = "there may be none that need it")
)]
fn hops(stages: &mut Vec<Stage>, servers: &Servers, program: &str) {
    let tcp = |name| Stage::here(name, TCP, Connect::Host(HERE));
    #[cfg(feature = "exec")]
    {
        let command = shell_words::join([program, "connect", "tcp://%h:%p"]);
        stages.push(tcp(">exec").via([&format!("exec:{command}")]));
    }
    #[cfg(feature = "socks5")]
    {
        stages.push(tcp(">socks5").via([&servers.socks5]));
        stages.push(tcp(">socks5h").via([&servers.socks5h]));
    }
    #[cfg(feature = "http")]
    stages.push(tcp(">http").via([&servers.http]));
    #[cfg(feature = "ssh")]
    stages.push(tcp(">ssh").via([&servers.ssh]));
    #[cfg(all(feature = "socks5", feature = "ssh", feature = "tls"))]
    {
        let tls = |name| {
            let listen = format!("tls://127.0.0.1:0?cert={}&key={}", servers.cert, servers.key);
            Stage::with(name, listen, Connect::Host(HERE), format!("?cacert={}", servers.cert))
        };
        stages.push(tls(">>tls").via([&servers.socks5h, &servers.ssh]));
        #[cfg(feature = "http")]
        stages.push(tls(">>>tls").via([&servers.http, &servers.socks5h, &servers.ssh]));
    }
}

fn no_ipv6() -> Option<&'static str> {
    let bound = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0));
    bound.is_err().then_some("this machine has no IPv6 loopback address")
}
