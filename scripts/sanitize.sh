#!/bin/sh
# What is `unsafe`, or waits across threads, under loom and AddressSanitizer. On demand, not in CI:
# the builds take some minutes.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/sanitize" CARGO_INCREMENTAL=0

# All interleavings of the lock, and of flights with up to three preemptions.
RUSTFLAGS='--cfg loom' CARGO_PROFILE_DEV_OPT_LEVEL=1 \
    cargo test --package tuyau-core --lib --quiet -- lock:: shared::

# The sanitizer is not stable: the switch lets the stable compiler take it. A target apart from the
# host spares build scripts and macros.
# Keys that are made at run time leak, as they should.
export ASAN_OPTIONS=detect_leaks=0
host=$(rustc --version --verbose | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' cargo test --target "$host" --quiet \
    --package tuyau-core --all-features --lib --test flow --test hops --test rules -- --skip 100_000
RUSTC_BOOTSTRAP=1 RUSTFLAGS='-Zsanitizer=address' cargo test --target "$host" --quiet \
    --package tuyau-tokio --lib --test conformance --test vectored
