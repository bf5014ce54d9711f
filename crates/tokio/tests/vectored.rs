//! Vectored writes stay one system call, through wrappers and on a real socket.
#![cfg(target_os = "linux")]

use std::future::poll_fn;

use tokio::net::{TcpListener, TcpStream};
use tuyau_core::Flow;
use tuyau_testing::{Calls, Counting, PassThrough};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn a_vectored_write_is_one_call_through_five_wrappers() {
    let (client, _server) = sockets().await;
    let calls = Calls::default();
    let mut flow = PassThrough::nested(Flow::from_tokio(Counting::new(client, &calls)), 5);
    let n = poll_fn(|cx| flow.poll_write(cx, &[b"head", b"body", b"tail"])).await.unwrap();
    assert_eq!((n, calls.vectored(), calls.plain()), (12, 1, 0));
    let n = poll_fn(|cx| flow.poll_write(cx, &[b"alone"])).await.unwrap();
    assert_eq!((n, calls.vectored(), calls.plain()), (5, 1, 1));
}

/// The kernel's own count: each `writev` is a segment that was sent, since nodelay is on.
#[tokio::test]
async fn the_kernel_sees_one_write() {
    let (client, mut server) = sockets().await;
    client.set_nodelay(true).unwrap();
    let mut flow = PassThrough::nested(Flow::from_tokio(client), 5);
    for round in 1..=100 {
        let before = syscalls();
        let n = poll_fn(|cx| flow.poll_write(cx, &[b"head", b"body", b"tail"])).await.unwrap();
        let after = syscalls();
        assert_eq!(n, 12, "round {round}");
        // Reading the count is itself no write.
        assert_eq!(after - before, 1, "round {round}: more than one write");
        let mut got = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut server, &mut got).await.unwrap();
        assert_eq!(&got, b"headbodytail");
    }
}

/// How many writing system calls this thread has made.
fn syscalls() -> u64 {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap().parse().unwrap()
}
