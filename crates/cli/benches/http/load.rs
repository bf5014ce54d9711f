//! The load, the same for all servers.

use std::time::Instant;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::servers::{Identity, LARGE, Speaks};

/// Requests that are under way at once.
const AT_ONCE: usize = 8;

/// A load that can be put on a server again and again, over the same connections: it gives the seconds that it took.
pub(crate) struct Load {
    pub(crate) run: Box<dyn FnMut() -> f64>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn connect(port: u16, tls: Option<&Identity>, speaks: Speaks) -> Box<dyn Stream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
    stream.set_nodelay(true).expect("nodelay");
    match tls {
        None => Box::new(stream),
        Some(identity) => Box::new(identity.connect(speaks, stream).await),
    }
}

/// One request after the other, on each of the connections.
pub(crate) fn h1(port: u16, tls: Option<&Identity>, path: &'static str, requests: usize) -> Load {
    let runtime = runtime();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let body = if path == "/large" { LARGE.len() } else { "hello".len() };
    let mut streams = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..AT_ONCE {
            let mut stream = connect(port, tls, Speaks::H1).await;
            // How long a response is.
            stream.write_all(request.as_bytes()).await.expect("write");
            let mut length = 0;
            let mut bytes = vec![0; 128 * 1024];
            loop {
                length += stream.read(&mut bytes[length..]).await.expect("read");
                let head = bytes[..length].windows(4).position(|bytes| bytes == b"\r\n\r\n");
                if head.is_some_and(|head| length == head + 4 + body) {
                    break;
                }
            }
            streams.push((stream, length));
        }
        streams
    });
    let run = move || {
        let began = Instant::now();
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for (mut stream, length) in streams.drain(..) {
                let request = request.clone();
                tasks.push(tokio::spawn(async move {
                    let mut bytes = vec![0; length];
                    for _ in 0..requests / AT_ONCE {
                        stream.write_all(request.as_bytes()).await.expect("write");
                        stream.flush().await.expect("flush");
                        stream.read_exact(&mut bytes).await.expect("read");
                    }
                    (stream, length)
                }));
            }
            for task in tasks {
                streams.push(task.await.expect("no panic"));
            }
        });
        began.elapsed().as_secs_f64()
    };
    Load { run: Box::new(run) }
}

/// So many at once, on one connection.
pub(crate) fn h2(port: u16, tls: Option<&Identity>, path: &'static str, requests: usize) -> Load {
    let runtime = runtime();
    let sender = runtime.block_on(async {
        let stream = connect(port, tls, Speaks::H2).await;
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        sender
    });
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = Uri::try_from(format!("{scheme}://a.test{path}")).expect("a URL");
    let run = move || {
        let began = Instant::now();
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..AT_ONCE {
                let (mut sender, url) = (sender.clone(), url.clone());
                tasks.push(tokio::spawn(async move {
                    for _ in 0..requests / AT_ONCE {
                        let request =
                            Request::get(url.clone()).body(Empty::<Bytes>::new()).expect("a request");
                        let response = sender.send_request(request).await.expect("a response");
                        response.into_body().collect().await.expect("a body");
                    }
                }));
            }
            for task in tasks {
                task.await.expect("no panic");
            }
        });
        began.elapsed().as_secs_f64()
    };
    Load { run: Box::new(run) }
}
