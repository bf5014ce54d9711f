//! `-4`, `-6`, `--resolve`, `--connect-timeout`, `-v`, `--log`: each acts, or is an error that names it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::Value;

use crate::peers::{listening, run, tuyau};

fn explain(args: &[&str]) -> Value {
    let ended = run(tuyau(["explain", "--json"].iter().chain(args)), b"");
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn endpoints(report: &Value) -> Vec<&str> {
    let candidates = report["candidates"].as_array().expect("candidates");
    candidates.iter().filter_map(|candidate| candidate["endpoint"].as_str()).collect()
}

#[test]
fn families() {
    assert_eq!(endpoints(&explain(&["tcp://localhost:1", "-4"])), ["127.0.0.1:1"]);
    assert_eq!(endpoints(&explain(&["-6", "tcp://localhost:1"])), ["[::1]:1"]);
    assert_eq!(endpoints(&explain(&["tcp://127.0.0.1:1", "-4"])), ["127.0.0.1:1"]);
    for uri in ["tcp://[::1]:1", "tcp://[fe80::1%25lo]:1"] {
        let ended = run(tuyau(["connect", "-4", uri]), b"").code(1);
        assert!(ended.stderr.contains("has no IPv4 address"), "{}", ended.stderr);
    }
    assert!(
        run(tuyau(["connect", "-4", "-6", "tcp://a:1"]), b"").code(2).stderr.contains("cannot be used with")
    );
}

#[test]
fn resolve_as_in_curl() {
    let given = ["example.invalid:1:127.0.0.2,[::1]", "*:2:127.0.0.3", "example.invalid:1:127.0.0.4"];
    let args = |uri| [uri, "--resolve", given[0], "--resolve", given[1], "--resolve", given[2]];
    assert_eq!(endpoints(&explain(&args("tcp://Example.Invalid:1"))), ["127.0.0.4:1"], "the last counts");
    assert_eq!(endpoints(&explain(&args("tcp://whatever.invalid:2"))), ["127.0.0.3:2"]);
    let both = explain(&["tcp://example.invalid:1", "--resolve", given[0]]);
    assert_eq!(endpoints(&both), ["127.0.0.2:1", "[::1]:1"]);
    let six = explain(&["tcp://example.invalid:1", "--resolve", given[0], "-6"]);
    assert_eq!(endpoints(&six), ["[::1]:1"]);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let port = uri.rsplit(':').next().expect("a port");
    let pinned = format!("*:{port}:127.0.0.1");
    let ended = run(tuyau(["connect", &format!("tcp://example.invalid:{port}"), "--resolve", &pinned]), b"x");
    assert_eq!(ended.code(0).text(), "x");
}

#[test]
fn resolve_and_dns_may_be_about_where_a_redirect_leads() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = server.local_addr().expect("an address");
    let port = address.port();
    let serving = thread::spawn(move || {
        let there = format!("302 Found\r\nlocation: http://other.test:{port}/\r\ncontent-length: 0");
        for (head, body) in [(there.as_str(), ""), ("200 OK\r\ncontent-length: 5", "there")] {
            let (mut client, _) = server.accept().expect("a client");
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("a request");
                seen.extend(byte);
            }
            write!(client, "HTTP/1.1 {head}\r\nconnection: close\r\n\r\n{body}").expect("a response");
        }
    });
    let (url, pinned) = (format!("http://{address}/"), format!("other.test:{port}:127.0.0.1"));
    // A name server that nobody asks: the name is pinned.
    let ended = run(tuyau(["get", "-L", "--resolve", &pinned, "--dns", "127.0.0.1:1", &url]), b"").code(0);
    assert_eq!(ended.text(), "there");
    serving.join().expect("a server");
    for (args, names) in [
        (&["get", &url][..], format!("--resolve has no use with http://{address}: none is about {address}")),
        (&["explain", "https://127.0.0.1/"], "--resolve has no use with https://127.0.0.1:443: none".into()),
        (&["get", "-L", "--unix-socket", "/x", &url], "--resolve has no use with unix:/x: no IP".into()),
        (&["get", "-L", "--over", "tcp://h:1", &url], "--resolve has no use with tcp://h:1: none".into()),
    ] {
        let ended = run(tuyau([args, &["--resolve", &pinned]].concat()), b"").code(2);
        assert!(ended.stderr.contains(&names), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn what_has_no_use_is_an_error_that_names_it() {
    for (args, names) in [
        (&["connect", "-4", "unix:/x"][..], "-4 has no use with unix:/x"),
        (&["explain", "-6", "mem:x"], "-6 has no use with mem:x"),
        (&["ping", "exec:cat", "--resolve", "a:1:::1"], "--resolve has no use with exec:cat"),
        (&["plan", "tcp://b:1", "--resolve", "a:1:::1"], "none is about b:1"),
        (&["listen", "tcp://localhost:0", "-4"], "unexpected argument '-4'"),
        (&["demo", "server", "tcp://localhost:0", "--connect-timeout", "1"], "unexpected argument"),
        (&["tour", "--resolve", "a:1:::1"], "unexpected argument '--resolve'"),
        (&["schemes", "-6"], "unexpected argument '-6'"),
        (&["listen", "mem:x", "--echo"], "nobody else can connect to it"),
        (&["bridge", "mem:x", "tcp://h:1"], "nobody else can connect to it"),
        (&["plan", "tcp://h:1", "--via", "exec:nc %h %p", "-4"], "-4 has no use with tcp://h:1 via exec:nc"),
        (&["connect", "unix:/x", "--via", "exec:nc %h %p", "--resolve", "h:1:::1"], "--resolve has no use"),
        (&["connect", "exec:cat", "--via", "exec:nc %h %p"], "exec:nc %h %p would not be used"),
        (&["connect", "tcp://h:1", "--via", "nonsense"], "there is no scheme"),
        (&["connect", "tcp://h:1", "--via", "exec:a,b,c", "--via", "exec:c"], "exec:a,b,c would not be used"),
        (&["connect", "tcp://h:1", "--only-networks", "10.0.0.0"], "ADDRESS/BITS"),
        (&["connect", "tcp://h:1", "--only-protocols", "tpc"], "the protocols are tcp"),
        (&["completions", "bash", "-v"], "-v has no use with `completions`"),
        (&["-v", "man"], "-v has no use with `man`"),
        (
            &["connect", "tcp://h:1", "-J", "bastion:99999"],
            "error: --jump: the port is too large\n  ssh://bastion:99999\n                ^^^^^\n",
        ),
        (
            &["bridge", "tcp://h:0", "tcp://h:1", "--listen-via", "tcp://h"],
            "error: --listen-via: `tcp` is not to go through\n  tcp://h\n  ^^^\n",
        ),
        (&["get", "http://h/", "--via", "foo://h"], "error: --via: unknown hop `foo`\n  foo://h\n  ^^^\n"),
        (&["connect", "https://h"], "as `tuyau get` does"),
        (&["listen", "unix:@x", "--max", "1"], "--max has no use without --echo or --exec"),
        (&["connect", "tcp://h:1?wat=1"], "nothing here consumes the option `wat`"),
        (&["connect", "tcp://h:1", "--resolve", "nonsense"], "HOST:PORT:ADDR"),
        (&["connect", "tcp://h:1", "--connect-timeout", "0"], "it must be more than 0"),
        (&["--log", "a=b=c", "schemes"], "--log a=b=c"),
    ] {
        let ended = run(tuyau(args), b"").code(2);
        assert!(ended.stderr.contains(names), "{args:?}: {}", ended.stderr);
        let of_clap = ended.stderr.contains("unexpected argument") || ended.stderr.contains("invalid value");
        assert!(of_clap || !ended.stderr.contains("Usage:"), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn a_flag_is_for_the_one_part_that_was_not_told() {
    let plan = |args: &[&str], code| run(tuyau(["plan"].iter().chain(args)), b"").code(code).stderr;
    for told in ["--cacert=/a", "--sni=a", "--alpn=h2"] {
        let (flag, value) = told.split_once('=').expect("two");
        let option = flag.trim_start_matches("--");
        let proxy = format!("https://p:1?{option}={value}");
        plan(&["tls://h:1", "--via", &proxy, flag, "b"], 0);
        plan(&[&format!("tls://h:1?tls.{option}=b"), "--via", "https://p:1", flag, "b"], 0);
        let said = plan(&[&format!("tls://h:1?{option}=b"), "--via", &proxy, flag, "b"], 2);
        assert!(said.contains(&format!("what takes the option `{option}` was told itself")), "{said}");
        plan(&[&format!("tls+tls://h:1?tls.1.{option}=c"), flag, "b"], 0);
    }
    let both = ["tls://h:1", "--via", "https://p:1", "--cacert", "/a b"];
    let said = plan(&both, 2);
    assert!(said.contains("--cacert could mean several parts of the way"), "{said}");
    let proposals: Vec<_> = said.lines().filter(|line| line.starts_with("  ")).map(str::trim).collect();
    assert_eq!(proposals, ["--via 'https://p:1?cacert=/a%20b'", "'tls://h:1?cacert=/a%20b'"]);
    // Typed in place of what was typed, each works, with the flag for the other and without.
    for (target, hop) in
        [("tls://h:1", "https://p:1?cacert=/a%20b"), ("tls://h:1?cacert=/a%20b", "https://p:1")]
    {
        plan(&[target, "--via", hop], 0);
        plan(&[target, "--via", hop, "--cacert", "/c"], 0);
    }
}

#[test]
fn the_deadline_ends_what_hangs() {
    // A FIFO that nobody opens for reading: connecting waits for ever.
    let place = crate::peers::Place::new();
    let base = place.path("pipe");
    for end in ["in", "out"] {
        let path = format!("{base}.{end}");
        nix::unistd::mkfifo(path.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    }
    let ended = run(tuyau(["connect", &format!("fifo:{base}"), "--connect-timeout", "0.05"]), b"").code(1);
    assert!(ended.stderr.contains("the deadline passed"), "{}", ended.stderr);
}

#[test]
fn the_report_and_the_log_go_to_standard_error() {
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let ended = run(tuyau(["connect", "-v", &uri]), b"x").code(0);
    assert_eq!(ended.text(), "x");
    assert!(ended.stderr.starts_with("connected: tcp 127.0.0.1:"), "{}", ended.stderr);
    let ended = run(tuyau(["connect", &uri]), b"x").code(0);
    assert_eq!(ended.stderr, "");
    let ended = run(tuyau(["connect", "--log", "tuyau=debug", &uri]), b"x").code(0);
    assert!(ended.stderr.contains("DEBUG") && ended.stderr.contains("sent=1 received=1"), "{}", ended.stderr);
    let ended = run(tuyau(["connect", "--log", "tuyau=warn", &uri]), b"x").code(0);
    assert_eq!(ended.stderr, "");
    // One can follow what is tried, through the hops.
    let hop = "exec:false %h";
    let args = ["connect", "--log", "debug", "tls://localhost:1", "--via", hop];
    let said = run(tuyau(args), b"").stderr;
    for part in [
        "tls localhost:1: connecting",
        "hop tcp localhost:1: begins",
        "exec false localhost: connected after ",
        "hop tcp localhost:1: done after ",
        "tls localhost:1: failed: TLS handshake",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let args = ["connect", "--log", "debug", "tcp://no.such.name.invalid:1"];
    let said = run(tuyau(args), b"").code(1).stderr;
    assert!(said.contains("DEBUG tuyau: ip: failed after "), "{said}");
    let secret = "socks5h://bob:hidden@127.0.0.1:1";
    let said = run(tuyau(["connect", "--log", "trace", "tcp://h:1", "--via", secret]), b"").code(1).stderr;
    assert!(said.contains("DEBUG tuyau: tcp 127.0.0.1:1: failed: ") && !said.contains("hidden"), "{said}");
}

#[test]
fn ping_times_each_step_and_fails_if_none_succeeds() {
    let (_server, uri) = listening(["listen", "tcp://localhost:0", "--echo"]);
    let port = uri.rsplit(':').next().expect("a port");
    let named = format!("tcp://localhost:{port}");
    let ended = run(tuyau(["ping", &named, "-n", "3", "-i", "0"]), b"").code(0);
    let text = ended.text();
    assert_eq!(text.lines().filter(|line| line.contains("seq=")).count(), 3, "{text}");
    let first = text.lines().find(|line| line.contains("seq=1")).expect("a line");
    assert!(first.contains(": seq=1 lookup ") && first.contains(", connect "), "{first}");
    assert!(text.contains("3 tried, 3 connected, 0% failed"), "{text}");
    for step in ["lookup", "connect", "total"] {
        assert!(text.contains(&format!("\n{step} min/avg/median/max/mdev = ")), "{text}");
    }
    let ended = run(tuyau(["ping", "tcp://127.0.0.1:1", "-c", "2", "-i", "0"]), b"").code(1);
    assert!(ended.text().contains("2 tried, 0 connected, 100% failed"), "{}", ended.text());
    assert!(ended.text().contains("refused"), "{}", ended.text());
    let args = ["ping", "https://bob:s3cret@127.0.0.1:1/", "-c", "1", "--via", "exec:false"];
    let (ended, title) = (run(tuyau(args), b"").code(1), "https://***@127.0.0.1:1/ via exec:false");
    assert!(ended.text().starts_with(&format!("ping {title}\n")), "{}", ended.text());
    assert!(ended.text().contains(&format!("\n--- {title} ---\n")), "{}", ended.text());
}

#[test]
fn policies_bind_the_way() {
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let said = |args: &[&str], code| {
        let ended = run(tuyau(["connect", uri.as_str()].iter().chain(args)), b"x").code(code);
        format!("{}{}", ended.text(), ended.stderr)
    };
    assert_eq!(said(&["--only-networks", "127.0.0.0/8"], 0), "x");
    assert_eq!(said(&["--only-protocols", "unix,tcp", "--no-local-lookup"], 0), "x");
    assert!(said(&["--only-networks", "10.0.0.0/8,::/0"], 1).contains("is in none of the networks"));
    assert!(said(&["--only-protocols", "unix"], 1).contains("the policy does not allow `tcp`"));
    for require in ["encrypted", "encrypted-hops"] {
        assert!(said(&["--require", require], 1).contains("the policy wants encryption"), "{require}");
    }
    let ended = run(tuyau(["connect", "tcp://localhost:1", "--no-local-lookup"]), b"").code(1);
    assert!(ended.stderr.contains("the policy forbids lookups on this machine"), "{}", ended.stderr);
}

#[test]
fn a_plan_knows_what_the_policy_forbids_on_the_way() {
    const NETS: &[&str] = &["--only-networks", "127.0.0.0/8"];
    let (clear, certain) = ("the policy wants encryption", "the policy allows certain networks only");
    let by_proxy = "socks5h://127.0.0.1:1 looks `h.test` up itself";
    for (way, policy, says) in [
        ("tcp://192.0.2.1:1", NETS, "192.0.2.1 is in none of the networks"),
        ("tcp://h.test:1 --resolve h.test:1:192.0.2.1", NETS, "192.0.2.1 is in none of the networks"),
        ("tcp://192.0.2.1:1 --via socks5h://127.0.0.1:1", NETS, "192.0.2.1 is in none of the networks"),
        ("tls://127.0.0.1:1 --via http://192.0.2.1:1", NETS, "http://192.0.2.1:1 can't be reached: "),
        ("tcp://h.test:1 --via socks5h://127.0.0.1:1", NETS, by_proxy),
        (
            "tcp://127.0.0.1:1 --via socks5h://h.test:1 --via socks5h://127.0.0.1:1",
            &["--no-local-lookup"],
            "lookup of `h.test`",
        ),
        ("unix:/nonexistent --via ssh://127.0.0.1:1", NETS, certain),
        ("exec:cat", NETS, certain),
        ("tcp://127.0.0.1:1 --via exec:cat", NETS, "exec:cat can't be used: "),
        ("tls://127.0.0.1:1", &["--only-protocols", "tls"], "the policy does not allow `tcp`"),
        ("ws://127.0.0.1:1", &["--only-protocols", "ws"], "the policy does not allow `tcp`"),
        (
            "tcp://127.0.0.1:1 --via https://127.0.0.1:1",
            &["--only-protocols", "tcp"],
            "can't be reached: tls: forbidden: the policy does not allow `tls`",
        ),
        (
            "tcp://127.0.0.1:1 --via exec:cat",
            &["--only-protocols", "tcp"],
            "the policy does not allow `exec`",
        ),
        (
            "https://127.0.0.1:1/ --via socks5h://127.0.0.1:1",
            &["--require", "encrypted-hops"],
            "can't be reached: tcp: forbidden: the policy wants encryption",
        ),
        (
            "tls://127.0.0.1:1 --via ssh://127.0.0.1:1 --via http://127.0.0.1:1",
            &["--require", "encrypted-hops"],
            clear,
        ),
        ("tcp://127.0.0.1:1", &["--require", "encrypted"], clear),
        (
            "tcp://h.test:1",
            &["--no-local-lookup"],
            "lookup of `h.test`: the policy forbids lookups on this machine",
        ),
        ("tcp://h.test:1 --via exec:cat", &["--no-local-lookup"], "who looks `h.test` up can't be known"),
    ] {
        for command in ["plan", "explain"] {
            let mut command =
                tuyau([command].into_iter().chain(way.split(' ')).chain(policy.iter().copied()));
            command.env("HOME", "/nonexistent").env_remove("SSH_AUTH_SOCK");
            let ended = run(command, b"").code(1);
            assert!(ended.text().contains(says), "{way} {policy:?}: {}", ended.text());
        }
    }
    // What is allowed, and what names decide.
    for (way, policy, note) in [
        ("tcp://127.0.0.1:1 --via socks5h://127.0.0.2:1", NETS, None),
        ("tls://127.0.0.1:1 --via ssh://127.0.0.1:1", &["--require", "encrypted-hops"], None),
        ("tcp://h.test:1 --via socks5h://127.0.0.1:1", &["--no-local-lookup"], None),
        ("tcp://h.test:1 --resolve h.test:1:127.0.0.1", &["--no-local-lookup"], None),
        ("tcp://h.test:1 --via socks5://127.0.0.1:1", NETS, Some("address of h.test")),
        ("tcp://127.0.0.1:1 --via socks5h://h.test:1", NETS, Some("address of h.test")),
    ] {
        let args = ["plan"].into_iter().chain(way.split(' ')).chain(policy.iter().copied());
        let ended = run(tuyau(args), b"").code(0);
        let noted = ended.text().contains("can't be known before it is looked up");
        assert_eq!(noted, note.is_some(), "{way}: {}", ended.text());
        assert!(note.is_none_or(|note| ended.text().contains(note)), "{way}: {}", ended.text());
    }
}

#[test]
fn a_program_as_a_hop() {
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let port = uri.rsplit(':').next().expect("a port");
    let named = format!("tcp://localhost:{port}");
    let ended = run(tuyau(["connect", &named, "--via", "exec:nc -N 127.0.0.1 %p"]), b"x").code(0);
    assert_eq!(ended.text(), "x");
    let report = explain(&[&named, "--via", "exec:nc -N 127.0.0.1 %p"]);
    assert_eq!(endpoints(&report), [format!("localhost:{port}")], "the name is left to the program");
    let hop = &report["candidates"][0]["hops"][0];
    assert_eq!((&hop["name"], &hop["outcome"]), (&"exec".into(), &"ok".into()), "{report}");
    assert_eq!(hop["address"], format!("nc -N 127.0.0.1 {port}"));
    for (uri, args, says) in [
        ("tcp://h:1", &["--via", "exec:no-such-program %h"][..], "there is no program `no-such-program`"),
        ("unix:/x", &["--via", "exec:nc %h %p"], "exec:nc %h %p can't connect to `/x`"),
        ("tcp://-oproxycommand=x:1", &["--via", "exec:nc %h %p"], "begins with a hyphen"),
        (
            "tcp://h:1",
            &["--via", "exec:nc %h %p", "--require", "encrypted-hops"],
            "the policy wants encryption",
        ),
        (
            "tcp://h:1",
            &["--via", "exec:nc %h %p", "--only-networks", "::/0"],
            "the policy allows certain networks",
        ),
        ("tcp://h:1", &["--via", "exec:nc %h %p", "--no-local-lookup"], "who looks `h` up can't be known"),
    ] {
        let ended = run(tuyau(["connect", uri].iter().chain(args)), b"").code(1);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
    }
    let ended = run(tuyau(["connect", "tcp://h:1", "--via", "exec:false"]), b"").code(3);
    let says =
        "tcp://h:1 via exec:false broke off: the flow ended unexpectedly: `false` ended with exit status: 1";
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
}
