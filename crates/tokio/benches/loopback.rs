//! A flow over loopback TCP against the bare `TcpStream`, alternating in one run: bulk each way,
//! and round trips. The other end is a task with a plain socket on the same thread, alike for all.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tuyau_core::Flow;
use tuyau_testing::PassThrough;

/// How often each is measured; the medians count.
const ROUNDS: usize = 201;
const BULK: usize = 16 << 20;
const CHUNK: usize = 64 << 10;
const TRIPS: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        println!("{:48} {:>12} {:>12}", "against the bare TcpStream", "median", "ratio");
        bulk("read 16 MiB", source().await, true).await;
        bulk("write 16 MiB", sink().await, false).await;
        round_trips(echo().await).await;
    });
}

/// The bare stream, a flow, and a flow in five wrappers: three handles of one socket, as whole
/// connections differ by more than what is to be seen here.
struct Three {
    bare: TcpStream,
    flow: Flow,
    wrapped: Flow,
}

async fn bulk(what: &str, mut three: Three, read: bool) {
    let mut buffer = vec![0; CHUNK];
    let mut times = [vec![], vec![], vec![]];
    for round in 0..ROUNDS {
        // In turns, so that none always comes after the same other.
        for turn in 0..3 {
            let which = (round + turn) % 3;
            times[which].push(match (which, read) {
                (0, true) => read_all(&mut three.bare, &mut buffer).await,
                (1, true) => read_all(&mut three.flow, &mut buffer).await,
                (_, true) => read_all(&mut three.wrapped, &mut buffer).await,
                (0, false) => write_all(&mut three.bare, &buffer).await,
                (1, false) => write_all(&mut three.flow, &buffer).await,
                (_, false) => write_all(&mut three.wrapped, &buffer).await,
            });
        }
    }
    let [bare, flow, wrapped] = &times;
    let rate = |times: &[f64]| format!("{:.2} GB/s", BULK as f64 / median(times.iter().copied()) / 1e9);
    println!("{:48} {:>12}", format!("{what}, bare"), rate(bare));
    println!("{:48} {:>12} {:>12.3}", format!("{what}, flow"), rate(flow), 1.0 / ratio(flow, bare));
    let wrappers = format!("{what}, flow in five wrappers");
    println!("{wrappers:48} {:>12} {:>12.3}", rate(wrapped), 1.0 / ratio(wrapped, bare));
}

async fn round_trips(mut three: Three) {
    let mut times = [vec![], vec![], vec![]];
    for round in 0..ROUNDS {
        for turn in 0..3 {
            let which = (round + turn) % 3;
            times[which].push(match which {
                0 => trips(&mut three.bare).await,
                1 => trips(&mut three.flow).await,
                _ => trips(&mut three.wrapped).await,
            });
        }
    }
    let [bare, flow, wrapped] = &times;
    let each = |times: &[f64]| format!("{:.2} µs", median(times.iter().copied()) * 1e6 / TRIPS as f64);
    println!("{:48} {:>12}", "round trip of 64 bytes, bare", each(bare));
    println!("{:48} {:>12} {:>12.3}", "round trip of 64 bytes, flow", each(flow), ratio(flow, bare));
    println!(
        "{:48} {:>12} {:>12.3}",
        "round trip, flow in five wrappers",
        each(wrapped),
        ratio(wrapped, bare)
    );
}

async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin), buffer: &mut [u8]) -> f64 {
    let began = Instant::now();
    let mut left = BULK;
    while left > 0 {
        let most = left.min(buffer.len());
        left -= stream.read(&mut buffer[..most]).await.expect("read");
    }
    began.elapsed().as_secs_f64()
}

async fn write_all(stream: &mut (impl tokio::io::AsyncWrite + Unpin), buffer: &[u8]) -> f64 {
    let began = Instant::now();
    for _ in 0..BULK / buffer.len() {
        stream.write_all(buffer).await.expect("write");
    }
    began.elapsed().as_secs_f64()
}

async fn trips(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> f64 {
    let mut bytes = [0; 64];
    let began = Instant::now();
    for _ in 0..TRIPS {
        stream.write_all(&bytes).await.expect("write");
        stream.read_exact(&mut bytes).await.expect("read");
    }
    began.elapsed().as_secs_f64()
}

/// The median of the rounds' ratios: what disturbs the machine disturbs a whole round.
fn ratio(times: &[f64], bare: &[f64]) -> f64 {
    median(times.iter().zip(bare).map(|(time, bare)| time / bare))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn source() -> Three {
    connect(|mut socket| async move {
        let bytes = vec![0; CHUNK];
        while socket.write_all(&bytes).await.is_ok() {}
    })
    .await
}

async fn sink() -> Three {
    connect(|mut socket| async move {
        let mut bytes = vec![0; CHUNK];
        while socket.read(&mut bytes).await.is_ok_and(|n| n > 0) {}
    })
    .await
}

async fn echo() -> Three {
    connect(|mut socket| async move {
        let mut bytes = [0; 64];
        while socket.read_exact(&mut bytes).await.is_ok() && socket.write_all(&bytes).await.is_ok() {}
    })
    .await
}

/// A connection to a task that runs `serve`, on this thread: which core the system puts another
/// thread on decides between 6 and 85 µs for a round trip.
async fn connect<F: Future<Output = ()> + 'static>(serve: impl Fn(TcpStream) -> F + 'static) -> Three {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (ours, (theirs, _)) = (ours.expect("connect"), theirs.expect("accept"));
    ours.set_nodelay(true).expect("nodelay");
    theirs.set_nodelay(true).expect("nodelay");
    tokio::task::spawn_local(serve(theirs));
    let ours = ours.into_std().expect("a socket");
    let handle = || TcpStream::from_std(ours.try_clone().expect("a handle")).expect("a stream");
    Three {
        bare: handle(),
        flow: Flow::from_tokio(handle()),
        wrapped: PassThrough::nested(Flow::from_tokio(handle()), 5),
    }
}
