//! Every flow of this crate passes the suite.
#![cfg(unix)]

use tuyau_core::{Accepted, ConnectCx, Context, Flow, Listener, Net, Protocol, Target};
use tuyau_testing::{Abilities, Pair, PassThrough, flow_conformance};
use tuyau_tokio::{Command, Exec, Fifo, FifoPair, Host, MemHub, duplex, listen_fifo};

fn cx() -> ConnectCx<'static> {
    ConnectCx::new(&tuyau_tokio::derivations(Context::new())).expect("a context")
}

async fn accept(listener: &mut Listener) -> Flow {
    match listener.accept().await.expect("accept") {
        Accepted::Flow(flow) => flow,
        Accepted::Handshake(_) | Accepted::HandshakeWith(..) => panic!("no transport here has a handshake"),
    }
}

async fn over_host(target: Target) -> Pair {
    let (host, cx) = (Host::new(), cx());
    let mut listener = host.listen(&target, &cx).await.expect("listen");
    let target = listener.local();
    let (client, server) = tokio::join!(host.connect(&target, &cx), accept(&mut listener));
    Pair::new(client.expect("connect"), server).keep(listener)
}

async fn tcp_v4() -> Pair {
    over_host(Target::Addr(([127, 0, 0, 1], 0).into())).await
}

async fn tcp_v6() -> Pair {
    over_host("[::1]:0".parse::<std::net::SocketAddr>().expect("an address").into()).await
}

async fn unix_path() -> Pair {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s").into_os_string().into_encoded_bytes();
    over_host(Target::path(path)).await.keep(dir)
}

#[cfg(target_os = "linux")]
async fn unix_abstract() -> Pair {
    over_host(tuyau_testing::abstract_target()).await
}

async fn mem() -> Pair {
    let (a, b) = duplex();
    Pair::new(a, b)
}

async fn mem_by_name() -> Pair {
    let hub = MemHub::new();
    let mut listener = hub.listen("name").expect("listen");
    let client = hub.connect("name").await.expect("connect");
    let server = accept(&mut listener).await;
    Pair::new(client, server).keep(listener)
}

/// Memory through wrappers: what a wrapper must pass on.
async fn wrapped() -> Pair {
    let (a, b) = duplex();
    Pair::new(PassThrough::nested(a, 5), PassThrough::nested(b.with_unread(Vec::new()), 5))
}

/// A Unix socket pair, as whoever brings a stream of his own would use it.
async fn from_tokio() -> Pair {
    let (a, b) = tokio::net::UnixStream::pair().expect("a pair");
    let facts = |_: &tokio::net::UnixStream, ask: &mut tuyau_core::Ask<'_>| {
        let target = || Target::Described("a pair".into());
        ask.answer(&tuyau_core::names::PEER, target).answer(&tuyau_core::names::LOCAL, target);
    };
    Pair::new(Flow::from_tokio_with(a, facts), Flow::from_tokio_with(b, facts))
}

async fn fifo() -> Pair {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().join("f");
    let mut listener = listen_fifo(FifoPair::server(&base)).expect("listen");
    let cx = cx();
    let (client, server) = tokio::join!(Fifo.connect(FifoPair::client(&base), &cx), accept(&mut listener));
    Pair::new(client.expect("connect"), server).keep(listener).keep(dir)
}

/// A child that carries bytes between its standard streams and a pair of FIFOs: the other end is a
/// flow over those.
async fn exec() -> Pair {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().join("f");
    let mut listener = listen_fifo(FifoPair::server(&base)).expect("listen");
    // The last to hold the child's output is the `cat` that copies to it, and likewise its input.
    let line = format!(
        "exec 3<&0 </dev/null; cat <&3 3<&- >{base}.in & exec 3<&-; exec cat <{base}.out",
        base = base.display()
    );
    let cx = cx();
    let (child, server) = tokio::join!(Exec.connect(Command::shell(line), &cx), accept(&mut listener));
    Pair::new(child.expect("spawn"), server).keep(listener).keep(dir)
}

/// A pipe does not tell that its writer left bytes of the other direction unread.
const PIPES: Abilities = Abilities { reset: false, ..Abilities::ALL };
/// Dropping the flow kills the child, with all that it has not passed on.
const CHILD: Abilities = Abilities { reset: false, drop_delivers: false, ..Abilities::ALL };

flow_conformance!(over_tcp_v4, Abilities::ALL, tcp_v4);
flow_conformance!(over_tcp_v6, Abilities::ALL, tcp_v6);
flow_conformance!(over_unix_path, Abilities::ALL, unix_path);
#[cfg(target_os = "linux")]
flow_conformance!(over_unix_abstract, Abilities::ALL, unix_abstract);
flow_conformance!(over_mem, Abilities::ALL, mem);
flow_conformance!(over_mem_by_name, Abilities::ALL, mem_by_name);
flow_conformance!(over_wrappers, Abilities::ALL, wrapped);
flow_conformance!(over_from_tokio, Abilities::ALL, from_tokio);
flow_conformance!(over_fifo, PIPES, fifo);
flow_conformance!(over_exec, CHILD, exec);
