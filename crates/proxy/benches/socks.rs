//! Connections per second through microsocks, against curl, alternating in one run: each asks the same
//! server for the same page over a connection of its own; one after the other, and many at once.
//!
//! curl is one process that fetches all of a round's pages; what it takes for one page alone, which is
//! mostly its start, is taken off. (It reuses no connection: the server ends each.)

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use tokio::task::JoinSet;
use tuyau_core::Context;
use tuyau_core::names::{HOST, PORT};
use tuyau_proxy::Socks5;
use tuyau_testing::peers::{microsocks, require};
use tuyau_tokio::{TCP, derivations};

/// How often each is measured; the medians count.
const ROUNDS: usize = 21;
/// Connections in a round.
const CONNECTIONS: usize = 1000;
/// How many at once.
const AT_ONCE: usize = 32;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";

fn main() {
    let (proxy, target) = (microsocks(None), serve());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ctx = derivations(Context::new()).offer(&TCP);
    let ctx = ctx.with(&HOST, "127.0.0.1".into()).with(&PORT, proxy.port()).via(Box::new(Socks5::new()));
    let ctx = ctx.with(&HOST, "127.0.0.1".into()).with(&PORT, target);
    println!("{:32} {:>12} {:>12} {:>8}", "connections per second", "curl", "tuyau", "ratio");
    for (what, at_once) in [("one after the other", 1), ("32 at once", AT_ONCE)] {
        let mut times = [vec![], vec![]];
        for round in 0..ROUNDS {
            // In turns, so that none always comes after the other.
            for turn in 0..2 {
                let which = (round + turn) % 2;
                times[which].push(match which {
                    0 => {
                        curl(proxy.port(), target, CONNECTIONS + 1, at_once)
                            - curl(proxy.port(), target, 1, at_once)
                    }
                    _ => runtime.block_on(ours(&ctx, at_once)),
                });
            }
        }
        let [curl, ours] = &times;
        let rate = |times: &[f64]| CONNECTIONS as f64 / median(times.iter().copied());
        let ratio = median(curl.iter().zip(ours).map(|(curl, ours)| curl / ours));
        println!("{what:32} {:>12.0} {:>12.0} {ratio:>8.3}", rate(curl), rate(ours));
    }
}

/// A server on a thread of its own, the same for both.
fn serve() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let (mut request, mut had) = ([0; 1024], 0);
            while !request[..had].ends_with(b"\r\n\r\n") {
                match stream.read(&mut request[had..]) {
                    Ok(n @ 1..) => had += n,
                    _ => break,
                }
            }
            let _ = stream.write_all(ANSWER);
        }
    });
    port
}

/// The seconds that curl takes for this many pages.
fn curl(proxy: u16, target: u16, pages: usize, at_once: usize) -> f64 {
    let mut curl = Command::new(require("curl", "curl"));
    curl.args(["-s", "-f", "--noproxy", "", "--socks5", &format!("127.0.0.1:{proxy}")]);
    if at_once > 1 {
        curl.args(["-Z", "--parallel-immediate", "--parallel-max", &at_once.to_string()]);
    }
    curl.args(["-o", "/dev/null", &format!("http://127.0.0.1:{target}/[1-{pages}]")]);
    // -Z shows its progress whatever it is told.
    curl.stderr(Stdio::null());
    let began = Instant::now();
    assert!(curl.status().expect("it runs").success());
    began.elapsed().as_secs_f64()
}

/// The seconds that a context takes for a round's pages.
async fn ours(ctx: &Context, at_once: usize) -> f64 {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..CONNECTIONS {
        if running.len() == at_once {
            running.join_next().await.expect("one runs").expect("it does not panic");
        }
        let ctx = ctx.clone();
        running.spawn(async move { fetch(&ctx).await });
    }
    while let Some(ended) = running.join_next().await {
        ended.expect("it does not panic");
    }
    began.elapsed().as_secs_f64()
}

async fn fetch(ctx: &Context) {
    let mut flow = ctx.resolve().await.expect("connect");
    flow.write_all(b"GET /1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n").await.expect("write");
    let (mut got, mut had) = ([0; 256], 0);
    while let n @ 1.. = flow.read(&mut got[had..]).await.expect("read") {
        had += n;
    }
    assert_eq!(&got[..had], ANSWER);
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
