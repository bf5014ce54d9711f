//! Clients that end their side after their request, as `printf … | nc -N` does, and those that go.

use std::fs::File;

use nix::sys::signal::Signal;

use crate::peers::{Peer, listening, peer, run, tuyau};
use crate::serve::Served;

/// What comes back of `request` by `nc` and by `connect`, both of which end their side first.
fn asked(at: &str, request: &str) -> String {
    let (host, port) = at.rsplit_once(':').expect("a port");
    let by_nc = run(peer("nc", ["-N", host, port]), request.as_bytes()).code(0);
    let by_us = run(tuyau(["connect", &format!("tcp://{at}")]), request.as_bytes()).code(0);
    let body = |text: &str| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    assert!(by_nc.text().starts_with("HTTP/1.1 200 OK\r\n"), "{}", by_nc.text());
    assert_eq!(body(by_nc.text()), body(by_us.text()));
    body(by_nc.text()).expect("a head")
}

fn proxy(more: &[&str]) -> (Peer, String) {
    let (peer, uri) = listening(["proxy", "--listen", "tcp://127.0.0.1:0"].iter().chain(more));
    (peer, uri.trim_start_matches("tcp://").to_owned())
}

/// What it logged, after its end.
fn log(server: Peer) -> String {
    server.signal(Signal::SIGTERM);
    server.end().code(0).stderr
}

#[test]
fn whoever_has_asked_and_ended_is_answered() {
    let served = Served::new(false, &[]);
    served.write("a.txt", "hello");
    let big = File::create(served.place.path("www/big")).expect("a file");
    big.set_len(1 << 28).expect("a sparse file");
    let server = served.url.trim_start_matches("http://").to_owned();
    let (reverse, at_reverse) = proxy(&["--to", &served.url]);
    let (forward, at_forward) = proxy(&[]);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    for (at, target) in
        [(&server, "/a.txt"), (&at_reverse, "/a.txt"), (&at_forward, &format!("{}/a.txt", served.url))]
    {
        assert_eq!(asked(at, &get(target)), "hello");
    }
    let tunnel = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let (host, port) = at_forward.rsplit_once(':').expect("a port");
    let through = run(peer("nc", ["-N", host, port]), (tunnel + &get("/a.txt")).as_bytes()).code(0);
    assert!(through.text().ends_with("\r\n\r\nhello"), "{}", through.text());
    for at in [&server, &at_reverse] {
        let (host, port) = at.rsplit_once(':').expect("a port");
        let script =
            "printf 'GET /big HTTP/1.0\\r\\n\\r\\n' | nc -N \"$0\" \"$1\" | sed '1,/^\\r$/d' | wc -c";
        let got = run(peer("sh", ["-c", script, host, port]), b"").code(0);
        assert_eq!(got.text().trim(), (1 << 28).to_string(), "{at}");
    }
    for log in [served.log(), log(reverse), log(forward)] {
        assert!(!log.contains("broken off") && !log.contains("broke"), "{log}");
    }
}
