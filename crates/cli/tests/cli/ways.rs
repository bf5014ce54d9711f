//! Layers and hops, against real peers: psql behind a bastion, TLS, SSH, proxies, WebSocket, and what must send
//! nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{Ended, Sshd, keygen, microsocks, postgres, sshd, tinyproxy};
use tuyau_testing::{dead_port, free_port};

use crate::peers::{Peer, Place, listening, peer, run, tuyau};

/// The program, as a user whose `~/.ssh` knows the bastion and nothing else.
struct Home(Place);

impl Home {
    fn of(sshd: &Sshd) -> Self {
        let home = Self(Place::new());
        let config = format!(
            "Host bastion\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            sshd.port(),
            sshd.user(),
            sshd.identity().display(),
            sshd.known_hosts().display(),
        );
        std::fs::create_dir(home.0.path(".ssh")).expect("a directory");
        std::fs::write(home.0.path(".ssh/config"), config).expect("a file");
        home
    }

    fn tuyau(&self, args: &[&str]) -> Command {
        let mut command = tuyau(args);
        command.env("HOME", self.0.path("")).env_remove("SSH_AUTH_SOCK");
        command
    }

    /// One that listens, and the line that says where.
    fn listening(&self, args: &[&str]) -> (Peer, String) {
        let mut peer = Peer::spawn(&mut self.tuyau(args));
        let line = peer.error_line("listening on ");
        (peer, line.trim_start_matches("listening on ").to_owned())
    }
}

#[test]
fn all_addresses_that_are_listened_on_are_told() {
    let mut server = Peer::spawn(&mut tuyau(["listen", "--echo", "tcp://localhost:0"]));
    let told = [(); 2].map(|()| {
        let line = server.error_line("listening on ");
        let address = line.trim_start_matches("listening on tcp://").parse::<SocketAddr>();
        address.unwrap_or_else(|error| panic!("{line}: {error}"))
    });
    assert!(told[0].port() == told[1].port() && told[0].ip() != told[1].ip(), "{told:?}");
    for address in told {
        assert!(address.ip().is_loopback(), "{address}");
        let ended = run(tuyau(["connect", &format!("tcp://{address}")]), b"all").code(0);
        assert_eq!(ended.text(), "all");
    }
}

