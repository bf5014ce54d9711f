//! What users are told when something on the way fails: the hop, the address, the cause and what to do, once.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread;

use tuyau_testing::certs::{Ca, Leaf};
use tuyau_testing::peers::{Peer, keygen, microsocks, sshd};
use tuyau_testing::{dead_port, free_port};

use crate::peers::{Place, listening, peer, run, tuyau};

/// What was said, with what differs from run to run made equal.
#[derive(Default)]
struct Said {
    text: String,
    equal: Vec<(String, String)>,
}

impl Said {
    /// Shows `what` as `word` from now on.
    fn equal(&mut self, what: impl ToString, word: &str) {
        self.equal.push((what.to_string(), word.into()));
    }

    /// Runs `args` and keeps what it says, under a title.
    fn run(&mut self, title: &str, args: &[&str]) {
        let mut command = tuyau(args);
        command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
        let ended = run(command, b"").code(1);
        let mut said = ended.stderr;
        for (what, word) in &self.equal {
            said = said.replace(what, word);
        }
        let causes = said.matches("os error").count();
        assert!(causes <= 1, "the cause is told {causes} times: {said}");
        self.text.push_str(&format!("# {title}\n{said}\n"));
    }

    /// Connects through `hops`, of which one is at the port.
    fn through(&mut self, title: &str, hops: &[&str], port: u16) {
        self.equal(format!(":{port}"), ":PORT");
        let via = hops.iter().flat_map(|hop| ["--via", hop]);
        self.run(title, &["connect", "tcp://db.test:5432"].into_iter().chain(via).collect::<Vec<_>>());
    }

    fn check(self, name: &str) {
        let filters = [
            (r"\([0-9.]+ (µs|ms|s)\)", "(TIME)"),
            (r"SHA256:[A-Za-z0-9+/]+", "SHA256:…"),
            (r"AAAA[A-Za-z0-9+/=]+", "AAAA…"),
        ];
        insta::with_settings!({filters => filters}, { insta::assert_snapshot!(name, self.text) });
    }
}

/// `openssl s_server` that shows `leaf`, at the port.
fn s_server(place: &Place, leaf: &Leaf, args: &[&str]) -> (Peer, u16) {
    let port = free_port();
    let (cert, key) = leaf.files(place, &format!("server{port}"));
    let mut command = peer("openssl", ["s_server", "-rev", "-cert", &cert, "-key", &key]);
    command.args(["-accept", &format!("127.0.0.1:{port}")]).args(args);
    let mut server = Peer::spawn(&mut command);
    server.line("ACCEPT");
    (server, port)
}

/// Answers each part of what whoever connects says with the next of `answers`, then hangs up, again and again.
fn scripted(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for flow in listener.incoming() {
            let mut flow = flow.expect("it comes");
            for answer in &answers {
                // It may have hung up, which is for the test to see.
                let _ = flow.read(&mut [0; 4096]);
                let _ = flow.write_all(answer);
            }
        }
    });
    port
}

#[test]
fn tls() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let good = ca.leaf(&["127.0.0.1"]);
    let mut said = [Said::default(), Said::default()];
    for (title, leaf, options, args) in [
        ("expired", &ca.expired(&["127.0.0.1"]), &[][..], &["--cacert", &cacert][..]),
        ("not yet valid", &ca.not_yet_valid(&["127.0.0.1"]), &[], &["--cacert", &cacert]),
        ("for others", &ca.leaf(&["db.test", "www.db.test"]), &[], &["--cacert", &cacert]),
        ("unknown authority", &good, &[], &[]),
        ("self-signed", &Leaf::self_signed(&["127.0.0.1"]), &[], &[]),
        ("no client certificate", &good, &["-Verify", "1", "-tls1_2"], &["--cacert", &cacert]),
        ("no common version", &good, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], &["--cacert", &cacert]),
        ("no common protocol", &good, &["-alpn", "x"], &["--cacert", &cacert, "--alpn", "h2,http/1.1"]),
    ] {
        let (_server, port) = s_server(&place, leaf, options);
        for (said, backend) in said.iter_mut().zip(["rustls", "openssl"]) {
            said.equal(format!(":{port}"), ":PORT");
            let uri = format!("tls://127.0.0.1:{port}");
            said.run(title, &[&["connect", &uri, "--tls", backend], args].concat());
        }
    }
    let (plain, silent) = (scripted(vec![b"220 mail.test ESMTP\r\n".to_vec()]), scripted(vec![vec![]]));
    for (said, backend) in said.iter_mut().zip(["rustls", "openssl"]) {
        said.equal(place.path(""), "DIR/");
        for (title, port) in [("plain text", plain), ("hangs up", silent)] {
            said.equal(format!(":{port}"), ":PORT");
            said.run(title, &["connect", &format!("tls://127.0.0.1:{port}"), "--tls", backend]);
        }
        let uri = format!("tls://127.0.0.1:{silent}");
        let key = place.path("none.key");
        said.run("no such file", &["connect", &uri, "--tls", backend, "--cacert", &place.path("none.pem")]);
        said.run("no key", &["connect", &uri, "--tls", backend, "--cert", &cacert, "--key", &key]);
    }
    // Whichever library it was.
    said.into_iter().for_each(|said| said.check("tls"));
}

