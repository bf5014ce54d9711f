//! `tuyau serve` against nginx with one worker, alternating in one run: a large file over HTTP/1.1 that the system
//! has in memory, each time over a new connection.
//!
//! `cargo bench -p tuyau-cli --bench serve [ROUNDS [MEBIBYTES]]`

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use tuyau_testing::peers::{self, Peer};
use tuyau_testing::{Place, free_port};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (rounds, size) = (numbers.next().unwrap_or(15), numbers.next().unwrap_or(1024) << 20);
    let place = Place::new();
    let mut file = File::create(place.path("large")).expect("a file");
    let bytes = vec![7; 1 << 20];
    for _ in 0..size >> 20 {
        file.write_all(&bytes).expect("room on the disk");
    }
    let servers = [ours(&place), nginx(&place)];
    let mut seconds = [vec![], vec![]];
    let mut cpus = [vec![], vec![]];
    for round in 0..=rounds {
        // In turns, so that none always comes after the other.
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (peer, port) = &servers[which];
            let before = cpu(peer);
            let took = get(*port, size);
            // The first is for getting warm.
            if round > 0 {
                seconds[which].push(took);
                cpus[which].push(cpu(peer) - before);
            }
        }
    }
    for (which, name) in ["tuyau serve", "nginx"].into_iter().enumerate() {
        let rate = (size >> 20) as f64 / median(seconds[which].iter().copied());
        let cpu = median(cpus[which].iter().copied()) * 1e3;
        let most = peak(&servers[which].0);
        println!("{name:12} {rate:>6.0} MiB/s, {cpu:>4.0} ms of CPU, at most {most:.1} MiB of memory");
    }
    let ratio = |of: &[Vec<f64>; 2]| median(of[0].iter().zip(&of[1]).map(|(ours, theirs)| ours / theirs));
    println!("ratio: rate {:.3}, CPU {:.3}", 1.0 / ratio(&seconds), ratio(&cpus));
}

fn ours(place: &Place) -> (Peer, u16) {
    let mut serve = Command::new(env!("CARGO_BIN_EXE_tuyau"));
    serve.args(["serve", "--quiet", "--listen", "tcp://127.0.0.1:0"]).arg(place.dir());
    let mut peer = Peer::spawn(&mut serve);
    let line = peer.error_line("listening on ");
    let port = line.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    (peer, port)
}

fn nginx(place: &Place) -> (Peer, u16) {
    let (dir, port) = (place.dir().display(), free_port());
    let server = format!("sendfile on; tcp_nopush on; server {{ listen 127.0.0.1:{port}; root {dir}; }}");
    (peers::nginx(place, &server), port)
}

/// Seconds.
fn get(port: u16, size: usize) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let mut bytes = vec![0; 256 << 10];
    let began = Instant::now();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut all = 0;
    loop {
        match stream.read(&mut bytes).expect("it goes on") {
            0 => break,
            n => all += n,
        }
    }
    let took = began.elapsed().as_secs_f64();
    assert!((size..size + 1024).contains(&all), "{all} bytes");
    took
}

/// Seconds that all threads of the process have run.
fn cpu(peer: &Peer) -> f64 {
    let threads = fs::read_dir(format!("/proc/{}/task", peer.pid())).expect("it runs");
    let run = |thread: fs::DirEntry| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    threads.flatten().filter_map(run).sum::<f64>() / 1e9
}

/// What it had in memory at most, in MiB.
fn peak(peer: &Peer) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", peer.pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("KiB") / 1024.0
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
