//! `tuyau load`, on `tuyau serve`, whose log says what came.

use std::fs;
use std::io::Read;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::peers::{Peer, Place, run, tuyau};

#[test]
fn counts_times_and_causes() {
    let place = Place::new();
    fs::write(place.path("file"), "0123456789").expect("a file");
    let socket = format!("unix:{}", place.path("socket"));
    let dir = place.path("");
    let mut server =
        Peer::spawn(&mut tuyau(["serve", &dir, "--listen", "tcp://127.0.0.1:0", "--listen", &socket]));
    let url = server.error_line("listening on ").replace("listening on tcp", "http");
    server.error_line("listening on ");
    let load = |url: &str, more: &[&str], code| {
        let ended = run(tuyau(["load", url, "--json"].iter().chain(more)), b"").code(code);
        serde_json::from_slice::<Value>(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    };
    let file = format!("{url}/file");
    for more in [&["-n", "50", "-c", "4"][..], &["-n", "50", "-c", "4", "--over", &socket]] {
        let summary = load(&file, more, 0);
        assert_eq!(
            (&summary["requests"], &summary["failed"], &summary["bytes"]),
            (&50.into(), &0.into(), &500.into())
        );
        assert_eq!(summary["statuses"]["200"], 50);
        let times = |name: &str| summary["latency_ms"][name].as_f64().expect("a time");
        assert!(
            0.005 < times("min") && times("min") <= times("p50") && times("p50") <= times("p99"),
            "{summary}"
        );
    }
    let summary = load(&file, &["-n", "3", "-X", "HEAD"], 0);
    assert_eq!((&summary["statuses"]["200"], &summary["bytes"]), (&3.into(), &0.into()));
    let summary = load(&file, &["-n", "3", "-H", "Range: bytes=0-3"], 0);
    assert_eq!((&summary["statuses"]["206"], &summary["bytes"]), (&3.into(), &12.into()));
    // What is sent by POST, as it is with data, `serve` does not take.
    let summary = load(&file, &["-n", "3", "--data", "a=b"], 1);
    assert_eq!(summary["statuses"]["405"], 3);
    let summary = load(&file, &["-d", "200ms", "-c", "2"], 0);
    assert!(summary["requests"].as_u64() > Some(0) && summary["seconds"].as_f64() < Some(20.0), "{summary}");
    let summary = load(&file, &["-n", "3"], 0);
    assert_eq!(
        (&summary["requests"], &summary["clients"]),
        (&3.into(), &3.into()),
        "no more than there are requests"
    );
    let summary = load(&format!("http://127.0.0.1:{}", tuyau_testing::dead_port()), &["-n", "3"], 1);
    let failures = summary["failures"].as_object().expect("causes");
    assert!(failures.keys().all(|cause| cause.contains("nobody listens on that port")), "{summary}");
    let proxy = format!("http://127.0.0.1:{}", tuyau_testing::dead_port());
    let summary = load(&file, &["-n", "1", "-x", &proxy], 1);
    let cause = summary["failures"].as_object().expect("causes").keys().next().expect("one");
    assert_eq!(cause.matches("nobody listens on that port").count(), 1, "{cause}");
    let summary = load(&format!("{url}/none"), &["-n", "3"], 1);
    assert_eq!((&summary["failed"], &summary["statuses"]["404"]), (&3.into(), &3.into()));
    let summary = load("http://127.0.0.1:1/", &["-n", "3", "-c", "1"], 1);
    let failures = summary["failures"].as_object().expect("causes");
    assert!(
        failures.len() == 1 && failures.iter().all(|(cause, count)| cause.contains("refused") && count == 3),
        "{summary}"
    );
    let ended = run(tuyau(["load", &file, "-n", "20"]), b"").code(0);
    assert!(
        ended.text().starts_with("10 clients, 20 responses in ") && ended.text().contains("\n99.9 %"),
        "{}",
        ended.text()
    );
    server.signal(Signal::SIGTERM);
    let log = server.end().code(0).stderr;
    let came = log.lines().filter(|line| line.contains("\"GET /file HTTP/1.1\" 200 10 ")).count();
    assert!(came >= 120, "{came}");
}

#[test]
fn a_signal_sums_up() {
    let place = Place::new();
    let dir = place.path("");
    let mut server = Peer::spawn(&mut tuyau(["serve", &dir, "--listen", "tcp://127.0.0.1:0"]));
    let url = server.error_line("listening on ").replace("listening on tcp", "http");
    let load = Peer::spawn(&mut tuyau(["load", &url, "-d", "1000"]));
    server.error_line("\"GET / HTTP/1.1\" 200 ");
    load.signal(Signal::SIGINT);
    let ended = load.end().code(0);
    assert!(ended.text().starts_with("10 clients, "), "{}", ended.text());
}

#[test]
fn a_signal_cuts_off_who_waits_for_a_silent_server() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("an address"));
    let load = Peer::spawn(&mut tuyau(["load", &url, "-c", "1"]));
    let (mut asks, _) = silent.accept().expect("it comes");
    asks.read_exact(&mut [0]).expect("it asks");
    load.signal(Signal::SIGINT);
    let ended = load.end().code(1);
    assert!(ended.text().contains("0 requests"), "{}", ended.text());
}
