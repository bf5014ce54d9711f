//! The server against bare hyper on a `TcpStream`, and the client against hyper-util's, each pair in turns in
//! one run. Each server has a thread of its own, whose CPU time is what counts: requests per second depend on
//! what else the machine does.

use std::convert::Infallible;
use std::fs;
use std::future::ready;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tuyau_core::{ConnectCx, Context, Net, Target};
use tuyau_http::{Client, Limits, Server};
use tuyau_tokio::{Host, TCP, derivations};

const ROUNDS: usize = 41;
const CONNECTIONS: usize = 8;

fn main() {
    println!("{:30} {:>12} {:>12} {:>8} {:>8}", "median of rounds", "bare", "ours", "rate", "CPU");
    for (what, path, requests) in [("hello", "/", 2_000), ("64 KiB", "/large", 800)] {
        compare(
            &format!("server, h1, {what}, timed"),
            |at| h1(at, path, requests),
            Serving::timed_h1(),
            Serving::ours(),
        );
        compare(
            &format!("server, h1, {what}"),
            |at| h1(at, path, requests),
            Serving::bare_h1(),
            Serving::ours(),
        );
        compare(
            &format!("server, h2c, {what}"),
            |at| h2(at, path, requests),
            Serving::bare_h2(),
            Serving::ours(),
        );
    }
    clients();
    idle();
}

/// What a connection costs in memory that is kept alive and has nothing to do.
fn idle() {
    const MANY: usize = 4_000;
    let each = |server: Serving| {
        let resident = || {
            let statm = fs::read_to_string("/proc/self/statm").expect("Linux");
            statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
        };
        let connect = || {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("connect");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("write");
            assert!(stream.read(&mut [0; 1024]).expect("read") > 0);
            stream
        };
        let warm: Vec<_> = (0..100).map(|_| connect()).collect();
        let before = resident();
        let streams: Vec<_> = (0..MANY).map(|_| connect()).collect();
        let each = resident().saturating_sub(before) as f64 / MANY as f64 / 1024.0;
        drop((warm, streams));
        each
    };
    let (bare, ours) = (each(Serving::bare_h1()), each(Serving::ours_for(2 * MANY)));
    println!("{:30} {:>8.2} KiB {:>8.2} KiB", "idle connection, h1", bare, ours);
}

fn answer(path: &str) -> Response<Full<Bytes>> {
    static LARGE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let body = if path == "/large" { &LARGE[..] } else { b"hello" };
    Response::new(Full::new(Bytes::from_static(body)))
}

/// A server on a thread of its own.
struct Serving {
    port: u16,
    /// Its thread's, in nanoseconds.
    cpu: String,
}

impl Serving {
    fn start<F: Future<Output = ()>>(serve: impl FnOnce(mpsc::Sender<u16>) -> F + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let thread = fs::read_link("/proc/thread-self").expect("Linux");
            tell.send(format!("/proc/{}/schedstat", thread.display())).expect("it is waited for");
            Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(serve(send));
        });
        Self { port: receive.recv().expect("it listens"), cpu: told.recv().expect("it runs") }
    }

    fn bare_h1() -> Self {
        Self::bare(|stream| {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                ready(Ok::<_, Infallible>(answer(request.uri().path())))
            });
            tokio::spawn(async move {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        })
    }

    /// With the one limit of time that hyper has: a server that sets no timer never asks the kernel for one.
    fn timed_h1() -> Self {
        Self::bare(|stream| {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                ready(Ok::<_, Infallible>(answer(request.uri().path())))
            });
            tokio::spawn(async move {
                let mut builder = hyper::server::conn::http1::Builder::new();
                builder.timer(hyper_util::rt::TokioTimer::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        })
    }

    fn bare_h2() -> Self {
        Self::bare(|stream| {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
                ready(Ok::<_, Infallible>(answer(request.uri().path())))
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        })
    }

    fn bare(serve: fn(TcpStream)) -> Self {
        Self::start(move |port| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            port.send(listener.local_addr().expect("it is bound").port()).expect("it is waited for");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("nodelay");
                serve(stream);
            }
        })
    }

    fn ours() -> Self {
        Self::ours_for(1_024)
    }

    fn ours_for(connections: usize) -> Self {
        Self::start(move |port| async move {
            let service = tower::service_fn(|request: Request<tuyau_http::Incoming>| {
                ready(Ok::<_, Infallible>(answer(request.uri().path())))
            });
            let cx = ConnectCx::new(&Context::new()).expect("a context");
            let target = Target::Addr(([127, 0, 0, 1], 0).into());
            let listener = Host::new().listen(&target, &cx).await.expect("listen");
            if let Target::Addr(address) = listener.local() {
                port.send(address.port()).expect("it is waited for");
            }
            let mut limits = Limits::default();
            limits.connections_per_address = connections;
            Server::new(service).limits(limits).listen(listener).serve().await;
        })
    }

    fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(&self.cpu).expect("it runs");
        stat.split(' ').next().and_then(|time| time.parse::<f64>().ok()).expect("nanoseconds")
    }
}

