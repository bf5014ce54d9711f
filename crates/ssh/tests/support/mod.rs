//! What the tests share.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::error::Error;

use tuyau_core::names::{HOST, PORT, RUNTIME};
use tuyau_core::{ConnectCx, ConnectError, Context, Flow, Listener, Target};
use tuyau_ssh::{HostKeys, Identity, Ssh, SshHop};
use tuyau_testing::CountingNet;
use tuyau_testing::peers::Sshd;
use tuyau_tokio::{TCP, derivations, host, runtime};

/// The user whom the server lets in, who knows the server's key, and nothing else.
pub(crate) fn known(sshd: &Sshd) -> SshHop {
    SshHop::new(sshd.user()).host_keys(HostKeys::files([sshd.known_hosts()]))
}

/// With the key that opens it.
pub(crate) fn hop(sshd: &Sshd) -> SshHop {
    known(sshd).identity(Identity::file(sshd.identity()))
}

/// A context that reaches `port` of this machine.
pub(crate) fn to_port(port: u16) -> Context {
    derivations(Context::new().with(&HOST, "127.0.0.1".into()).with(&PORT, port)).offer(&TCP)
}

pub(crate) fn outer(sshd: &Sshd) -> Context {
    to_port(sshd.port())
}

pub(crate) fn ssh(sshd: &Sshd) -> Ssh {
    Ssh::new(hop(sshd), outer(sshd))
}

pub(crate) fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&Context::new().with(&RUNTIME, runtime())).expect("a context")
}

/// A listener of this machine's on a port of its own.
pub(crate) async fn listener() -> Listener {
    host().listen(&Target::Addr("127.0.0.1:0".parse().expect("an address")), &cx()).await.expect("listen")
}

pub(crate) async fn accept(listener: &mut Listener) -> Flow {
    listener.accept().await.expect("accept").finish().await.expect("no handshake")
}

/// An error and its causes and hint, as people see them.
pub(crate) fn told(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text} [{hint}]"),
        None => text,
    }
}

/// This machine's net, which counts the connections that it makes.
pub(crate) fn counting() -> CountingNet {
    CountingNet::new(host())
}
