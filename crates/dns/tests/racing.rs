//! Racing (RFC 8305) against the kernel's TCP, in network namespaces of the tests' own, where IPv6 is dropped,
//! slow or refused; curl, in the same place, is the comparison.
#![cfg(target_os = "linux")]

use std::env;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tuyau_core::names::{ATTEMPT_DELAY, DEADLINE, HOST, PORT};
use tuyau_core::report::{Candidate, Outcome};
use tuyau_core::{Context, Report};
use tuyau_dns::{Config, Dns, Random, Server};
use tuyau_testing::peers::{self, Nsd};
use tuyau_tokio::{TCP, derivations, host, runtime};

const V4: &str = "10.9.0.1";
const V6: &str = "fd09::1";
const WEB: u16 = 8080;
/// Longer than any of this takes on a busy machine, unless it waits for what it must not wait for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says to the test that it runs in its namespace.
const INSIDE: &str = "TUYAU_TEST_NETNS";

/// Runs `story` in a network namespace that has nothing but a loopback interface, with [`V4`] and [`V6`] on it,
/// and these rules for what comes in. Root may make one; others become root in a user namespace.
fn in_namespace<F: Future<Output = ()>>(test: &str, rules: &str, story: impl FnOnce() -> F) {
    if env::var_os(INSIDE).is_some() {
        let ip = |args: &str| run("ip", "iproute2", &args.split(' ').collect::<Vec<_>>(), "");
        ip("link set lo up");
        ip(&format!("addr add {V4}/32 dev lo"));
        ip(&format!("-6 addr add {V6}/128 dev lo nodad"));
        let table = format!(
            "table inet race {{\n set seen {{\n type inet_service\n flags dynamic\n size 64\n }}\n chain come_in {{\n type filter hook input priority 0;\n {rules}\n }}\n}}\n"
        );
        run("nft", "nftables", &["-f", "-"], &table);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.expect("a runtime").block_on(story());
    }
    let inner = tuyau_testing::rerun(test, INSIDE);
    let mut command = peers::command("unshare", "util-linux");
    let root = nix::unistd::geteuid().is_root();
    command.arg(if root { "-n" } else { "-Urn" }).arg(inner.get_program()).args(inner.get_args());
    command.env(INSIDE, "1");
    let ended = peers::run(command, b"");
    assert!(
        !ended.stderr.contains("unshare:"),
        "this test needs a network namespace: run it as root, or where user namespaces are allowed: {}",
        ended.stderr
    );
    println!("{}", ended.code(0).text());
}

fn run(program: &str, package: &str, args: &[&str], input: &str) -> String {
    let mut command = Command::new(peers::require(program, package));
    command.args(args);
    peers::run(command, input.as_bytes()).code(0).text().to_owned()
}

/// The first packet of each connection to [`V6`] is lost; the kernel sends it again after a second.
fn slow_v6() -> String {
    let first = format!("ip6 daddr {V6} tcp dport {WEB} tcp sport != @seen");
    format!("{first} add @seen {{ tcp sport }} drop")
}

/// A web server of one line, on each of the addresses.
async fn serve(addresses: &[&str]) {
    for address in addresses {
        let at = SocketAddr::new(address.parse().expect("an address"), WEB);
        let listener = TcpListener::bind(at).await.expect("listen");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Closed with the request unread, the connection would be reset.
                    let _ = stream.read(&mut [0; 1000]).await;
                    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await;
                });
            }
        });
    }
}

fn name_server() -> Nsd {
    let records = format!("race A {V4}\nrace AAAA {V6}");
    peers::nsd(SocketAddr::from(([127, 0, 0, 1], 5353)), &[("x.example", &records)])
}

/// The name, looked up by `server`.
fn ctx(server: SocketAddr) -> Context {
    let dns =
        Dns::new(Config::new([Server::at(server)]), runtime(), Random::system()).expect("a configuration");
    let ctx = Context::new().with(&HOST, "race.x.example.".into()).with(&PORT, WEB);
    dns.on_host(host()).bind(derivations(ctx)).offer(&TCP)
}

/// What curl takes to connect to the same addresses, in seconds, and to which it did.
fn curl() -> (f64, String) {
    let resolve = format!("race.x.example:{WEB}:[{V6}],{V4}");
    let url = format!("http://race.x.example:{WEB}/");
    let args = [
        "-sS",
        "--noproxy",
        "*",
        "--resolve",
        &resolve,
        "-o",
        "/dev/null",
        "-w",
        "%{time_connect} %{remote_ip}",
        &url,
    ];
    let said = run("curl", "curl", &args, "");
    let (time, ip) = said.split_once(' ').expect("two words");
    (time.parse().expect("seconds"), ip.to_owned())
}

async fn resolve(ctx: &Context) -> Report {
    let resolved = tokio::time::timeout(PATIENCE, ctx.resolve()).await.expect("it waits for what is dead");
    resolved.expect("resolve").report()
}

fn compare(what: &str, report: &Report) {
    let (theirs, ip) = curl();
    let ours = report.took.expect("a clock").as_secs_f64();
    println!("{what}: {:.0} ms with the lookup; curl without: {:.0} ms, to {ip}", ours * 1e3, theirs * 1e3);
}

fn candidate<'a>(report: &'a Report, ip: &str) -> &'a Candidate {
    let is_it =
        |candidate: &&Candidate| candidate.endpoint.as_ref().is_some_and(|endpoint| endpoint.contains(ip));
    report.candidates.iter().find(is_it).unwrap_or_else(|| panic!("{ip} is not in {report:#}"))
}

