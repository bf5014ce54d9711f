//! The accept loop under what it meets.
#![cfg(unix)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, oneshot};
use tuyau_core::{
    AcceptError, Accepted, ConnectCx, ConnectErrorKind, Context, Flow, Listener, Net, RawListener, Target,
};
use tuyau_testing::rerun;
use tuyau_tokio::{Failure, Host, MemHub, duplex, serve};

async fn echo(mut flow: Flow) {
    let mut buf = [0; 64];
    while let Ok(n @ 1..) = flow.read(&mut buf).await {
        if flow.write_all(&buf[..n]).await.is_err() {
            break;
        }
    }
}

async fn pings(flow: &mut Flow) {
    flow.write_all(b"ping").await.unwrap();
    let mut got = [0; 4];
    flow.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
}

#[tokio::test]
async fn stop_ends_accepting_at_once_and_lets_what_is_under_way_end() {
    let hub = MemHub::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = serve(hub.listen("s").unwrap(), echo).stop(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.drain(Duration::from_secs(3600)).into_future());
    let mut client = hub.connect("s").await.unwrap();
    pings(&mut client).await;
    stop.send(()).unwrap();
    // Refused as soon as the loop has seen the signal; the connection goes on.
    while hub.connect("s").await.is_ok() {
        tokio::task::yield_now().await;
    }
    pings(&mut client).await;
    drop(client);
    let served = serving.await.unwrap();
    assert_eq!(served.aborted, 0);
    assert_eq!(served.finished, served.accepted);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_within_the_drain_time_is_aborted() {
    let hub = MemHub::new();
    let listener = hub.listen("s").unwrap();
    let mut client = hub.connect("s").await.unwrap();
    let (begun, has_begun) = oneshot::channel();
    let begun = Mutex::new(Some(begun));
    let handler = move |flow: Flow| {
        let begun = begun.lock().unwrap().take();
        async move {
            let _flow = flow;
            drop(begun);
            std::future::pending::<()>().await;
        }
    };
    let stop = async { drop(has_begun.await as Result<(), _>) };
    let before = tokio::time::Instant::now();
    let served = serve(listener, handler).stop(stop).drain(Duration::from_secs(7)).await;
    assert_eq!((served.accepted, served.finished, served.aborted), (1, 0, 1));
    assert_eq!(before.elapsed().as_secs(), 7);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "the aborted connection is still open");
}

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_only() {
    let hub = MemHub::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let panics = Arc::new(Mutex::new(0));
    let counted = panics.clone();
    let handler = |mut flow: Flow| async move {
        let mut byte = [0];
        flow.read_exact(&mut byte).await.unwrap();
        assert_ne!(byte[0], b'!', "as asked for by the test");
        flow.write_all(&byte).await.unwrap();
    };
    let serving = serve(hub.listen("s").unwrap(), handler).stop(async { drop(stopped.await) }).on_failure(
        move |failure| *counted.lock().unwrap() += usize::from(matches!(failure, Failure::Panic)),
    );
    let serving = tokio::spawn(serving.into_future());
    let mut doomed = hub.connect("s").await.unwrap();
    doomed.write_all(b"!").await.unwrap();
    assert_eq!(doomed.read(&mut [0; 1]).await.unwrap(), 0);
    let mut next = hub.connect("s").await.unwrap();
    next.write_all(b"x").await.unwrap();
    assert_eq!(next.read(&mut [0; 1]).await.unwrap(), 1);
    stop.send(()).unwrap();
    let served = serving.await.unwrap();
    assert_eq!((served.accepted, served.finished, served.panicked), (2, 1, 1));
    assert_eq!(*panics.lock().unwrap(), 1);
}

#[tokio::test]
async fn dropping_the_future_aborts_everything() {
    let hub = MemHub::new();
    let serving = tokio::spawn(serve(hub.listen("s").unwrap(), echo).into_future());
    let mut client = hub.connect("s").await.unwrap();
    pings(&mut client).await;
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(hub.connect("s").await.unwrap_err().kind(), ConnectErrorKind::Refused);
}

/// Accepts what a test hands it.
struct Scripted(mpsc::UnboundedReceiver<Result<Accepted, AcceptError>>);

