//! The resolver against a slow, obviously right model, on random contexts.
//!
//! [`case`] says what a random context is, [`generate`] makes them up, [`build`] makes a real
//! context of one, and [`model`] says what must come of it, straight from the rules and with no
//! code of the resolver's. [`compare`] puts `get`, `plan`, `resolve`, `explain` and `unfold` next
//! to it: outcomes, order, the endpoints dialled, and which derivations ran on which inputs.

mod build;
mod case;
mod compare;
mod found;
mod generate;
mod keys;
mod model;
mod plan;
mod tally;

use std::cell::RefCell;

use proptest::test_runner::{Config, TestError, TestRunner};

use crate::case::Case;
use crate::compare::Mismatch;
use crate::tally::Tally;

/// How many cases are tried where `PROPTEST_CASES` does not say.
const CASES: u32 = 2000;

fn config() -> Config {
    let mut config = Config { failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    config
}

/// Runs `check` on random cases, and shows the smallest that it finds wrong.
fn for_all(config: Config, check: impl Fn(&Case) -> Result<(), Mismatch>) {
    let result = TestRunner::new(config).run(&generate::case(), |case| check(&case).map_err(Into::into));
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\n\nin\n{case:?}"),
        Err(TestError::Abort(why)) => panic!("gave up: {why}"),
    }
}

#[test]
fn the_resolver_agrees_with_the_model() {
    let tally = RefCell::new(Tally::default());
    for_all(config(), |case| compare::check(case, &mut tally.borrow_mut()));
    let tally = tally.into_inner();
    tally.print();
    tally.assert_none_is_rare();
}

/// Rule 3: values may come over time.
#[test]
fn r03_values_that_come_slowly_are_all_tried() {
    let config = config();
    let cases = config.cases / 4;
    for_all(Config { cases, ..config }, compare::check_slow);
}

/// Rule 1: one order, no accidents.
#[test]
fn r01_neither_the_keys_addresses_nor_the_order_of_offers_matter() {
    let config = config();
    let cases = config.cases / 4;
    for_all(Config { cases, ..config }, compare::check_permuted);
}
