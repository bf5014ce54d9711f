//! `tap:`, against the kernel's TCP in a network namespace of each test's own.
#![cfg(target_os = "linux")]

use tuyau_testing::netns::{enter, ip};
use tuyau_testing::peers::nsd;

use crate::peers::{listening, run, tuyau};

/// The kernel's end of the wire is 10.9.0.1 and fd09::1; the program's is to be 10.9.0.2 and fd09::2.
const VIA: &str = "tap:tap0?addr=10.9.0.2/24%2Cfd09::2/64";
const LINES: &[u8] = b"ping\r\nhello\r\n";
const DIALOGUE: &str = "> ping\n<- pong\n> hello\n<- hello\n";

fn wired() {
    enter();
    ip("tuntap add dev tap0 mode tap");
    ip("address add 10.9.0.1/24 dev tap0");
    ip("-6 address add fd09::1/64 dev tap0 nodad");
    ip("link set tap0 up");
}

#[test]
fn ping_and_demo_go_over_it() {
    wired();
    for address in ["10.9.0.1", "[fd09::1]"] {
        let (_server, uri) = listening(["demo", "server", &format!("tcp://{address}:0")]);
        let ended = run(tuyau(["ping", &uri, "-n", "3", "-i", "0", "--via", VIA]), b"").code(0);
        assert!(ended.text().contains("3 tried, 3 connected"), "{}", ended.text());
        let ended = run(tuyau(["demo", "client", &uri, "--via", VIA]), LINES).code(0);
        assert_eq!(ended.text(), DIALOGUE, "{uri}");
    }
}

#[test]
fn it_asks_its_own_name_server() {
    wired();
    let _nsd = nsd(([10, 9, 0, 1], 53).into(), &[("x.example", "db A 10.9.0.1\n")]);
    let (_server, uri) = listening(["demo", "server", "tcp://10.9.0.1:0"]);
    let by_name = uri.replace("10.9.0.1", "db.x.example");
    let via = format!("{VIA}&dns=10.9.0.1");
    let ended = run(tuyau(["demo", "client", &by_name, "--via", &via]), LINES).code(0);
    assert_eq!(ended.text(), DIALOGUE);
}

#[test]
fn the_kernel_connects_to_what_listens_on_it() {
    wired();
    let (_server, far) = listening(["demo", "server", "tcp://10.9.0.1:0"]);
    let (_bridge, near) = listening(["bridge", "tcp://10.9.0.2:4343", &far, "--listen-via", VIA]);
    assert_eq!(near, "tcp://10.9.0.2:4343");
    let ended = run(tuyau(["demo", "client", &near]), LINES).code(0);
    assert_eq!(ended.text(), DIALOGUE);
}

#[test]
fn nobody_there_and_no_such_device_are_told() {
    wired();
    let ended = run(tuyau(["ping", "tcp://10.9.0.1:1", "-n", "1", "--via", VIA]), b"").code(1);
    assert!(ended.text().contains("refused"), "{}", ended.text());
    // An address that no host on the wire has: ARP is not answered.
    for there in ["tcp://10.9.0.77:1", "tls://10.9.0.77:1"] {
        let args = ["connect", there, "--connect-timeout", "0.3", "--via", VIA];
        let said = run(tuyau(args), b"").code(1).stderr;
        assert!(said.contains("the deadline passed, at tcp 10.9.0.77:1"), "{said}");
        assert!(said.contains("nothing answered: is it up, and is the address right?"), "{said}");
    }
    let via = VIA.replace("tap0", "a-name-that-is-too-long");
    let ended = run(tuyau(["ping", "tcp://10.9.0.1:1", "-n", "1", "--via", &via]), b"").code(1);
    assert!(ended.text().contains("open the packet device `a-name-that-is-too-long`"), "{}", ended.text());
}