#[test]
fn a_certificate_that_is_missed_after_the_handshake() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (_server, port) = s_server(&place, &ca.leaf(&["127.0.0.1"]), &["-Verify", "1"]);
    for backend in ["rustls", "openssl"] {
        let uri = format!("tls://127.0.0.1:{port}");
        let ended = run(tuyau(["connect", &uri, "--cacert", &cacert, "--tls", backend]), b"").code(3);
        assert!(ended.stderr.contains("the server requires a client certificate"), "{}", ended.stderr);
        assert!(ended.stderr.contains(&uri) && ended.stderr.contains("--cert FILE"), "{}", ended.stderr);
    }
}

#[test]
fn explain_and_ping_hear_what_is_said_after_the_handshake() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let leaf = ca.leaf(&["127.0.0.1"]);
    let (mine, others) = (ca.client("alice"), Ca::new("Other CA").client("mallory"));
    let (mine, others) = (mine.files(&place, "alice"), others.files(&place, "mallory"));
    let verify = ["-verify_return_error", "-CAfile", &cacert];
    let (_strict, strict) = s_server(&place, &leaf, &[&["-Verify", "1"], &verify[..]].concat());
    let (_curious, curious) = s_server(&place, &leaf, &["-verify", "1"]);
    for backend in ["rustls", "openssl"] {
        let said = |command: &str, port: u16, identity: Option<&(String, String)>, code| {
            let uri = format!("tls://127.0.0.1:{port}");
            let mut args =
                [command.split(' ').collect(), vec![&uri, "--cacert", &cacert, "--tls", backend]].concat();
            args.extend(identity.iter().flat_map(|(cert, key)| ["--cert", cert, "--key", key]));
            run(tuyau(args), b"").code(code).text().to_owned()
        };
        for command in ["explain", "ping -n 1"] {
            let refused = said(command, strict, None, 1);
            for part in [
                &format!("tls 127.0.0.1:{strict}: "),
                "refused after the handshake: the server requires a client certificate",
                "give one, with its key: --cert FILE --key FILE",
            ] {
                assert!(refused.contains(part), "{backend} {command}: no `{part}` in {refused}");
            }
            let refused = said(command, strict, Some(&others), 1);
            assert!(refused.contains("the peer refused our certificate: "), "{backend} {command}: {refused}");
            let accepted = said(command, strict, Some(&mine), 0);
            assert!(accepted.contains("; client certificate: shown\n"), "{backend} {command}: {accepted}");
            let unsure = said(command, curious, None, 0);
            let note = "; client certificate: asked for, and none given: it may refuse\n";
            assert!(unsure.contains(note), "{backend} {command}: {unsure}");
        }
        let refused = said("explain", strict, None, 1);
        assert!(refused.contains("2. tls 127.0.0.1: failed ("), "{refused}");
    }
}

#[test]
fn what_a_proxy_wants_for_tls_is_told_in_its_own_uri() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let (_proxy, port) = s_server(&place, &ca.leaf(&["127.0.0.1"]), &["-Verify", "1", version]);
        let hop = format!("https://127.0.0.1:{port}");
        for (told, cause, advice) in [
            (
                format!("{hop}?cacert={cacert}"),
                "the server requires a client certificate",
                "?cert=FILE&key=FILE in its URI",
            ),
            (
                hop.clone(),
                "an authority that is not trusted",
                "give its certificate: ?cacert=FILE in its URI",
            ),
        ] {
            let said = run(tuyau(["connect", "tls://db.test:1", "--via", &told]), b"").code(1).stderr;
            assert!(
                said.contains(&hop) && said.contains(cause) && said.contains(advice),
                "{version}: {said}"
            );
            assert!(!said.contains("--c") && !said.contains("HTTP proxy"), "{version}: {said}");
        }
    }
}

