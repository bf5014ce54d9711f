//! One connection carries many flows: made once, made anew, and left behind by nobody.

mod support;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tuyau_core::names::{DEADLINE, HOST, POLICY, PORT, RUNTIME, SECURITY};
use tuyau_core::{
    ConnectCx, ConnectErrorKind, Context, Flow, FlowErrorKind, Net, Policy, Protection, Target,
};
use tuyau_ssh::{
    CommandFailed, EXIT, Exit, HOST_KEY, Keepalive, SSH_COMMAND, SSH_EXEC, SessionEnded, Ssh, SshCommand,
    exec,
};
use tuyau_testing::peers::{sshd, sshd_with};
use tuyau_tokio::{IP, runtime};

use support::{accept, counting, cx, hop, listener, outer, ssh, to_port, told};

async fn echo(mut flow: Flow) {
    let mut bytes = [0; 4096];
    while let Ok(n @ 1..) = flow.read(&mut bytes).await {
        flow.write_all(&bytes[..n]).await.expect("write");
    }
    let _ = flow.shutdown().await;
}

/// A server on this machine that echoes, until it is dropped with the set.
async fn echo_server() -> (Target, JoinSet<()>) {
    let mut listener = listener().await;
    let target = listener.local();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut flows = JoinSet::new();
        loop {
            flows.spawn(echo(accept(&mut listener).await));
        }
    });
    (target, tasks)
}