impl RawListener for Scripted {
    fn poll_accept(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Accepted, AcceptError>> {
        self.0
            .poll_recv(cx)
            .map(|next| next.unwrap_or(Err(AcceptError::new(tuyau_core::AcceptErrorKind::Closed))))
    }

    fn local(&self) -> Target {
        Target::Described("a script".into())
    }
}

fn scripted() -> (mpsc::UnboundedSender<Result<Accepted, AcceptError>>, Listener) {
    let (send, receive) = mpsc::unbounded_channel();
    (send, Listener::new(Scripted(receive)))
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_off_the_loop_and_end_in_time() {
    let (script, listener) = scripted();
    let (mut client, server) = duplex();
    script.send(Ok(Accepted::Handshake(Box::pin(std::future::pending())))).ok().unwrap();
    script.send(Ok(Accepted::Flow(server))).ok().unwrap();
    let serving = serve(listener, echo).handshake_timeout(Duration::from_secs(3));
    let serving = tokio::spawn(serving.into_future());
    // Though a handshake hangs.
    pings(&mut client).await;
    drop((client, script));
    let served = serving.await.unwrap();
    assert_eq!((served.accepted, served.finished, served.handshakes_failed), (2, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn handshakes_are_bounded_in_number() {
    let (script, listener) = scripted();
    let (now, most) = (Arc::new(Mutex::new(0_u32)), Arc::new(Mutex::new(0_u32)));
    for _ in 0..20 {
        let (now, most) = (now.clone(), most.clone());
        let handshake = async move {
            let running = {
                let mut now = now.lock().unwrap();
                *now += 1;
                *now
            };
            {
                let mut most = most.lock().unwrap();
                *most = running.max(*most);
            }
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            *now.lock().unwrap() -= 1;
            Ok(duplex().0)
        };
        script.send(Ok(Accepted::Handshake(Box::pin(handshake)))).ok().unwrap();
    }
    drop(script);
    let served = serve(listener, |_| async {}).max_handshakes(3).await;
    assert_eq!((served.accepted, served.finished), (20, 20));
    assert_eq!(*most.lock().unwrap(), 3);
}

#[tokio::test]
async fn connections_are_bounded_in_number() {
    let hub = MemHub::new();
    let serving = tokio::spawn(serve(hub.listen("s").unwrap(), echo).max_connections(1).into_future());
    let mut first = hub.connect("s").await.unwrap();
    pings(&mut first).await;
    let mut second = hub.connect("s").await.unwrap();
    second.write_all(b"ping").await.unwrap();
    pings(&mut first).await;
    let mut got = [0; 4];
    let waits = tokio::select! {
        biased;
        _ = second.read(&mut got) => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(waits, "served while another connection was open");
    drop(first);
    second.read_exact(&mut got).await.unwrap();
    serving.abort();
}

const OUT_OF_DESCRIPTORS: &str = "TUYAU_TEST_EMFILE";

/// In a process of its own, since the limit is the process's.
#[test]
fn running_out_of_descriptors_is_survived_without_spinning() {
    if std::env::var_os(OUT_OF_DESCRIPTORS).is_some() {
        return out_of_descriptors();
    }
    let output = rerun("running_out_of_descriptors_is_survived_without_spinning", OUT_OF_DESCRIPTORS)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("survived"));
}

#[tokio::main(flavor = "current_thread")]
async fn out_of_descriptors() {
    let (host, cx) = (Host::new(), ConnectCx::new(&Context::new()).unwrap());
    let listener = host.listen(&Target::Addr(([127, 0, 0, 1], 0).into()), &cx).await.unwrap();
    let target = listener.local();
    let failures = Arc::new(Mutex::new(0));
    let (counted, (failed, mut has_failed)) = (failures.clone(), mpsc::unbounded_channel());
    let serving = serve(listener, echo).on_failure(move |failure| {
        assert!(matches!(failure, Failure::Accept(_)), "{failure:?}");
        *counted.lock().unwrap() += 1;
        let _ = failed.send(());
    });
    let serving = tokio::spawn(serving.into_future());
    // One that works, so that all that tokio opens once is open.
    pings(&mut host.connect(&target, &cx).await.unwrap()).await;
    // The client takes the last descriptor.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let client = std::net::TcpStream::connect(match &target {
        Target::Addr(address) => *address,
        other => panic!("{other}"),
    });
    let client = client.unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    let before = std::time::Instant::now();
    for _ in 0..3 {
        has_failed.recv().await.unwrap();
    }
    // 5 ms, then 10 ms: a loop that spins gets here in microseconds.
    assert!(before.elapsed() >= Duration::from_millis(15), "{:?}", before.elapsed());
    setrlimit(Resource::RLIMIT_NOFILE, 1024.min(hard), hard).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut client = Flow::from_tokio(tokio::net::TcpStream::from_std(client).unwrap());
    pings(&mut client).await;
    serving.abort();
    println!("survived");
}
