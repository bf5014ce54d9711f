//! Many candidates, deep chains, odd times.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::make::*;
use crate::report::words::{Count, Took};
use crate::report::{Candidate, Outcome, Read, ReadOutcome, Report};

fn thousand() -> Report {
    let candidates = (0..1_000).map(|n| {
        let address = format!("10.0.{}.{}:80", n / 250, n % 250);
        // Interleaved like two families, and the error names the address, as errors do.
        let why = ["connection refused", "network unreachable"][n % 2];
        tcp(&address, failed(&format!("connect to {address}: {why}"), HINT))
    });
    report(candidates, &[])
}

#[test]
fn a_thousand_that_fail_alike_are_summed_up_and_listed_on_demand() {
    let report = thousand();
    let long = format!("{report:#}");
    for n in [1, 500, 1_000] {
        assert!(long.contains(&format!("\n  {n}. tcp 10.0.")), "{n}");
    }
    snapshot("thousand", &format!("{report:100}\n---- summary ----\n{}", report.summary()));
}

#[test]
fn a_winner_has_its_block_after_however_many_failures() {
    let mut candidates: Vec<_> =
        (0..500).map(|n| tcp("a:1", failed(&format!("failure of the kind {n}"), HINT))).collect();
    candidates.push(tcp("b:1", Outcome::Connected));
    candidates.extend((0..500).map(|n| tcp(&format!("c:{n}"), Outcome::NotTried)));
    let report = report(candidates, &[]);
    let short = format!("{report}");
    assert!(short.contains("\n> 501. tcp b:1: connected in 0.2 ms\n"), "{short}");
    assert!(short.contains("… 480 more candidates"), "{short}");
    assert!(short.lines().count() < 100, "{short}");
}

/// `k0` needs `k1`, and so on; the last is `end`.
fn chain(depth: usize, outcome: &ReadOutcome, end: Read) -> Vec<Read> {
    let link = |n: usize| derivation("k", outcome.clone(), 100, &[n + 1]);
    (0..depth - 1).map(link).chain([end]).collect()
}

#[test]
fn a_chain_of_100_000_reads_renders() {
    let depth = 100_000;
    let failed = ReadOutcome::Failed(cause("the end of the chain"));
    let stories = [
        (Outcome::Absent(cause("`end` is missing")), chain(depth, &ReadOutcome::Missing, missing("end"))),
        (
            Outcome::Failed(cause("k: end")),
            chain(depth, &failed, derivation("end", failed.clone(), 101, &[])),
        ),
        (
            Outcome::WouldDerive,
            chain(depth, &ReadOutcome::WouldRun, derivation("end", ReadOutcome::WouldRun, 101, &[])),
        ),
    ];
    let mut shorts = alloc::string::String::new();
    for (outcome, reads) in stories {
        let planned = outcome == Outcome::WouldDerive;
        let report = report([Candidate { needs: [0].into(), ..tcp("", outcome) }], &reads);
        let report = Report { planned, ..report };
        assert!(format!("{report:#}").contains("\n  r100000. "));
        assert!(report.dot().to_string().contains("  r99999 -> r99998;"));
        shorts += &format!("{report:100}\n{}\n\n", report.summary());
    }
    snapshot("chain", &shorts);
}

#[test]
fn a_diamond_of_reads_is_walked_once() {
    let levels = 5_000;
    let reads: Vec<_> = (0..levels * 2)
        .map(|n| derivation("d", ReadOutcome::WouldRun, 1, &[n / 2 * 2 + 2, n / 2 * 2 + 3]))
        .collect();
    let report = report([Candidate { needs: [0, 1].into(), ..tcp("", Outcome::WouldDerive) }], &reads);
    assert!(
        format!("{report}").contains("derives … 9,992 more, then d (src/main.rs:1), then d "),
        "{report}"
    );
}

#[test]
fn times_have_sensible_units() {
    let shown = |nanos| Took(Duration::from_nanos(nanos)).to_string();
    assert_eq!(shown(0), "< 1 µs");
    assert_eq!(shown(999), "< 1 µs");
    assert_eq!(shown(1_000), "1 µs");
    assert_eq!(shown(99_999), "99 µs");
    assert_eq!(shown(213_000), "0.2 ms");
    assert_eq!(shown(5_000_000), "5 ms");
    assert_eq!(shown(12_450_000), "12.4 ms");
    assert_eq!(shown(999_999_999), "999 ms");
    assert_eq!(shown(1_072_000_000), "1 s");
    assert_eq!(shown(1_500_000_000), "1.5 s");
    assert_eq!(shown(125_000_000_000), "2 min 5 s");
    assert_eq!(shown(7_380_000_000_000), "2 h 3 min");
    assert_eq!(Took(Duration::MAX).to_string(), "5124095576030431 h 0 min");
}

#[test]
fn counts_are_grouped() {
    let shown = [0, 999, 1_000, 99_990, 1_000_000].map(|count| Count(count).to_string());
    assert_eq!(shown, ["0", "999", "1,000", "99,990", "1,000,000"]);
}
