//! Conformance suites, written once, that every flow and every net passes.
