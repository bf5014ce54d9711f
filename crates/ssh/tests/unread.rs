//! Flows that nobody reads: what they cost, and whom.

mod support;

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;
use tuyau_core::names::RUNTIME;
use tuyau_core::{BoxFuture, ConnectCx, Context, Flow, FlowErrorKind, Instant, Net, Runtime, Target};
use tuyau_ssh::{Ssh, Unread};
use tuyau_testing::peers::sshd;

use support::{counting, hop, outer};

/// A clock that stands still until it is told the time.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<(Duration, Vec<Waker>)>>);

impl Clock {
    fn advance(&self, by: Duration) {
        let mut state = self.0.lock().unwrap();
        state.0 += by;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Runtime for Clock {
    fn now(&self) -> Instant {
        Instant::new(self.0.lock().unwrap().0)
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(std::future::poll_fn(move |cx| {
            let mut state = clock.0.lock().unwrap();
            if Instant::new(state.0) >= until {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }
}

/// A server that echoes, and floods who says `!`: it tells how much was taken whenever no more is.
fn server() -> (Target, UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = Target::Addr(listener.local_addr().expect("bound"));
    let (stalled, stalls) = unbounded_channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let stalled = stalled.clone();
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if bytes[0] != b'!' {
                        let _ = stream.write_all(&bytes[..n]);
                        continue;
                    }
                    let mut taken = 0;
                    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
                    loop {
                        match stream.write(&bytes) {
                            Ok(n) => taken += n,
                            Err(error) if error.kind() == ErrorKind::WouldBlock => drop(stalled.send(taken)),
                            Err(_) => break,
                        }
                    }
                }
            });
        }
    });
    (target, stalls)
}

async fn echoes(flow: &mut Flow) {
    flow.write_all(b"hello").await.expect("write");
    let mut got = [0; 5];
    flow.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"hello");
}

/// Whether it answers, or is held up.
async fn answers(flow: &mut Flow) -> bool {
    timeout(Duration::from_millis(500), echoes(flow)).await.is_ok()
}

struct Story {
    clock: Clock,
    ssh: Ssh,
    target: Target,
    stalls: UnboundedReceiver<usize>,
}

impl Story {
    async fn connect(&self) -> Flow {
        let ctx = Context::new().with(&RUNTIME, Arc::new(self.clock.clone()));
        self.ssh.connect(&self.target, &ConnectCx::new(&ctx).expect("a context")).await.expect("connect")
    }

    /// Floods `flow` until no more fits, and says how much did.
    async fn flood(&mut self, flow: &mut Flow) -> usize {
        flow.write_all(b"!").await.expect("write");
        loop {
            let taken = self.stalls.recv().await.expect("the server");
            // Less is a pause on a busy machine.
            if taken > 8 << 20 {
                return taken;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_flow_is_bounded_and_given_up_for_those_who_wait_behind_it() {
    let (sshd, counting) = (sshd(), counting());
    let (target, stalls) = server();
    let ssh = Ssh::new(hop(&sshd), counting.under(outer(&sshd)));
    let mut story = Story { clock: Clock::default(), ssh, target, stalls };
    let (mut neighbour, mut unread) = (story.connect().await, story.connect().await);
    echoes(&mut neighbour).await;
    let taken = story.flood(&mut unread).await;
    assert!(!answers(&mut neighbour).await, "it waits behind the one that nobody reads");
    // 8 MiB here, a window of 2 MiB, and what sockets and sshd have.
    assert!(taken < 24 << 20, "{taken} bytes are on their way");
    let mut fresh = story.connect().await;
    echoes(&mut fresh).await;
    assert_eq!(counting.made(), 2, "new flows don't wait");

    story.clock.advance(Duration::from_secs(9));
    assert!(!answers(&mut neighbour).await, "its reader has its time");
    story.clock.advance(Duration::from_secs(2));
    // What it said while it waited is answered as well.
    let mut some = [0; 64];
    assert!(neighbour.read(&mut some).await.expect("it goes on") > 0);
    let mut got = Vec::new();
    let error = loop {
        match unread.read(&mut some).await {
            Ok(n) => got.extend_from_slice(&some[..n]),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), FlowErrorKind::Aborted);
    let source = error.source().and_then(|source| source.downcast_ref::<Unread>()).expect("says why");
    let text = source.to_string();
    assert!(text.starts_with("nothing was read for 10s while 8 MiB waited, and other flows of"), "{text}");
    assert!(got.is_empty(), "what waited is thrown away");
    assert!(unread.write_all(&[0]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_flow_behind_which_nobody_waits_is_left_alone() {
    let sshd = sshd();
    let (target, stalls) = server();
    let ssh = Ssh::new(hop(&sshd), outer(&sshd));
    let mut story = Story { clock: Clock::default(), ssh, target, stalls };
    let (mut idle, mut unread) = (story.connect().await, story.connect().await);
    echoes(&mut idle).await;
    story.clock.advance(Duration::from_secs(60));
    story.flood(&mut unread).await;
    for _ in 0..10 {
        story.clock.advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }
    let mut bytes = vec![0; 1 << 20];
    let mut total = 0;
    while total < 32 << 20 {
        total += unread.read(&mut bytes).await.expect("it goes on");
    }
    assert!(bytes.iter().all(|byte| *byte == b'!' || *byte == 0));
}