fn started(report: &Report, ip: &str) -> Duration {
    candidate(report, ip).started.expect("it had its turn")
}

#[test]
fn a_dropped_family_costs_the_stagger() {
    let drop = format!("ip6 daddr {V6} tcp dport {WEB} drop");
    in_namespace("a_dropped_family_costs_the_stagger", &drop, || async {
        serve(&[V4, V6]).await;
        let nsd = name_server();
        let report = resolve(&ctx(nsd.address())).await;
        assert_eq!(candidate(&report, V6).outcome, Outcome::Cancelled, "{report:#}");
        assert_eq!(candidate(&report, V4).outcome, Outcome::Connected, "{report:#}");
        let stagger = started(&report, V4) - started(&report, V6);
        assert!(stagger >= Duration::from_millis(249), "{report:#}");
        compare("IPv6 dropped", &report);
    });
}

#[test]
fn a_slow_family_loses_to_the_other_and_is_given_up() {
    let slow = slow_v6();
    in_namespace("a_slow_family_loses_to_the_other_and_is_given_up", &slow, || async {
        serve(&[V4, V6]).await;
        let nsd = name_server();
        let report = resolve(&ctx(nsd.address())).await;
        assert_eq!(candidate(&report, V4).outcome, Outcome::Connected, "{report:#}");
        assert_eq!(candidate(&report, V6).outcome, Outcome::Cancelled, "{report:#}");
        compare("IPv6 slow", &report);
    });
}

#[test]
fn a_slow_family_wins_where_the_other_is_dead() {
    let slow = format!("{}\nip daddr {V4} tcp dport {WEB} drop", slow_v6());
    in_namespace("a_slow_family_wins_where_the_other_is_dead", &slow, || async {
        serve(&[V4, V6]).await;
        let nsd = name_server();
        let report = resolve(&ctx(nsd.address())).await;
        assert_eq!(
            candidate(&report, V6).outcome,
            Outcome::Connected,
            "the attempt delay is no timeout: {report:#}"
        );
        assert_eq!(candidate(&report, V4).outcome, Outcome::Cancelled, "{report:#}");
    });
}

#[test]
fn a_refused_address_moves_on_at_once() {
    in_namespace("a_refused_address_moves_on_at_once", "", || async {
        serve(&[V4]).await;
        let nsd = name_server();
        // Were the delay waited for, this would not end in time.
        let report = resolve(&ctx(nsd.address()).with(&ATTEMPT_DELAY, Duration::from_secs(3600))).await;
        let Outcome::Failed(cause) = &candidate(&report, V6).outcome else { panic!("{report:#}") };
        assert!(cause.what.contains("refused"), "{report:#}");
        assert_eq!(candidate(&report, V4).outcome, Outcome::Connected, "{report:#}");
        compare("IPv6 refused", &report);
    });
}

#[test]
fn all_dead_ends_are_told_with_their_reasons_at_the_deadline() {
    let drop = format!("ip6 daddr {V6} tcp dport {WEB} drop");
    in_namespace("all_dead_ends_are_told_with_their_reasons_at_the_deadline", &drop, || async {
        let nsd = name_server();
        let deadline = Duration::from_millis(700);
        let ctx = ctx(nsd.address()).with(&DEADLINE, deadline);
        let result = tokio::time::timeout(PATIENCE, ctx.resolve()).await.expect("the deadline is not kept");
        let error = result.expect_err("all are dead");
        let report = error.report();
        assert!(report.took.expect("a clock") >= deadline, "{report:#}");
        let text = format!("{error:#}");
        assert!(text.contains(&format!("[{V6}]:{WEB}")) && text.contains(&format!("{V4}:{WEB}")), "{text}");
        let Outcome::Failed(cause) = &candidate(&report, V4).outcome else { panic!("{report:#}") };
        assert!(cause.what.contains("refused"), "{report:#}");
        println!("{error}");
    });
}

#[test]
fn a_lookup_that_hangs_for_one_family_does_not_delay_the_other() {
    in_namespace("a_lookup_that_hangs_for_one_family_does_not_delay_the_other", "", || async {
        serve(&[V4]).await;
        let server = UdpSocket::bind("127.0.0.1:5353").expect("a port");
        std::thread::spawn(move || {
            let mut datagram = [0; 1500];
            while let Ok((n, from)) = server.recv_from(&mut datagram) {
                let query = Message::from_vec(&datagram[..n]).expect("a query");
                let asked = query.queries[0].clone();
                if asked.query_type != RecordType::A {
                    continue;
                }
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                answer.add_answer(Record::from_rdata(asked.name.clone(), 60, RData::A(A::new(10, 9, 0, 1))));
                answer.add_query(asked);
                let _ = server.send_to(&answer.to_vec().expect("a message"), from);
            }
        });
        let report = resolve(&ctx(SocketAddr::from(([127, 0, 0, 1], 5353)))).await;
        assert_eq!(candidate(&report, V4).outcome, Outcome::Connected, "{report:#}");
        let took = report.took.expect("a clock");
        assert!(took < Duration::from_secs(5), "the hung query was waited for: {report:#}");
        // RFC 8305 section 3: IPv4 waits 50 ms for IPv6's answer.
        assert!(took >= Duration::from_millis(50), "{report:#}");
        println!("the AAAA query hangs: connected after {took:?}");
    });
}
