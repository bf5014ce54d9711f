//! Drivers as they are published, each over a context, to real servers: by TLS, through a real SSH server, through
//! a real SOCKS5 proxy, and by and through all of them.

#[path = "drivers/mail.rs"]
mod mail;
#[path = "drivers/postgres.rs"]
mod postgres;
#[path = "drivers/redis.rs"]
mod redis;
#[path = "drivers/stream.rs"]
mod stream;

use std::sync::Arc;

use tuyau_core::names::{HOST, PORT};
use tuyau_core::{AnyEndpoint, Context, Hop, Target};
use tuyau_proxy::Socks5;
use tuyau_ssh::{HostKeys, Identity, SshHop};
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{Proxy, Sshd, microsocks, sshd};
use tuyau_tls::{ROOTS, Roots};
use tuyau_tokio::{TCP, UNIX, UNIX_PATH, derivations};

/// A bastion and a proxy.
struct Between {
    sshd: Sshd,
    proxy: Proxy,
}

impl Between {
    fn new() -> Self {
        Self { sshd: sshd(), proxy: microsocks(None) }
    }

    fn socks5(&self) -> Context {
        to(base(), self.proxy.port()).offer(&TCP).via(Box::new(Socks5::new()))
    }

    fn ssh(&self) -> Context {
        to(base(), self.sshd.port()).offer(&TCP).via(self.bastion())
    }

    /// The bastion is reached by the proxy.
    fn ssh_over_socks5(&self) -> Context {
        to(self.socks5(), self.sshd.port()).via(self.bastion())
    }

    fn bastion(&self) -> Box<dyn Hop> {
        let hop = SshHop::new(self.sshd.user())
            .host_keys(HostKeys::files([self.sshd.known_hosts()]))
            .identity(Identity::file(self.sshd.identity()));
        Box::new(hop)
    }
}

fn base() -> Context {
    derivations(Context::new())
}

/// `ctx`, for `port` of the machine where it comes out.
fn to(ctx: Context, port: u16) -> Context {
    ctx.with(&HOST, "127.0.0.1".into()).with(&PORT, port)
}

/// By TCP, and by nothing else.
fn by_tcp(ctx: Context, port: u16) -> Context {
    by(to(ctx, port), &TCP)
}

/// A socket in the file system of the machine where `ctx` comes out.
fn by_socket(ctx: Context, path: &std::path::Path) -> Context {
    by(ctx.with(&UNIX_PATH, Target::path(path.as_os_str().as_encoded_bytes())), &UNIX)
}

fn by(ctx: Context, endpoint: &'static dyn AnyEndpoint) -> Context {
    ctx.offer(endpoint).only(endpoint)
}

fn trusting(ctx: Context, ca: &Ca) -> Context {
    ctx.with(&ROOTS, Roots::Der(Arc::new([ca.der().to_vec()])))
}

/// That `ctx` goes through just these, whatever each of them does in steps of its own.
async fn assert_goes_through(ctx: &Context, hops: &[&str]) {
    let report = ctx.explain().await;
    let winner = &report.candidates[report.winner.unwrap_or_else(|| panic!("{report:#}"))];
    let is_hop = |name: &&str| ["socks5", "ssh"].contains(name);
    let through: Vec<_> = winner.hops.iter().map(|hop| hop.name.as_str()).filter(is_hop).collect();
    assert_eq!(through, hops, "{report:#}");
}