/// A load that can be put on a server again and again, over the same connections: seconds for so many requests.
struct Load {
    run: Box<dyn FnMut() -> f64>,
    requests: usize,
}

fn compare(what: &str, load: impl Fn(u16) -> Load, bare: Serving, ours: Serving) {
    let servers = [bare, ours];
    let mut loads = [load(servers[0].port), load(servers[1].port)];
    let mut times = [vec![], vec![]];
    let mut cpus = [vec![], vec![]];
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let before = servers[which].cpu();
            let time = (loads[which].run)();
            let cpu = servers[which].cpu() - before;
            // The first is for getting warm.
            if round > 0 {
                times[which].push(time);
                cpus[which].push(cpu);
            }
        }
    }
    show(what, loads[0].requests, &times, &cpus);
}

fn show(what: &str, requests: usize, times: &[Vec<f64>; 2], cpus: &[Vec<f64>; 2]) {
    let each = |cpus: &[f64]| format!("{:.2} µs", median(cpus.iter().copied()) / 1e3 / requests as f64);
    let ratio =
        |values: &[Vec<f64>; 2]| median(values[1].iter().zip(&values[0]).map(|(ours, bare)| ours / bare));
    println!(
        "{what:30} {:>12} {:>12} {:>8.3} {:>8.3}",
        each(&cpus[0]),
        each(&cpus[1]),
        1.0 / ratio(times),
        ratio(cpus)
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One request after the other, on each of the connections.
fn h1(port: u16, path: &'static str, requests: usize) -> Load {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut streams = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
            stream.set_nodelay(true).expect("nodelay");
            // How long a response is.
            stream.write_all(request.as_bytes()).await.expect("write");
            let mut length = 0;
            let mut bytes = vec![0; 128 * 1024];
            let body = answer(path).into_body();
            let body = http_body::Body::size_hint(&body).exact().expect("it is known") as usize;
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
                    for _ in 0..requests / CONNECTIONS {
                        stream.write_all(request.as_bytes()).await.expect("write");
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
    Load { run: Box::new(run), requests }
}

/// So many at once, on one connection.
fn h2(port: u16, path: &'static str, requests: usize) -> Load {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sender = runtime.block_on(async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.expect("handshake");
        tokio::spawn(connection);
        sender
    });
    let url = Uri::try_from(format!("http://a{path}")).expect("a URL");
    let run = move || {
        let began = Instant::now();
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..CONNECTIONS {
                let (mut sender, url) = (sender.clone(), url.clone());
                tasks.push(tokio::spawn(async move {
                    for _ in 0..requests / CONNECTIONS {
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
    Load { run: Box::new(run), requests }
}

/// One request after the other, over a pool, against hyper-util's client; the CPU is this thread's.
fn clients() {
    let server = Serving::bare_h1();
    let url = format!("http://127.0.0.1:{}/", server.port);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let bare = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let ours = Client::new(derivations(Context::new()).offer(&TCP));
    let uri: Uri = url.parse().expect("a URL");
    let here = Serving { port: 0, cpu: "/proc/thread-self/schedstat".into() };
    let requests = 1_000;
    let mut times = [vec![], vec![]];
    let mut cpus = [vec![], vec![]];
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (before, began) = (here.cpu(), Instant::now());
            runtime.block_on(async {
                for _ in 0..requests {
                    let body = if which == 0 {
                        bare.get(uri.clone())
                            .await
                            .expect("a response")
                            .into_body()
                            .collect()
                            .await
                            .expect("a body")
                    } else {
                        let request = Request::get(uri.clone()).body(Empty::new()).expect("a request");
                        let response = ours.request::<Empty<Bytes>>(request).await.expect("a response");
                        response.into_body().collect().await.expect("a body")
                    };
                    assert_eq!(body.to_bytes(), "hello");
                }
            });
            if round > 0 {
                times[which].push(began.elapsed().as_secs_f64());
                cpus[which].push(here.cpu() - before);
            }
        }
    }
    show("client, h1, hello", requests, &times, &cpus);
}