#[test]
fn a_flag_that_could_be_for_a_proxy_as_well_is_told_how_to_be_for_one_of_them() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (_proxy, port) = s_server(&place, &ca.leaf(&["127.0.0.1"]), &[]);
    let hop = format!("https://127.0.0.1:{port}");
    for args in [&["get"][..], &["load", "-n", "1"], &["explain"], &["proxy", "--to"]] {
        let both = ["https://h.test/", "--via", &hop, "--cacert", &cacert];
        let said = run(tuyau(args.iter().chain(&both)), b"").code(2).stderr;
        for proposal in [
            format!("\n  --via '{hop}?cacert={cacert}'\n"),
            format!("\n  --cacert '{cacert}' --via '{hop}?cacert=OTHER'\n"),
        ] {
            assert!(said.contains(&proposal), "{args:?}: no `{proposal}` in {said}");
        }
    }
    // Both are as good as they are said to be: it is no matter of certificates any more, or of one only.
    let told = format!("{hop}?cacert={cacert}");
    let said = run(tuyau(["get", "https://h.test/", "--via", &told]), b"").code(1).stderr;
    assert!(said.contains(&hop) && !said.contains("certificate"), "{said}");
    let other = format!("{hop}?cacert={}", Ca::new("Other CA").file(&place, "other.pem"));
    let said = run(tuyau(["get", "https://h.test/", "--cacert", &cacert, "--via", &other]), b"");
    let said = said.code(1).stderr;
    assert!(said.contains("not trusted") && said.contains("?cacert=FILE in its URI"), "{said}");
}

#[test]
fn what_is_advised_for_encryption_the_command_takes() {
    for (args, advice) in [
        (&["connect", "tcp://127.0.0.1:1"][..], "use one that encrypts (tls://), or do without --require"),
        (&["get", "http://127.0.0.1:1/"], "ask for it by https://, or do without --require"),
        (&["load", "-n", "1", "http://127.0.0.1:1/"], "ask for it by https://, or do without --require"),
        (&["explain", "http://127.0.0.1:1/"], "ask for it by https://, or do without --require"),
        (
            &["get", "https://127.0.0.1:1/", "--via", "http://127.0.0.1:1"],
            "go through one that encrypts (--via https:// or ssh://), or do without --require",
        ),
        (
            &["connect", "tls://127.0.0.1:1", "--via", "exec:cat"],
            "go through one that encrypts (--via https:// or ssh://), or do without --require",
        ),
    ] {
        let ended = run(tuyau(args.iter().chain(&["--require", "encrypted-hops"])), b"").code(1);
        assert!(format!("{}{}", ended.text(), ended.stderr).contains(advice), "{args:?}: {ended:?}");
    }
}

#[test]
fn whoever_asks_by_http_is_told_of_a_certificate_that_is_missed() {
    let (place, ca) = (Place::new(), Ca::new("Test CA"));
    let cacert = ca.file(&place, "ca.pem");
    let (_server, port) = s_server(&place, &ca.leaf(&["127.0.0.1"]), &["-Verify", "1"]);
    let url = format!("https://127.0.0.1:{port}");
    let (cause, advice) = ("the server requires a client certificate", "--cert FILE --key FILE");
    let load = run(tuyau(["load", "-n", "1", &url, "--cacert", &cacert]), b"").code(1);
    assert!(load.text().contains(cause) && load.text().contains(advice), "{}", load.text());
    let (mut proxy, at) =
        listening(["proxy", "--to", &url, "--cacert", &cacert, "--listen", "tcp://127.0.0.1:0"]);
    run(tuyau(["get", &at.replace("tcp://", "http://")]), b"").code(0);
    let line = proxy.error_line(cause);
    assert!(line.contains(advice), "{line}");
}

