//! What a connection costs in memory that is kept alive and has nothing to do: each server in a process of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use tuyau_testing::peers::Peer;

use crate::servers::{Identity, Serving, Speaks};

/// What this program is told that is to be such a server: for tools that look at one, too.
pub(crate) const ROLE: &str = "serve-until-killed";

const MANY: usize = 10_000;

pub(crate) fn serve(server: &str) {
    let serving = match server {
        "ours" => Serving::ours(Speaks::H1, None),
        "ours-tls" => Serving::ours(Speaks::H1, Some(&Identity::new())),
        "ours-tls-h2" => Serving::ours(Speaks::H2, Some(&Identity::new())),
        "hyper-tls" => Serving::hyper(Speaks::H1, Some(&Identity::new()), false),
        "hyper-tls-h2" => Serving::hyper(Speaks::H2, Some(&Identity::new()), false),
        "h2" => Serving::hyper(Speaks::H2, None, false),
        _ => Serving::hyper(Speaks::H1, None, false),
    };
    println!("port {}", serving.port);
    loop {
        std::thread::park();
    }
}

pub(crate) fn compare() {
    let (ours, hyper) = (each("ours"), each("hyper"));
    println!("{:22} {ours:>5.2} KiB   hyper: {hyper:.2} KiB", "idle connection, h1");
}

/// KiB.
fn each(server: &str) -> f64 {
    let mut peer = Peer::spawn(Command::new(std::env::current_exe().expect("a path")).args([ROLE, server]));
    let port = peer.line("port ").trim_start_matches("port ").parse::<u16>().expect("a port");
    let statm = format!("/proc/{}/statm", peer.pid());
    let resident = || {
        let statm = fs::read_to_string(&statm).expect("it runs");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let connect = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
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
}