/// A port that tells whether anybody came.
fn watched() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn nobody_came(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("it is a socket");
    assert_eq!(listener.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
}

/// An echo over TLS, its URI, and the file of who signed its certificate.
fn tls_echo(place: &Place, uri: &str) -> (Peer, String, String) {
    let ca = Ca::new("CA");
    let (cert, key) = ca.leaf(&["localhost", "db.test"]).files(place, "server");
    let (server, uri) = listening(["listen", uri, "--echo", "--cert", &cert, "--key", &key]);
    (server, uri, ca.file(place, "ca.pem"))
}

fn port(uri: &str) -> &str {
    uri.rsplit(':').next().and_then(|rest| rest.split(['/', '?']).next()).expect("a port")
}

fn assert_says(ended: &Ended, what: &str) {
    assert!(ended.stderr.contains(what), "no `{what}` in: {}", ended.stderr);
}

#[test]
fn psql_runs_a_query_through_a_bastion() {
    let (database, bastion) = (postgres(), sshd());
    let (home, place) = (Home::of(&bastion), Place::new());
    let socket = format!("unix:{}", place.path(".s.PGSQL.5432"));
    let to = format!("tcp://127.0.0.1:{}", database.port());
    let (_bridge, _) = home.listening(&["bridge", &socket, &to, "--via", "ssh://bastion"]);
    for _ in 0..2 {
        let args = ["-h", &place.path(""), "-U", "postgres", "-Atc", "select 6 * 7"];
        assert_eq!(run(peer("psql", args), b"").code(0).text(), "42\n");
    }
}

#[test]
fn one_connection_to_the_bastion_carries_all() {
    let bastion = sshd();
    let home = Home::of(&bastion);
    let (_server, to) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let (mut bridge, near) = home.listening(&["bridge", "tcp://127.0.0.1:0", &to, "-J", "bastion", "-v"]);
    for _ in 0..2 {
        let mut near =
            TcpStream::connect(("127.0.0.1", port(&near).parse().expect("a port"))).expect("it listens");
        near.write_all(b"x").and_then(|()| near.read_exact(&mut [0])).expect("an echo");
    }
    bridge.error_line("connected before");
}

#[test]
fn sockets_and_listeners_beyond_a_bastion() {
    let bastion = sshd();
    let (home, place) = (Home::of(&bastion), Place::new());
    let far = format!("unix:{}", place.path("far"));
    let (_server, _) = listening(["listen", &far, "--echo"]);
    let ended = run(home.tuyau(&["connect", &far, "--via", "ssh://bastion"]), b"x").code(0);
    assert_eq!(ended.text(), "x");
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let (_bridge, _) = home.listening(&["bridge", &listen, &far, "--listen-via", "ssh://bastion"]);
    assert_eq!(run(tuyau(["connect", &listen]), b"y").code(0).text(), "y");
    let ended = run(home.tuyau(&["connect", "ssh://bastion?exec=tr%20a-z%20A-Z"]), b"loud").code(0);
    assert_eq!(ended.text(), "LOUD");
    for require in ["encrypted", "encrypted-hops"] {
        let args = ["connect", "ssh://bastion?exec=cat", "--require", require];
        assert_eq!(run(home.tuyau(&args), b"x").code(0).text(), "x", "SSH encrypts: {require}");
    }
}

#[test]
fn layers_over_hops_over_hops() {
    let (bastion, socks, http) = (sshd(), microsocks(None), tinyproxy(None));
    let (home, place) = (Home::of(&bastion), Place::new());
    // These proxies end both directions when one ends, so that an echo could be cut off.
    let ca = Ca::new("CA");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
    let (_server, uri) = listening(["demo", "server", "tls://127.0.0.1:0", "--cert", &cert, "--key", &key]);
    let (uri, ca) = (format!("tls://localhost:{}", port(&uri)), ca.file(&place, "ca.pem"));
    let (socks, http) =
        (format!("socks5h://127.0.0.1:{}", socks.port()), format!("127.0.0.1:{}", http.port()));
    for way in [
        vec!["--via", "ssh://bastion"],
        vec!["--via", &socks, "--via", "ssh://bastion"],
        vec!["-x", &http],
        vec!["-J", "bastion", "-x", &http, "--via", &socks],
        vec!["--via", "exec:nc -N 127.0.0.1 %p"],
    ] {
        for backend in ["rustls", "openssl"] {
            let args = [
                "demo",
                "client",
                "-n",
                "2",
                &uri,
                "--cacert",
                &ca,
                "--tls",
                backend,
                "--require",
                "encrypted",
            ];
            let ended = run(home.tuyau(&[&args, &way[..]].concat()), b"").code(0);
            assert!(ended.text().contains("2 pings, 2 pongs"), "{way:?}: {}", ended.text());
        }
    }
    let args = ["explain", "--json", &uri, "--cacert", &ca, "--via", &socks, "--via", "ssh://bastion"];
    let report: serde_json::Value =
        serde_json::from_slice(&run(home.tuyau(&args), b"").code(0).stdout).expect("JSON");
    let hops = report["candidates"][0]["hops"].as_array().expect("hops");
    let names: Vec<_> = hops.iter().filter_map(|hop| hop["name"].as_str()).collect();
    assert_eq!(names, ["tcp", "socks5h", "ssh", "ssh authentication", "ssh channel", "tls"]);
    for hop in hops {
        assert_eq!((&hop["outcome"], hop["took_ms"].is_f64()), (&"ok".into(), true), "{hop}");
    }
    assert!(hops[5]["detail"].as_str().is_some_and(|it| it.starts_with("TLS 1.3, ")), "{}", hops[5]);
}

/// The steps of the way as `explain` tells them, without their times.
fn steps(explained: &str) -> Vec<String> {
    let step = |line: &str| {
        let (number, step) = line.trim().split_once(". ")?;
        let is_step = line.starts_with("       ") && number.parse::<u32>().is_ok();
        is_step.then(|| step.split(" (").next().unwrap_or(step).to_owned())
    };
    explained.lines().filter_map(step).collect()
}

#[test]
fn explain_tells_the_steps_in_the_order_of_the_way() {
    let (bastion, socks, http) = (sshd(), microsocks(None), tinyproxy(None));
    let (home, place) = (Home::of(&bastion), Place::new());
    let ca = Ca::new("CA");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
    let ca = ca.file(&place, "ca.pem");
    let both = format!("tls.1.cert={cert}&tls.1.key={key}&tls.2.cert={cert}&tls.2.key={key}");
    let (_clear, clear) = listening(["demo", "server", "tcp://127.0.0.1:0"]);
    let (_tls, tls) = listening(["demo", "server", "tls://127.0.0.1:0", "--cert", &cert, "--key", &key]);
    let (_twice, twice) = listening(["demo", "server", &format!("tls+tls://127.0.0.1:0?{both}")]);
    let (_web, web) = listening(["demo", "server", "wss://127.0.0.1:0/chat", "--cert", &cert, "--key", &key]);
    let tls_to = |port: u16| {
        listening([
            "bridge",
            &format!("tls://127.0.0.1:0?cert={cert}&key={key}"),
            &format!("tcp://127.0.0.1:{port}"),
        ])
    };
    let ((_https, https), (_sockss, sockss)) = (tls_to(http.port()), tls_to(socks.port()));
    let (clear, tls, twice, web) = (port(&clear), port(&tls), port(&twice), port(&web));
    let (https, sockss) = (port(&https), port(&sockss));
    let (socks, http, ssh) = (socks.port(), http.port(), bastion.port());
    let user = format!("{}@127.0.0.1:{ssh}", bastion.user());
    let (to_clear, to_tls) =
        (format!("tcp://127.0.0.1:{clear}"), format!("tls://localhost:{tls}?cacert={ca}"));
    let to_twice = format!("tls+tls://localhost:{twice}?tls.1.cacert={ca}&tls.2.cacert={ca}");
    let to_web = format!("wss://localhost:{web}/chat?cacert={ca}");
    let by_socks = format!("socks5h://127.0.0.1:{socks}");
    let by_http = format!("http://127.0.0.1:{http}");
    let by_https = format!("https://localhost:{https}?cacert={ca}");
    let by_sockss = format!("socks5h+tls://localhost:{sockss}?cacert={ca}");
    let by_exec = format!("exec:nc -N 127.0.0.1 {clear}");
    let ways: [(&[&str], &[String]); 9] = [
        (&[&to_clear], &[]),
        (&[&to_tls, "-4"], &[format!("tcp 127.0.0.1:{tls}: ok"), "tls localhost: ok".into()]),
        (
            &[&to_clear, "--via", &by_socks, "--via", &by_http],
            &[
                format!("tcp 127.0.0.1:{socks}: ok"),
                format!("socks5h 127.0.0.1:{socks} to 127.0.0.1:{http}: ok"),
                format!("http 127.0.0.1:{http} to 127.0.0.1:{clear}: ok"),
            ],
        ),
        (
            &[&to_tls, "--via", &by_socks, "--via", "ssh://bastion"],
            &[
                format!("tcp 127.0.0.1:{socks}: ok"),
                format!("socks5h 127.0.0.1:{socks} to 127.0.0.1:{ssh}: ok"),
                format!("ssh {user}: ok"),
                format!("ssh authentication {}: ok", bastion.user()),
                format!("ssh channel localhost:{tls}: ok"),
                "tls localhost: ok".into(),
            ],
        ),
        (
            &[&to_clear, "-4", "--via", &by_sockss, "-J", "bastion"],
            &[
                format!("tcp 127.0.0.1:{sockss}: ok"),
                "tls localhost: ok".into(),
                format!("socks5h localhost:{sockss} to 127.0.0.1:{ssh}: ok"),
                format!("ssh {user}: ok"),
                format!("ssh authentication {}: ok", bastion.user()),
                format!("ssh channel 127.0.0.1:{clear}: ok"),
            ],
        ),
        (
            &[&to_tls, "-4", "--via", &by_https],
            &[
                format!("tcp 127.0.0.1:{https}: ok"),
                "tls localhost: ok".into(),
                format!("https localhost:{https} to localhost:{tls}, looked up there: ok"),
                "tls localhost: ok".into(),
            ],
        ),
        (
            &[&to_twice, "-4"],
            &[format!("tcp 127.0.0.1:{twice}: ok"), "tls localhost: ok".into(), "tls localhost: ok".into()],
        ),
        (
            &[&to_web, "-4"],
            &[
                format!("tcp 127.0.0.1:{web}: ok"),
                "tls localhost: ok".into(),
                format!("ws localhost:{web}/chat: ok"),
            ],
        ),
        (&[&to_clear, "--via", &by_exec], &[format!("exec nc -N 127.0.0.1 {clear}: ok")]),
    ];
    for (args, expected) in ways {
        let explained = run(home.tuyau(&[&["explain"], args].concat()), b"").code(0);
        assert_eq!(steps(explained.text()), expected, "{args:?}: {}", explained.text());
        // The same steps in the other renderings.
        let names: Vec<_> = expected.iter().map(|step| step.trim_end_matches(": ok")).collect();
        let json = run(home.tuyau(&[&["explain", "--json"], args].concat()), b"").code(0);
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let hops = json["candidates"][0]["hops"].as_array().expect("hops");
        let hops: Vec<_> = hops
            .iter()
            .map(|hop| format!("{} {}", hop["name"].as_str().unwrap(), hop["address"].as_str().unwrap()))
            .collect();
        assert_eq!(hops, names);
        let page = place.path("page.html");
        let dot = run(home.tuyau(&[&["explain", "--dot", "--html", &page], args].concat()), b"").code(0);
        let page = std::fs::read_to_string(page).expect("a page");
        let (mut dot, mut page) = (dot.text(), page.as_str());
        for (index, name) in names.iter().enumerate() {
            let label = format!("c0h{index} [label=\"{name}\\nok (");
            dot = dot.split_once(&label).unwrap_or_else(|| panic!("no {label} in {dot}")).1;
            let label = format!(">{name}</span>");
            page = page.split_once(&label).unwrap_or_else(|| panic!("no {label} in {page}")).1;
        }
    }
}

#[test]
fn tls_in_tls_and_websocket() {
    let place = Place::new();
    let ca = Ca::new("CA");
    let (cert, key) = ca.leaf(&["localhost"]).files(&place, "server");
    let ca = ca.file(&place, "ca.pem");
    let both = format!("tls.1.cert={cert}&tls.1.key={key}&tls.2.cert={cert}&tls.2.key={key}");
    let (_twice, uri) = listening(["listen", &format!("tls+tls://127.0.0.1:0?{both}"), "--echo"]);
    let uri = format!("tls+tls://localhost:{}?tls.1.cacert={ca}&tls.2.cacert={ca}", port(&uri));
    assert_eq!(run(tuyau(["connect", &uri]), b"twice").code(0).text(), "twice");
    let ping = run(tuyau(["ping", "-n", "1", &uri]), b"").code(0);
    assert!(ping.text().contains(", tls ") && ping.text().contains(", tls #2 "), "{}", ping.text());

    let (_web, uri) =
        listening(["listen", "wss://127.0.0.1:0/chat", "--echo", "--cert", &cert, "--key", &key]);
    let uri = format!("wss://localhost:{}/chat", port(&uri));
    let ended = run(tuyau(["connect", &uri, "--cacert", &ca, "--require", "encrypted-hops"]), b"web").code(0);
    assert_eq!(ended.text(), "web");
    let unix = format!("ws+unix:{}", place.path("ws"));
    let (_web, _) = listening(["listen", &unix, "--echo"]);
    assert_eq!(run(tuyau(["connect", &format!("{unix}?host=x")]), b"web").code(0).text(), "web");
}

#[test]
fn a_way_that_fails_sends_nothing_to_the_destination() {
    let (target, address) = watched();
    let place = Place::new();
    let (dead, nobody) = (dead_port(), format!("tls://{address}"));
    let (tls, tcp) = (nobody.as_str(), format!("tcp://{address}"));
    let missing = place.path("missing");
    std::fs::write(place.path("garbage"), "no key").expect("a file");
    let garbage = place.path("garbage");
    let (_server, echo, ca) = tls_echo(&place, "tls://127.0.0.1:0");
    let home = Home(Place::new());
    for (args, says) in [
        (vec![&*tcp, "--via", &format!("socks5h://127.0.0.1:{dead}")], "Connection refused"),
        (vec![&*tcp, "--via", &format!("ssh://ops@127.0.0.1:{dead}")], "Connection refused"),
        (vec![&*tcp, "--via", &format!("http://127.0.0.1:{dead}")], "Connection refused"),
        // That one speaks TLS, and neither SSH nor SOCKS.
        (
            vec![&*tcp, "--via", &format!("ssh://ops@127.0.0.1:{}", port(&echo))],
            "hung up during the handshake",
        ),
        (vec![tls, "--cacert", &missing], "No such file"),
        (vec![tls, "--cacert", &garbage], "garbage"),
        (vec![tls, "--cacert", &ca, "--cert", &ca, "--key", &missing], "No such file"),
        (vec![tls, "--cacert", &ca, "--cert", &ca, "--key", &garbage], "garbage"),
        (vec![&*tcp, "--require", "encrypted"], "the policy wants encryption"),
        (vec![tls, "--only-networks", "10.0.0.0/8"], "is in none of the networks"),
    ] {
        let ended = run(home.tuyau(&[&["connect"], &args[..]].concat()), b"x").code(1);
        assert_says(&ended, says);
        nobody_came(&target);
    }
}

#[test]
fn nothing_goes_in_clear_where_tls_fails() {
    let (target, address) = watched();
    let talking = std::thread::spawn(move || {
        let (mut flow, _) = target.accept().expect("it comes");
        flow.write_all(b"SSH-2.0-banner\r\n").expect("it reads");
        let mut came = Vec::new();
        // It hangs up, or resets.
        let _ = flow.read_to_end(&mut came);
        came
    });
    let ended = run(tuyau(["connect", &format!("tls://{address}")]), b"secret in clear").code(1);
    assert_says(&ended, "SSH-2.0-banner");
    let came = talking.join().expect("it does not panic");
    assert!(!String::from_utf8_lossy(&came).contains("secret"), "{came:?}");
}

#[test]
fn the_proxy_of_the_environment() {
    let (socks, dead) = (microsocks(None), dead_port());
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let through = |variables: &[(&str, &str)], code| {
        let mut command = tuyau(["connect", "-v", &uri, "--proxy-from-env"]);
        command.envs(variables.iter().copied());
        run(command, b"x").code(code)
    };
    let all = format!("socks5h://127.0.0.1:{}", socks.port());
    assert_says(&through(&[("ALL_PROXY", &all)], 0), "socks5h");
    let dead = format!("socks5h://user:s3cret@127.0.0.1:{dead}");
    let failed = through(&[("ALL_PROXY", &dead)], 1);
    assert_says(&failed, "Connection refused");
    assert!(!failed.stderr.contains("s3cret"), "{}", failed.stderr);
    assert!(!through(&[("ALL_PROXY", &dead), ("NO_PROXY", "127.0.0.1")], 0).stderr.contains("socks5h"));
    assert_says(&through(&[("ALL_PROXY", "gopher://x")], 2), "ALL_PROXY");
    let colon_lost = through(&[("ALL_PROXY", "http//user:s3cret@127.0.0.1:1")], 2);
    assert_says(&colon_lost, "ALL_PROXY has a /, ? or # before the @: is `://` missing");
    assert!(!colon_lost.stderr.contains("s3cret"), "{}", colon_lost.stderr);
    let mut excepted = tuyau(["plan", &uri, "--proxy-from-env"]);
    excepted.env("ALL_PROXY", &dead).env("NO_PROXY", "127.0.0.0/8");
    assert!(run(excepted, b"").code(0).text().contains("note: no proxy: NO_PROXY excepts 127.0.0.1"));
    // HTTP has variables of its own.
    let port = uri.rsplit(':').next().expect("a port");
    for (scheme, variable) in [("http", "http_proxy"), ("https", "HTTPS_PROXY")] {
        let mut get = tuyau(["get", &format!("{scheme}://127.0.0.1:{port}/"), "--proxy-from-env"]);
        get.env(variable, &dead);
        assert_says(&run(get, b"").code(1), "can't be reached");
    }
    let mut proxy = tuyau(["proxy", "--listen", "tcp://127.0.0.1:0", "--proxy-from-env"]);
    proxy.env("ALL_PROXY", &all);
    assert_says(&run(proxy, b"").code(2), "--proxy-from-env has no use without --to");
    let mut ignored = tuyau(["connect", "-v", &uri]);
    ignored.env("ALL_PROXY", &dead);
    run(ignored, b"x").code(0);
}

#[test]
fn secrets_are_in_no_output() {
    let dead = dead_port();
    let (socks, refuses) = (microsocks(Some(("user", "right"))), format!("tcp://127.0.0.1:{dead}"));
    let place = Place::new();
    for hop in [
        format!("socks5h://user:s3cret@127.0.0.1:{}", socks.port()),
        format!("socks5://user:s3cret@127.0.0.1:{dead}"),
        format!("http://user:s3cret@127.0.0.1:{dead}"),
        format!("ssh://user:s3cret@127.0.0.1:{dead}?known-hosts={}", place.path("none")),
        format!("http://user:s3cret@127.0.0.1:{dead}?s3cret=1"),
    ] {
        for command in ["connect", "explain", "plan", "ping -n 1"] {
            let mut args: Vec<_> = command.split(' ').collect();
            args.extend([&*refuses, "--via", &hop, "-v", "--log", "trace"]);
            let ended = run(tuyau(&args), b"");
            let said =
                format!("{}{}", ended.text(), ended.stderr).replace("?s3cret=1", "").replace("`s3cret`", "");
            assert!(!said.contains("s3cret"), "{command} {hop}: {said}");
        }
    }
}

#[test]
fn the_proxy_protocol_on_both_sides() {
    let place = Place::new();
    let (_server, uri) = listening([
        "demo",
        "server",
        "tcp://127.0.0.1:0?proxy-protocol=127.0.0.0/8",
        "--seen",
        &place.path("seen"),
    ]);
    let to = format!("tcp://127.0.0.1:{}?proxy-protocol=v2", port(&uri));
    let (_bridge, near) = listening(["bridge", "tcp://127.0.0.1:0", &to]);
    let mut near =
        TcpStream::connect(("127.0.0.1", port(&near).parse().expect("a port"))).expect("it listens");
    let ours = near.local_addr().expect("an address").to_string();
    near.write_all(b"ping\r\n").and_then(|()| near.read_exact(&mut [0; 6])).expect("an answer");
    let seen = std::fs::read_to_string(place.path("seen")).expect("a line");
    assert!(seen.contains(&ours), "{ours} is carried on as itself: {seen}");
    let plain =
        TcpStream::connect(("127.0.0.1", port(&uri).parse().expect("a port"))).and_then(|mut flow| {
            flow.write_all(b"ping\r\n")?;
            flow.read(&mut [0])
        });
    assert!(matches!(plain, Ok(0) | Err(_)), "without a header nobody is served");
}

#[test]
fn names_are_looked_up_where_dns_says() {
    let dead = dead_port();
    let args = ["connect", "tcp://db.test:1", "--dns", &format!("127.0.0.1:{dead}"), "--deadline", "20"];
    assert_says(&run(tuyau(args), b"").code(1), &format!("127.0.0.1:{dead}"));
    let ended = run(tuyau(["connect", "tcp://127.0.0.1:1", "--dns", "127.0.0.1"]), b"").code(2);
    assert_says(&ended, "--dns has no use");
    let tap = ["connect", "tcp://db.test:1", "--dns", "127.0.0.1", "--via", "tap:none?addr=10.0.0.2/24"];
    assert_says(&run(tuyau(tap), b"").code(2), "asks its own name servers");
}

#[test]
fn a_unix_socket_as_seen_from_a_bridge() {
    let place = Place::new();
    let (_server, uri, ca) = tls_echo(&place, "tls://127.0.0.1:0");
    let to = format!("tls://localhost:{}", port(&uri));
    let near = place.path("near");
    let (_bridge, _) = listening(["bridge", &format!("unix:{near}"), &to, "--cacert", &ca]);
    let mut near = UnixStream::connect(near).expect("it listens");
    near.write_all(b"x").and_then(|()| near.read_exact(&mut [0])).expect("an echo over TLS");
}

#[test]
fn a_passphrase_is_asked_for_on_the_terminal() {
    let bastion = sshd();
    let home = Home::of(&bastion);
    let identity = bastion.identity().display().to_string();
    keygen(&["-p", "-P", "", "-N", "s3cret", "-f", &identity]);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let line = format!("{} ping -n 1 {uri} -J bastion", env!("CARGO_BIN_EXE_tuyau"));
    let ask = |answer: &[u8], code| {
        let mut command = peer("script", ["-qec", &line, "/dev/null"]);
        command.env("HOME", home.0.path("")).env_remove("SSH_AUTH_SOCK");
        run(command, answer).code(code)
    };
    let ended = ask(b"s3cret\n", 0);
    assert!(ended.text().contains(&format!("Passphrase of {identity}")), "{}", ended.text());
    assert!(ended.text().contains("1 connected"), "{}", ended.text());
    // Nobody to ask: that is no reason to wait.
    let ended = run(home.tuyau(&["ping", "-n", "1", &uri, "-J", "bastion"]), b"").code(1);
    assert!(ended.text().contains(&identity), "{}", ended.text());
}

#[test]
fn ping_times_each_hop() {
    let socks = microsocks(None);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let hop = format!("socks5h://127.0.0.1:{}", socks.port());
    let ended = run(tuyau(["ping", "-n", "1", &uri, "--via", &hop]), b"").code(0);
    let line = ended.text().lines().find(|line| line.contains("seq=1")).expect("a line");
    assert!(line.contains(" tcp ") && line.contains(", socks5h "), "{line}");
}

#[test]
fn each_step_to_and_at_a_bastion_is_told_and_timed() {
    let bastion = sshd();
    let home = Home::of(&bastion);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let ended = run(home.tuyau(&["ping", "-n", "1", &uri, "-J", "bastion"]), b"").code(0);
    let line = ended.text().lines().find(|line| line.contains("seq=1")).expect("a line");
    for step in [" tcp ", ", ssh ", ", ssh authentication ", ", ssh channel "] {
        assert!(line.contains(step), "{step}: {line}");
    }
    let ended = run(home.tuyau(&["explain", &uri, "-J", "bastion"]), b"").code(0);
    let channel = format!("4. ssh channel {}: ok (", uri.trim_start_matches("tcp://"));
    assert!(ended.text().contains(&channel), "{}", ended.text());
    let plan = run(home.tuyau(&["plan", &uri, "--via", "socks5h://h:1", "-J", "bastion"]), b"").code(0);
    assert!(
        plan.text().contains("note: the way: 1. socks5h://h:1, 2. ssh://bastion, 3. "),
        "{}",
        plan.text()
    );
    assert!(!plan.text().contains(" ip,"), "it is looked up by the bastion: {}", plan.text());
    assert!(plan.text().contains("from net = ssh://"), "{}", plan.text());
    assert!(!plan.text().contains("crates/"), "{}", plan.text());
}

#[test]
fn what_tls_agreed_on_is_told() {
    let place = Place::new();
    let ca = Ca::new("CA");
    let (cert, key) = ca.leaf(&["127.0.0.1"]).files(&place, "server");
    let ca = ca.file(&place, "ca.pem");
    let (_deaf, none) = listening(["listen", "tls://127.0.0.1:0", "--echo", "--cert", &cert, "--key", &key]);
    let (_h2, h2) =
        listening(["listen", "tls://127.0.0.1:0?alpn=h2", "--echo", "--cert", &cert, "--key", &key]);
    for backend in ["rustls", "openssl"] {
        let said = |command: &str, uri: &str, more: &[&str]| {
            let args = [command.split(' ').collect(), vec![uri, "--cacert", &ca, "--tls", backend]].concat();
            let ended = run(tuyau([&args[..], more].concat()), b"").code(0);
            format!("{}{}", ended.text(), ended.stderr)
        };
        for command in ["explain", "ping -n 1", "connect -v"] {
            let offer = ["--alpn", "h2,http/1.1"];
            for (uri, more, tells) in [
                (&none, &offer[..], "; ALPN: none agreed on, of h2, http/1.1\n"),
                (&h2, &offer, "; ALPN: h2\n"),
                (&h2, &[], "TLS 1.3, TLS_AES_256_GCM_SHA384\n"),
            ] {
                let said = said(command, uri, more);
                assert!(said.contains(tells), "{backend} {command}: {said}");
            }
        }
    }
}

#[test]
fn a_socks_proxy_looks_names_up_or_not() {
    let socks = microsocks(None);
    let (_server, uri) = listening(["listen", "tcp://127.0.0.1:0", "--echo"]);
    let named = format!("tcp://localhost:{}", port(&uri));
    let endpoint = |scheme: &str, more: &[&str]| {
        let hop = format!("{scheme}://127.0.0.1:{}", socks.port());
        let ended = run(tuyau(["explain", "--json", &named, "--via", &hop].iter().chain(more)), b"");
        let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
        let candidates = report["candidates"].as_array().expect("candidates").clone();
        candidates.iter().filter_map(|it| it["endpoint"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(endpoint("socks5h", &[]), [format!("localhost:{}", port(&uri))]);
    assert_eq!(endpoint("socks5", &["-4"]), [format!("127.0.0.1:{}", port(&uri))]);
    let pinned = format!("*:{}:127.0.0.1", port(&uri));
    assert_eq!(endpoint("socks5", &["--resolve", &pinned]), [format!("127.0.0.1:{}", port(&uri))]);
}
