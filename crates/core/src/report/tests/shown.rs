//! One story each.

use super::make::*;
use crate::Protection;
use crate::report::{Candidate, Cause, Hop, Outcome, Read, ReadOutcome, Report};
use alloc::format;
use alloc::string::ToString;

fn addresses() -> [Read; 4] {
    let ip = |choice, ip: &str| Read {
        value: Some(ip.into()),
        ..derivation("ip", ReadOutcome::Derived { choice, of: 2 }, 14, &[0])
    };
    [value("host", "localhost", 9), value("port", "4343", 10), ip(0, "::1"), ip(1, "127.0.0.1")]
}

fn fallback() -> Report {
    let first = Candidate {
        needs: [1, 2].into(),
        hops: [hop("tcp", "[::1]:4343", Some(Err("connection refused")), 198)].into(),
        ..tcp("[::1]:4343", refused())
    };
    let second = Candidate {
        needs: [1, 3].into(),
        hops: [hop("tcp", "127.0.0.1:4343", Some(Ok(())), 95)].into(),
        started: us(1_215),
        took: us(101),
        ..tcp("127.0.0.1:4343", Outcome::Connected)
    };
    let third = tcp("192.0.2.7:4343", Outcome::NotTried);
    report([first, second, third], &addresses())
}

#[test]
fn a_success_over_a_fallback() {
    check("fallback", &fallback());
}

#[test]
fn two_families_that_refuse() {
    let candidate = |needs: [usize; 2], address| Candidate {
        needs: needs.into(),
        hops: [hop("tcp", address, Some(Err("connection refused")), 198)].into(),
        ..tcp(address, refused())
    };
    check("refused", &report([candidate([1, 2], "[::1]:1"), candidate([1, 3], "127.0.0.1:1")], &addresses()));
}

#[test]
fn one_candidate_that_fails_says_it_in_one_line_and_its_hint() {
    check("one", &report([tcp("[::1]:1", refused())], &[]));
}

#[test]
fn a_missing_requirement() {
    let absent = Outcome::Absent(Cause {
        what: "`ca-file` is missing".into(),
        hint: Some("bind `ca-file`, or a newer `tls-config`".into()),
    });
    let candidate = Candidate { needs: [0].into(), took: None, ..tls("", absent) };
    let config = derivation("tls-config", ReadOutcome::Missing, 22, &[1]);
    check("missing", &report([candidate], &[config, missing("ca-file")]));
}

#[test]
fn a_guard_that_declines_is_told_after_what_failed() {
    let absent = Outcome::Absent(cause("`scheme` is tcp, not tls"));
    let guarded = Candidate { needs: [0, 1].into(), took: None, ..tls("", absent) };
    let declined = derivation("alpn", ReadOutcome::Declined("no protocol was asked for".into()), 18, &[]);
    let mut report = report([guarded, tcp("[::1]:1", refused())], &[value("scheme", "tcp", 8), declined]);
    report.notes.push("two different keys are named `port`: are there two versions of a crate?".into());
    check("declined", &report);
}

#[test]
fn a_derivation_that_fails_costs_what_depends_on_it() {
    let lookup = Cause {
        what: "lookup of db.internal: no such host".into(),
        hint: Some("check the name, or look it up where it is known (socks5h://)".into()),
    };
    let ip = derivation("ip", ReadOutcome::Failed(lookup.clone()), 14, &[0]);
    let route = derivation("route", ReadOutcome::Failed(cause("ip: no such host")), 17, &[1]);
    let outcome = Outcome::Failed(Cause { what: "ip: lookup of db.internal: no such host".into(), ..lookup });
    let near = Candidate { needs: [1].into(), ..tcp("", outcome.clone()) };
    let far = Candidate { needs: [2].into(), priority: Some(30), binding: place(13), ..tcp("", outcome) };
    check("derivation", &report([near, far], &[value("host", "db.internal", 9), ip, route]));
}

#[test]
fn a_cycle_is_a_path() {
    let cycle = Cause {
        what: "cycle: a → b → a".into(),
        hint: Some("one of them must not need the other: bind it to a value".into()),
    };
    let read = |key, line, needs: &[usize]| derivation(key, ReadOutcome::Failed(cycle.clone()), line, needs);
    let candidate = Candidate { needs: [0].into(), ..tcp("", Outcome::Failed(cycle.clone())) };
    check("cycle", &report([candidate], &[read("a", 40, &[1]), read("b", 41, &[])]));
}

#[test]
fn what_the_context_forbids() {
    let policy = forbidden("the policy wants encryption, and this transport is clear");
    check("policy", &report([Candidate { took: None, ..tcp("192.0.2.1:80", policy) }], &[]));
    let downgrade =
        forbidden("it is clear, and a candidate that is encrypted and authenticated was tried before it");
    let bad = failed("handshake: certificate expired on 2024-05-01", "have the server's certificate renewed");
    let clear = Candidate { took: None, ..tcp("192.0.2.1:80", downgrade) };
    check("downgrade", &report([tls("192.0.2.1:443", bad), clear], &[]));
}

