//! Reports by hand, and the snapshot of all their renderings.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use crate::Protection;
use crate::policy::refusal_hint;
use crate::report::{Candidate, Cause, Hop, Outcome, Place, Read, ReadOutcome, Report};

pub(super) const HINT: &str = "nobody listens there: is the server running, and on this port?";

pub(super) fn us(micros: u64) -> Option<Duration> {
    Some(Duration::from_micros(micros))
}

pub(super) fn place(line: u32) -> Place {
    Place { file: "src/main.rs", line }
}

pub(super) fn cause(what: &str) -> Cause {
    Cause { what: what.into(), hint: None }
}

pub(super) fn failed(what: &str, hint: &str) -> Outcome {
    Outcome::Failed(Cause { what: what.into(), hint: Some(hint.into()) })
}

pub(super) fn forbidden(what: &str) -> Outcome {
    Outcome::Refused(Cause { what: what.into(), hint: Some(refusal_hint(what).into()) })
}

pub(super) fn refused() -> Outcome {
    failed("connect: connection refused", HINT)
}

/// A candidate `tcp`, bound at line 12.
pub(super) fn tcp(endpoint: &str, outcome: Outcome) -> Candidate {
    Candidate {
        key: "tcp",
        priority: Some(20),
        protection: Protection::Clear,
        binding: place(12),
        endpoint: (!endpoint.is_empty()).then(|| endpoint.into()),
        outcome,
        needs: Vec::new(),
        hops: Vec::new(),
        started: us(0),
        took: us(213),
    }
}

/// A candidate `tls`, bound at line 30.
pub(super) fn tls(endpoint: &str, outcome: Outcome) -> Candidate {
    Candidate {
        key: "tls",
        priority: Some(10),
        protection: Protection::Authenticated,
        binding: place(30),
        ..tcp(endpoint, outcome)
    }
}

pub(super) fn hop(name: &str, address: &str, outcome: Option<Result<(), &str>>, took: u64) -> Hop {
    Hop {
        name: name.into(),
        address: address.into(),
        outcome: outcome.map(|it| it.map_err(String::from)),
        detail: None,
        started: us(50),
        took: us(took),
    }
}

pub(super) fn value(key: &'static str, value: &str, line: u32) -> Read {
    Read {
        key,
        binding: Some(place(line)),
        outcome: ReadOutcome::Value,
        value: (!value.is_empty()).then(|| value.into()),
        needs: Vec::new(),
        took: None,
    }
}

pub(super) fn derivation(key: &'static str, outcome: ReadOutcome, line: u32, needs: &[usize]) -> Read {
    Read { outcome, needs: needs.into(), took: us(1_500), ..value(key, "", line) }
}

pub(super) fn missing(key: &'static str) -> Read {
    Read { binding: None, outcome: ReadOutcome::Missing, ..value(key, "", 0) }
}

pub(super) fn report(candidates: impl IntoIterator<Item = Candidate>, reads: &[Read]) -> Report {
    let candidates: Vec<_> = candidates.into_iter().collect();
    let winner = candidates.iter().position(|it| it.outcome == Outcome::Connected);
    Report { winner, candidates, reads: reads.into(), took: us(412), ..Report::default() }
}

/// Checks all text renderings against their snapshot, and that they keep their promises.
pub(super) fn check(name: &str, report: &Report) {
    let (short, long) = (format!("{report:100}"), format!("{report:#100}"));
    let (summary, dot) = (report.summary().to_string(), report.dot().to_string());
    for text in [&short, &long, &summary, &dot] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
    }
    for line in short.lines().chain(long.lines()) {
        assert!(line.chars().count() <= 100 && line == line.trim_end(), "{line}");
    }
    let all = format!("{short}\n---- all ----\n{long}\n---- summary ----\n{summary}\n\n---- dot ----\n{dot}");
    snapshot(name, &all);
}

pub(super) fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