#[test]
fn what_a_proxy_says_twice_is_told_once() {
    let body = "<html><head><title>502 Bad Gateway</title></head></html>";
    let answer = format!("HTTP/1.1 502 Bad Gateway\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let hop = format!("http://127.0.0.1:{}", scripted(vec![answer.into_bytes()]));
    let said = run(tuyau(["connect", "tcp://h.test:1", "--via", &hop]), b"").code(1).stderr;
    assert_eq!(said.matches("502 Bad Gateway").count(), 1, "{said}");
}

#[test]
fn a_program_that_has_exited_is_no_connection() {
    let hop = "exec:sh -c 'exit 7'";
    for (args, code) in [(&["explain"][..], 1), (&["ping", "-n", "1"], 1)] {
        let ended = run(tuyau([args, &["tcp://db.test:1", "--via", hop]].concat()), b"").code(code);
        assert!(ended.text().contains("the program ended at once (exit status: 7)"), "{}", ended.text());
    }
    let ended = run(tuyau(["explain", "exec:true"]), b"").code(1);
    assert!(ended.text().contains("the program ended at once (exit status: 0)"), "{}", ended.text());
    for looks in [&["explain", "exec:sleep 1000.25"][..], &["ping", "-n", "1", "exec:sleep 1000.25"]] {
        run(tuyau(looks), b"").code(0);
        let left = fs::read_dir("/proc").expect("Linux").flatten().any(|process| {
            let args = fs::read(process.path().join("cmdline")).unwrap_or_default();
            args == b"sleep\x001000.25\0"
        });
        assert!(!left, "{looks:?} left its program running");
    }
    for (args, code) in [
        (&["explain", "https://db.test"][..], 1),
        (&["get", "https://db.test"], 1),
        (&["get", "http://db.test"], 3),
        (&["load", "-n", "1", "http://db.test"], 1),
        (&["connect", "tcp://db.test:1"], 3),
    ] {
        let ended = run(tuyau(args.iter().chain(&["--via", hop])), b"").code(code);
        let told = "ended with exit status: 7: its standard error may say why";
        assert!(format!("{}{}", ended.text(), ended.stderr).contains(told), "{args:?}: {ended:?}");
    }
    // Whether it was met while it was written to or while it was read from.
    for (uri, how) in
        [("tls://db.test:1", ""), ("tls://db.test:1", "exec <&-; "), ("ws://db.test:1", "exec <&-; ")]
    {
        let hop = format!("exec:sh -c '{how}exit 7'");
        let said = run(tuyau(["connect", uri, "--via", &hop]), b"").code(1).stderr;
        assert!(said.contains("ended with exit status: 7"), "{uri} {how}: {said}");
    }
}

#[test]
fn whatever_runs_out_of_time_is_named_with_what_to_do() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute = silent.local_addr().expect("an address");
    let dns = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let server = dns.local_addr().expect("an address");
    let ssh = format!("ssh://ops@{mute}?known-hosts=/dev/null");
    let (socks, http) = (format!("socks5h://{mute}"), format!("http://{mute}"));
    let reached = "it was reached, but went no further: is that the right port, and the right protocol?";
    let lookup = format!("while deriving ip from host = db.test, net = this machine with DNS by {server}");
    let (nobody, dns) = ("whoever was asked for it did not answer", server.to_string());
    for (args, at, advice) in [
        (&["tcp://db.test:1", "--via", &socks][..], format!("at socks5h {mute} to db.test:1"), reached),
        (&["tcp://db.test:1", "--via", &http], format!("at http {mute} to db.test:1"), reached),
        (&["tcp://db.test:1", "--via", &ssh], format!("at ssh ops@{mute}"), reached),
        // Behind another hop.
        (
            &["tls://db.test:1", "--via", &socks, "--via", "ssh://ops@b.test?known-hosts=/dev/null"],
            format!("at socks5h {mute} to b.test:22"),
            reached,
        ),
        (&[&format!("ws://{mute}/")], format!("at ws {mute}"), reached),
        (
            &[&format!("tls://{mute}")],
            format!("TLS handshake with {mute}: the peer said nothing"),
            "it may not speak TLS",
        ),
        (&["tcp://db.test:1", "--dns", &dns], lookup.clone(), nobody),
        (&["tls://db.test:1", "--dns", &dns], lookup.clone(), nobody),
        (&["tcp://other.test:1", "--via", "socks5h://db.test", "--dns", &dns], lookup, nobody),
    ] {
        let mut command = tuyau([&["connect", "--connect-timeout", "0.3"], args].concat());
        command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
        let said = run(command, b"").code(1).stderr;
        assert!(said.contains(&at) && said.contains(advice), "no `{at}` or `{advice}` in: {said}");
        assert_eq!(said.matches("the deadline passed").count(), 1, "{said}");
    }
}