#[test]
fn losers_of_a_race_say_how_far_they_came() {
    let hops = |end: Option<Result<(), &str>>| {
        [
            hop("tcp", "[2001:db8::7]:22", None, 250_000),
            hop("tcp", "192.0.2.7:22", Some(Ok(())), 8_000),
            hop("ssh", "ops@bastion:22", Some(Ok(())), 48_100),
            hop("ssh channel", "db.internal:5432", Some(Ok(())), 3_210),
            Hop {
                detail: end.is_some().then(|| "TLS 1.3, TLS_AES_256_GCM_SHA384; ALPN: h2".into()),
                ..hop("tls", "db.internal", end, 1_020_000)
            },
        ]
    };
    let slow = Candidate {
        hops: hops(None).into(),
        took: us(1_072_000),
        ..tls("db.internal:5432", Outcome::Cancelled)
    };
    let won = Candidate {
        hops: hops(Some(Ok(()))).into(),
        started: us(250_000),
        took: us(822_000),
        ..tls("db2.internal:5432", Outcome::Connected)
    };
    check("race", &report([slow.clone(), won], &[]));
    let deriving = Candidate { needs: [0].into(), took: us(5_000_000), ..tcp("", Outcome::Cancelled) };
    let ip = derivation("ip", ReadOutcome::Unfinished, 14, &[]);
    check("deadline", &report([slow, deriving], &[ip]));
}

#[test]
fn a_plan_says_what_would_be() {
    let known = Candidate {
        needs: [0].into(),
        started: None,
        took: None,
        ..tcp("127.0.0.1:80", Outcome::WouldConnect)
    };
    let derived = Candidate { needs: [2].into(), started: None, took: None, ..tls("", Outcome::WouldDerive) };
    let absent = Candidate {
        key: "unix",
        needs: [3].into(),
        started: None,
        took: None,
        ..tcp("", Outcome::Absent(cause("`path` is missing")))
    };
    let would = |key, line, needs: &[usize]| Read {
        took: None,
        ..derivation(key, ReadOutcome::WouldRun, line, needs)
    };
    let reads = [value("port", "80", 10), would("ip", 14, &[]), would("server", 16, &[1]), missing("path")];
    check("plan", &Report { planned: true, took: None, ..report([derived, known, absent], &reads) });
    check("plan_nothing", &Report { planned: true, ..Report::default() });
}

#[test]
fn excluded_offers_and_none_at_all() {
    let mut excluded = report([tls("192.0.2.1:443", refused())], &[]);
    excluded.notes.push("`tcp` and `unix` are offered, but excluded: only `tls` may be tried".into());
    check("excluded", &excluded);
    check("no_offers", &Report::default());
    check("unbound", &Report { reads: [missing("tcp"), missing("tls")].into(), ..Report::default() });
}

#[test]
fn secrets_and_declared_weakness() {
    let secret = Candidate {
        needs: [0].into(),
        protection: Protection::Encrypted,
        ..tls("<hidden>", failed("authentication: token rejected", "renew the token"))
    };
    check(
        "sensitive",
        &report([secret], &[Read { value: Some("<hidden>".into()), ..value("token", "", 11) }]),
    );
}

#[cfg(feature = "serde")]
#[test]
fn json_is_flat_and_in_milliseconds() {
    snapshot("json_fallback", &serde_json::to_string_pretty(&fallback()).expect("JSON"));
    let hops = [hop("tcp", "a:1", Some(Err("connection refused")), 213), hop("tls", "a", None, 5)];
    let reads = [
        missing("host"),
        derivation("ip", ReadOutcome::Failed(cause("no such host")), 14, &[0]),
        derivation("alpn", ReadOutcome::Declined("not asked for".into()), 15, &[]),
        derivation("ca", ReadOutcome::Unfinished, 16, &[]),
        derivation("net", ReadOutcome::WouldRun, 17, &[]),
    ];
    let outcomes = [
        Outcome::Absent(cause("`host` is missing")),
        forbidden("the policy does not allow `tls`"),
        Outcome::Cancelled,
        Outcome::WouldConnect,
        Outcome::WouldDerive,
    ];
    let mut candidates: alloc::vec::Vec<_> = outcomes.map(|outcome| tls("a:1", outcome)).into();
    candidates[0].hops = hops.into();
    candidates[0].priority = None;
    let words = Report { notes: ["a note".into()].into(), ..report(candidates, &reads) };
    snapshot("json_words", &serde_json::to_string_pretty(&words).expect("JSON"));
}

#[test]
fn lines_are_wrapped_where_a_width_is_asked_for() {
    let report = fallback();
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max();
    assert!(longest(&format!("{report}")) > Some(60), "{report}");
    for text in [format!("{report:60}"), format!("{report:#60}")] {
        assert!(longest(&text) <= Some(60), "{text}");
        let words = |text: &str| text.split_whitespace().collect::<alloc::vec::Vec<_>>().join(" ");
        assert!(words(&text) == words(&format!("{report}")) || words(&text) == words(&format!("{report:#}")));
    }
    assert_eq!(format!("{report:0}"), format!("{report}"));
}

#[test]
fn without_places_no_source_line_is_told() {
    for report in [fallback(), report([tcp("[::1]:1", refused())], &addresses())] {
        assert!(report.to_string().contains("src/main.rs:"));
        let plain = report.without_places();
        #[cfg(feature = "serde")]
        {
            let json = serde_json::to_value(&plain).expect("JSON");
            assert!(
                json["candidates"][0]["binding"].is_null() && json["reads"][0]["binding"].is_null(),
                "{json}"
            );
        }
        let shown =
            [plain.to_string(), format!("{plain:#}"), plain.summary().to_string(), plain.dot().to_string()];
        for shown in shown {
            assert!(!shown.contains("src/") && !shown.contains(":0") && !shown.contains(" at \n"), "{shown}");
        }
    }
}