async fn says_it_back(flow: &mut Flow, word: &[u8]) {
    flow.write_all(word).await.expect("write");
    let mut got = vec![0; word.len()];
    flow.read_exact(&mut got).await.expect("read");
    assert!(got == word, "the bytes differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_flows_at_once_share_one_connection() {
    let (sshd, counting) = (sshd(), counting());
    let (target, _echo) = echo_server().await;
    let ssh = Ssh::new(hop(&sshd), counting.under(outer(&sshd)));
    let mut flows = JoinSet::new();
    for n in 0..50u8 {
        let (ssh, target) = (ssh.clone(), target.clone());
        flows.spawn(async move {
            let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
            says_it_back(&mut flow, &[n; 1000]).await;
            flow
        });
    }
    let flows = flows.join_all().await;
    assert_eq!((flows.len(), counting.made()), (50, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_ends_its_flows_with_a_reason_and_is_connected_to_anew() {
    let (mut sshd, counting) = (sshd(), counting());
    let (target, _echo) = echo_server().await;
    let ssh = Ssh::new(hop(&sshd), counting.under(outer(&sshd)));
    let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
    says_it_back(&mut flow, b"before").await;
    sshd.kill();
    let error = flow.read(&mut [0; 8]).await.expect_err("an end");
    assert_eq!(error.kind(), FlowErrorKind::Reset);
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<SessionEnded>());
    let text = source.expect("says why").to_string();
    assert!(text.contains(&format!("@127.0.0.1:{} ended: ", sshd.port())), "{text}");
    let mut written = Ok(());
    while written.is_ok() {
        written = flow.write_all(&[0; 65536]).await;
    }
    assert_eq!(written.map_err(|error| error.kind()), Err(FlowErrorKind::BrokenPipe));

    let error = ssh.connect(&target, &cx()).await.expect_err("connected to nobody");
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    sshd.restart();
    let mut flow = ssh.connect(&target, &cx()).await.expect("a failure is not remembered");
    says_it_back(&mut flow, b"after").await;
    assert_eq!(counting.made(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_ends_with_the_last_flow_and_net() {
    let sshd = sshd();
    let (target, _echo) = echo_server().await;
    // A relay in between sees when the connection ends.
    let mut relay = listener().await;
    let outer = to_port(match relay.local() {
        Target::Addr(address) => address.port(),
        other => panic!("{other}"),
    });
    let port = sshd.port();
    let relaying = tokio::spawn(async move {
        let mut near = accept(&mut relay).await;
        let mut far = to_port(port).resolve().await.expect("sshd").into_flow();
        // Whoever hangs up first may leave bytes unread.
        let _ = tuyau_core::copy_bidirectional(&mut near, &mut far).await;
    });
    let hop = hop(&sshd).host_key_alias("server");
    let key = std::fs::read_to_string(sshd.place().path("host_ed25519.pub")).expect("a key");
    std::fs::write(sshd.known_hosts(), format!("server {key}")).expect("write");
    let ssh = Ssh::new(hop, outer);
    let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
    drop(ssh);
    says_it_back(&mut flow, b"still here").await;
    assert!(!relaying.is_finished());
    drop(flow);
    tokio::time::timeout(Duration::from_secs(20), relaying)
        .await
        .expect("the connection ends")
        .expect("no panic");
}

#[test]
fn flows_and_listeners_may_be_dropped_anywhere() {
    let sshd = sshd();
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let make = async || {
        let (target, echo) = echo_server().await;
        let ssh = ssh(&sshd);
        let flow = ssh.connect(&target, &cx()).await.expect("connect");
        let listener = ssh.listen(&Target::name("127.0.0.1", 0), &cx()).await.expect("listen");
        (flow, listener, ssh, echo)
    };
    let (flow, listener, ssh, _echo) = tokio.block_on(make());
    // On a thread that is none of the runtime's.
    drop((flow, listener, ssh));
    let left = tokio.block_on(make());
    drop(tokio);
    // After it.
    drop(left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_gives_up_leaves_the_connecting_to_those_who_wait() {
    let (sshd, counting) = (sshd(), counting());
    let (target, _echo) = echo_server().await;
    let ssh = Ssh::new(hop(&sshd), counting.under(outer(&sshd)));
    let cx = cx();
    let mut first = ssh.connect(&target, &cx);
    assert!(futures_poll(&mut first).await.is_none(), "it can't be there at once");
    let second = tokio::spawn({
        let (ssh, target) = (ssh.clone(), target.clone());
        async move { ssh.connect(&target, &support::cx()).await.expect("connect") }
    });
    tokio::task::yield_now().await;
    drop(first);
    says_it_back(&mut second.await.expect("no panic"), b"mine").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_more_time_says_nothing_of_the_server_to_who_has() {
    let sshd = sshd();
    let (target, _echo) = echo_server().await;
    let hangs = AtomicBool::new(true);
    let outer = outer(&sshd).derive(&IP, (), move |()| {
        let hangs = hangs.swap(false, Ordering::SeqCst);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok(IpAddr::from([127, 0, 0, 1]))
        }
    });
    let ssh = Ssh::new(hop(&sshd), outer);
    let hurried = Context::new().with(&RUNTIME, runtime()).with(&DEADLINE, Duration::from_millis(50));
    let (hurried, patient) = (ConnectCx::new(&hurried).expect("a context"), cx());
    let (first, second) = tokio::join!(ssh.connect(&target, &hurried), ssh.connect(&target, &patient));
    let error = first.expect_err("the lookup hangs");
    assert_eq!(error.kind(), ConnectErrorKind::TimedOut);
    assert!(told(&error).contains("the deadline passed, while deriving ip"), "{}", told(&error));
    says_it_back(&mut second.expect("it makes the connection itself"), b"mine").await;
}

async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flow_that_nobody_reads_does_not_keep_new_ones_waiting() {
    let (sshd, counting) = (sshd(), counting());
    let mut flooding = listener().await;
    let target = flooding.local();
    let flood = tokio::spawn(async move {
        let mut flow = accept(&mut flooding).await;
        while flow.write_all(&[7; 65536]).await.is_ok() {}
    });
    let ssh = Ssh::new(hop(&sshd), counting.under(outer(&sshd)));
    let mut stuck = ssh.connect(&target, &cx()).await.expect("connect");
    let (target, _echo) = echo_server().await;
    // Until the first connection is full, flows over it work; then there is a second.
    let mut over_it = Vec::new();
    while counting.made() == 1 {
        let one = async {
            let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
            says_it_back(&mut flow, b"hello").await;
            flow
        };
        over_it.extend(tokio::time::timeout(Duration::from_millis(500), one).await.ok());
    }
    let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
    says_it_back(&mut flow, b"hello").await;
    // Once it is read, the first goes on.
    let mut bytes = vec![0; 1 << 20];
    let mut total = 0;
    while total < 32 << 20 {
        total += stuck.read(&mut bytes).await.expect("read");
    }
    for flow in &mut over_it {
        // Read on, or the connection is full again.
        tokio::select! {
            () = says_it_back(flow, b"again") => {}
            () = async { while stuck.read(&mut bytes).await.is_ok() {} } => panic!("the flood ended"),
        }
    }
    drop(stuck);
    tokio::time::timeout(Duration::from_secs(20), flood).await.expect("it is told").expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_found_dead() {
    let (sshd, relay) = (sshd(), listener().await);
    let Target::Addr(address) = relay.local() else { panic!() };
    // Passes bytes on until it is told to stop, and then keeps silent.
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let port = sshd.port();
    tokio::spawn(async move {
        let mut relay = relay;
        let mut near = accept(&mut relay).await;
        let mut far = to_port(port).resolve().await.expect("sshd").into_flow();
        tokio::select! {
            _ = tuyau_core::copy_bidirectional(&mut near, &mut far) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        std::future::pending::<()>().await;
    });
    let key = std::fs::read_to_string(sshd.place().path("host_ed25519.pub")).expect("a key");
    std::fs::write(sshd.known_hosts(), format!("server {key}")).expect("write");
    let keepalive = Keepalive { interval: Duration::from_millis(100), count: 2 };
    let ssh = Ssh::new(hop(&sshd).host_key_alias("server").keepalive(keepalive), to_port(address.port()));
    let (target, _echo) = echo_server().await;
    let mut flow = ssh.connect(&target, &cx()).await.expect("connect");
    says_it_back(&mut flow, b"alive").await;
    stop.send(true).expect("the relay");
    let error = flow.read(&mut [0; 8]).await.expect_err("an end");
    assert!(format!("{error:?}").contains("the server no longer answers"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_costs_no_more_than_the_deadline() {
    let listener = listener().await;
    let Target::Addr(address) = listener.local() else { panic!() };
    let mut listener = listener;
    let sshd = sshd();
    let ctx = to_port(address.port()).via(Box::new(hop(&sshd)));
    let ctx = ctx.replace(&HOST, "db".into()).with(&DEADLINE, Duration::from_millis(300));
    let resolving = tokio::spawn(async move { ctx.resolve().await.map(drop) });
    let mut silent = accept(&mut listener).await;
    let error = resolving.await.expect("no panic").expect_err("connected");
    assert!(error.to_string().contains("deadline"), "{error}");
    // Nothing is left behind: the connection is closed.
    let mut bytes = [0; 256];
    while silent.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hop_is_seen_and_policies_bind_them() {
    let sshd = sshd();
    let (target, _echo) = echo_server().await;
    let Target::Addr(address) = target else { panic!() };
    let ctx = outer(&sshd).via(Box::new(hop(&sshd))).replace(&PORT, address.port());
    let mut resolved = ctx.resolve().await.expect("resolve");
    says_it_back(&mut resolved, b"through").await;
    let report = format!("{:#}", resolved.report());
    assert!(report.contains("ssh") && report.contains(&format!("127.0.0.1:{}", sshd.port())), "{report}");
    assert_eq!(resolved.fact(&SECURITY), Some(Protection::Clear), "beyond the server it is");
    let key = resolved.fact(&HOST_KEY).expect("a key");
    assert!(key.starts_with("ssh-ed25519 SHA256:"), "{key}");

    // The hop to the server is encrypted, what is behind it is not: TCP itself is refused, …
    let encrypted = ctx.clone().with(&POLICY, Policy::new().encrypted_on_every_hop());
    let error = encrypted.resolve().await.map(drop).expect_err("in clear");
    assert!(error.to_string().contains("encryption"), "{error}");
    // … but a command on it is encrypted from end to end, on each hop.
    let server = Ssh::new(hop(&sshd), outer(&sshd));
    let ctx = exec(Context::new().with(&tuyau_core::names::RUNTIME, runtime()), server)
        .with(&SSH_COMMAND, SshCommand::line("echo there"))
        .offer(&SSH_EXEC)
        .with(&POLICY, Policy::new().encrypted_on_every_hop());
    let mut flow = ctx.resolve().await.expect("resolve").into_flow();
    assert_eq!(flow.fact(&SECURITY), Some(Protection::Authenticated));
    assert_eq!(read(&mut flow).await.expect("read"), b"there\n");

    // Only what the policy allows is dialled, on both sides.
    let elsewhere = || Policy::new().only_networks(["192.0.2.0/24".parse().expect("a network")]);
    let counting = counting();
    let ctx = counting.under(outer(&sshd)).via(Box::new(hop(&sshd))).with(&POLICY, elsewhere());
    let _ = ctx.resolve().await.map(drop).expect_err("dialled");
    let ctx = ctx.replace(&HOST, "192.0.2.1".into());
    let _ = ctx.resolve().await.map(drop).expect_err("dialled");
    assert_eq!(counting.made(), 0);
}

async fn read(flow: &mut Flow) -> Result<Vec<u8>, tuyau_core::FlowError> {
    let (mut all, mut part) = (Vec::new(), [0; 1024]);
    loop {
        match flow.read(&mut part).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

async fn run(ssh: &Ssh, command: SshCommand) -> Flow {
    let ctx = exec(Context::new().with(&tuyau_core::names::RUNTIME, runtime()), ssh.clone());
    ctx.with(&SSH_COMMAND, command).offer(&SSH_EXEC).resolve().await.expect("resolve").into_flow()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_tell_how_they_ended() {
    let sshd = sshd();
    let ssh = ssh(&sshd);
    let mut cat = run(&ssh, SshCommand::line("cat")).await;
    cat.write_all(b"to and fro").await.expect("write");
    cat.shutdown().await.expect("shutdown");
    assert_eq!(read(&mut cat).await.expect("read"), b"to and fro");
    assert_eq!(cat.fact(&EXIT), Some(Exit::Status(0)));

    let mut fails = run(&ssh, SshCommand::line("echo out; echo why >&2; exit 3")).await;
    let error = read(&mut fails).await.expect_err("no failure");
    assert_eq!((error.kind(), fails.fact(&EXIT)), (FlowErrorKind::UnexpectedEof, Some(Exit::Status(3))));
    let failed = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<CommandFailed>());
    assert_eq!(
        failed.expect("says why").to_string(),
        "`echo out; echo why >&2; exit 3` ended with exit status: 3, and said: why"
    );

    let said = Arc::new(Mutex::new(Vec::new()));
    let sink = said.clone();
    let command = SshCommand::line("echo aside >&2; kill -TERM $$");
    let command = command.stderr(move |bytes| sink.lock().expect("no panic").extend_from_slice(bytes));
    let mut killed = run(&ssh, command).await;
    let error = read(&mut killed).await.expect_err("no failure");
    assert_eq!(killed.fact(&EXIT), Some(Exit::Signal("TERM".into())));
    assert!(!format!("{error:?}").contains("and said"), "{error:?}");
    assert_eq!(*said.lock().expect("no panic"), b"aside\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_a_channel_is_not_opened() {
    let sshd = sshd_with(|_| "PermitOpen 127.0.0.1:1\nAllowStreamLocalForwarding no\nMaxSessions 0".into());
    let ssh = ssh(&sshd);
    let connect = async |target: Target| ssh.connect(&target, &cx()).await.expect_err("connected");
    let error = connect(Target::name("db", 5432)).await;
    let text = told(&error);
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(
        text.starts_with("connect to db:5432 through ") && text.contains("it is prohibited there"),
        "{text}"
    );
    assert!(text.contains("PermitOpen"), "{text}");
    let error = connect("127.0.0.1:1".parse::<std::net::SocketAddr>().expect("an address").into()).await;
    let text = told(&error);
    assert!(text.contains("the server could not connect: Connection refused"), "{text}");
    let error = connect(Target::path("/no/such/socket")).await;
    let text = told(&error);
    assert!(text.contains("AllowStreamLocalForwarding"), "{text}");
    let error = connect(Target::path("\0abstract")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unsupported);
    let ctx = exec(Context::new().with(&tuyau_core::names::RUNTIME, runtime()), ssh.clone());
    let ctx = ctx.with(&SSH_COMMAND, SshCommand::line("true")).offer(&SSH_EXEC);
    let text = format!("{:#}", ctx.resolve().await.map(drop).expect_err("ran"));
    assert!(text.contains("MaxSessions"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_exchanged_anew_in_mid_transfer() {
    let sshd = sshd_with(|_| "RekeyLimit 1M".into());
    let (target, _echo) = echo_server().await;
    let mut flow = ssh(&sshd).connect(&target, &cx()).await.expect("connect");
    for round in 0..16u8 {
        says_it_back(&mut flow, &vec![round; 512 * 1024]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listening_on_the_servers_side() {
    let mut sshd = sshd();
    let (ssh, cx) = (ssh(&sshd), cx());
    let path = Target::path(sshd.place().path("remote.sock"));
    let mut listener = ssh.listen(&path, &cx).await.expect("listen");
    let host = tuyau_tokio::host();
    let (near, far) = tokio::join!(accept(&mut listener), host.connect(&path, &cx));
    let echoing = tokio::spawn(echo(near));
    let mut far = far.expect("connect");
    says_it_back(&mut far, b"socket").await;
    drop(far);
    echoing.await.expect("no panic");

    let taken = listener_port(&ssh.listen(&Target::name("127.0.0.1", 0), &cx).await.expect("listen"));
    assert_ne!(taken, 0);
    let error = ssh.listen(&Target::name("127.0.0.1", sshd.port()), &cx).await.expect_err("listens");
    let text = told(&error);
    assert!(text.contains("the server refused") && text.contains("is the port in use there"), "{text}");
    sshd.kill();
    let error = listener.accept().await.expect_err("accepted");
    assert_eq!(error.kind(), tuyau_core::AcceptErrorKind::Closed);
}

/// What OpenSSH does with the file of a socket that it listened on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_on_the_servers_side_is_listened_on_again() {
    for (unlink, again) in [("no", false), ("yes", true)] {
        let sshd = sshd_with(|_| format!("StreamLocalBindUnlink {unlink}"));
        let (ssh, cx) = (ssh(&sshd), cx());
        let file = sshd.place().path("remote.sock");
        let path = Target::path(&file);
        drop(ssh.listen(&path, &cx).await.expect("listen"));
        // Once it has heard that nobody listens any more.
        while tuyau_tokio::host().connect(&path, &cx).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(std::fs::exists(&file).expect("a directory"), "{unlink}");
        match ssh.listen(&path, &cx).await {
            Ok(_) => assert!(again),
            Err(error) => assert!(!again && told(&error).contains("StreamLocalBindUnlink"), "{error}"),
        }
    }
}

fn listener_port(listener: &tuyau_core::Listener) -> u16 {
    match listener.local() {
        Target::Name { port, .. } => port,
        other => panic!("{other}"),
    }
}