#[test]
fn hops() {
    let (dead, socks) = (dead_port(), microsocks(Some(("bob", "right"))));
    let mut said = Said::default();
    said.equal(format!(":{dead}"), ":DEAD");
    said.equal(format!(":{}", socks.port()), ":SOCKS");
    let socks5h = format!("socks5h://127.0.0.1:{dead}");
    let ssh = format!("ssh://ops@127.0.0.1:{dead}?known-hosts=/dev/null");
    said.through("dead SOCKS5 proxy", &[&socks5h], dead);
    said.through("dead HTTP proxy", &[&format!("http://127.0.0.1:{dead}")], dead);
    said.through("dead bastion", &[&ssh], dead);
    said.through(
        "dead bastion behind a dead bastion",
        &[&ssh, "ssh://ops@b.test?known-hosts=/dev/null"],
        dead,
    );
    said.through("no program", &["exec:no-such-program %h"], dead);
    said.through("no password", &[&format!("socks5h://127.0.0.1:{}", socks.port())], dead);
    said.through("wrong password", &[&format!("socks5h://bob:wrong@127.0.0.1:{}", socks.port())], dead);
    said.run("get", &["get", "http://db.test/", "--via", &ssh, "--via", &socks5h]);
    let clear = ["connect", "tls://db.test:1", "--via", &socks5h, "--require", "encrypted-hops"];
    said.run("a hop in clear", &clear);
    let explained = run(tuyau([&["explain"], &clear[1..]].concat()), b"").code(1);
    let forbidden = format!("       1. tcp 127.0.0.1:{dead}: failed\n       from ");
    assert!(explained.text().contains(&forbidden), "no `{forbidden}` in {}", explained.text());
    for code in 1..=9 {
        let port = scripted(vec![vec![5, 0], vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]]);
        said.through(&format!("SOCKS5 reply {code}"), &[&format!("socks5h://127.0.0.1:{port}")], port);
    }
    for status in [302, 400, 401, 403, 404, 405, 407, 408, 429, 500, 502, 503, 504] {
        let port = scripted(vec![format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()]);
        said.through(&format!("HTTP status {status}"), &[&format!("http://127.0.0.1:{port}")], port);
    }
    let smtp = scripted(vec![b"220 mail.test ESMTP\r\n".to_vec()]);
    for hop in ["socks5h://", "http://", "https://", "ssh://ops@"] {
        said.through(&format!("{hop} at a mail server"), &[&format!("{hop}127.0.0.1:{smtp}")], smtp);
    }
    said.check("hops");
}

#[test]
fn ssh() {
    let bastion = sshd();
    let (place, dead) = (Place::new(), dead_port());
    let mut said = Said::default();
    said.equal(format!(":{dead}"), ":DEAD");
    said.equal(bastion.port(), "PORT");
    said.equal(bastion.user(), "USER");
    let known = bastion.known_hosts().display().to_string();
    let identity = bastion.identity().display().to_string();
    let line = std::fs::read_to_string(&known).expect("a file");
    let key = line.split_once(' ').expect("a host and a key").1;
    keygen(&["-t", "ed25519", "-N", "", "-f", &place.path("other")]);
    let other = std::fs::read_to_string(place.path("other.pub")).expect("a key");
    let host = format!("[127.0.0.1]:{}", bastion.port());
    for (name, text) in [
        ("empty", String::new()),
        ("changed", format!("{host} {other}")),
        ("revoked", format!("@revoked {host} {key}")),
    ] {
        std::fs::write(place.path(name), text).expect("a file");
    }
    said.equal(known.clone(), "KNOWN");
    said.equal(identity.clone(), "IDENTITY");
    said.equal(place.path(""), "DIR/");
    let user = bastion.user();
    let hop = |known: &str, identity: &str| {
        format!("ssh://{user}@127.0.0.1:{}?known-hosts={known}&identity={identity}", bastion.port())
    };
    for (title, known, identity) in [
        ("unknown host key", &place.path("empty"), &identity),
        ("changed host key", &place.path("changed"), &identity),
        ("revoked host key", &place.path("revoked"), &identity),
        ("refused key", &known, &place.path("other")),
        ("unreadable key", &known, &place.path("empty")),
        ("no such key", &known, &place.path("none")),
    ] {
        said.run(title, &["connect", "tcp://db.test:5432", "--via", &hop(known, identity)]);
    }
    let without = format!("ssh://{user}@127.0.0.1:{}?known-hosts={known}", bastion.port());
    said.run("no key", &["connect", "tcp://db.test:5432", "--via", &without]);
    let good = hop(&known, &identity);
    said.run("nobody behind it", &["connect", &format!("tcp://127.0.0.1:{dead}"), "--via", &good]);
    said.run("no such name there", &["connect", "tcp://no.such.name.test:1", "--via", &good]);
    said.check("ssh");
}
