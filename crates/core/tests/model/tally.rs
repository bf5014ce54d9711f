//! How often each feature of a case occurred.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

/// Of a hundred cases, at least so many must have each feature. All have it at least twice as
/// often, so that chance alone does not fail the test.
const RARE_PERCENT: usize = 2;
/// Fewer cases are too few to tell.
const ENOUGH: usize = 1000;

/// Every feature that must occur often.
const ALL: &[&str] = &[
    "a winner",
    "an error hides an older binding",
    "choice forks",
    "a fork ends unlike the first",
    "connects",
    "cycle",
    "defaults put under",
    "derivation declines",
    "derivation fails",
    "derivation waits",
    "derivation yields",
    "derivation yields many",
    "dial",
    "diamond",
    "downgrade allowed",
    "downgrade refused",
    "fall-through to an older binding",
    "guard declines",
    "guard passes",
    "many-valued derivation yields one or none",
    "merge",
    "merge of what both hold",
    "missing requirement",
    "more choices than candidates",
    "no winner",
    "not tried",
    "only",
    "planned to be absent",
    "planned to connect",
    "planned to derive",
    "planned to fail",
    "policy forbids",
    "opt and or don't fall back on an error",
    "opt falls back",
    "or falls back",
    "outcome reused by another candidate",
    "overlay",
    "overlay of an overlay, a dozen deep",
    "priority tie",
    "refused connection",
    "replace hides",
    "values over time",
    "verification ends it",
    "without hides",
];

/// The features of one case.
#[derive(Default)]
pub(crate) struct Features(BTreeSet<&'static str>);

impl Features {
    pub(crate) fn saw(&mut self, feature: &'static str) {
        self.0.insert(feature);
    }
}

/// The features of all cases.
#[derive(Default)]
pub(crate) struct Tally {
    cases: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(crate) fn add(&mut self, features: Features) {
        self.cases += 1;
        for feature in features.0 {
            *self.counts.entry(feature).or_default() += 1;
        }
    }

    /// To the real standard error, so that it shows for a test that passes, too.
    pub(crate) fn print(&self) {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "\n{} random contexts, of which had:", self.cases);
        for (feature, count) in &self.counts {
            let _ = writeln!(err, "  {:5.1} %  {feature}", 100.0 * *count as f64 / self.cases.max(1) as f64);
        }
    }

    pub(crate) fn assert_none_is_rare(&self) {
        if self.cases < ENOUGH {
            return;
        }
        let count = |feature| self.counts.get(feature).copied().unwrap_or(0);
        let rare: Vec<_> =
            ALL.iter().filter(|feature| count(**feature) * 100 < self.cases * RARE_PERCENT).collect();
        assert!(rare.is_empty(), "in less than {RARE_PERCENT} % of the cases: {rare:?}");
    }
}
