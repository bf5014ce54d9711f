#!/bin/sh
# Mutates the resolver and the race scheduler, and runs the rule and model tests against each
# mutant. Takes hours; on demand, not in CI. Arguments are files (default: all of them):
#
#     scripts/mutants.sh crates/core/src/race.rs
#
# Survivors are listed in mutants.out/missed.txt; crates/core/mutants.md says why each that is left may live.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- crates/core/src/race.rs crates/core/src/shared.rs crates/core/src/context.rs crates/core/src/resolve/*.rs
for file; do
    shift
    set -- "$@" --file "$file"
done
export INSTA_UPDATE=no
exec cargo mutants --package tuyau-core --jobs 1 --timeout 60 --build-timeout 300 --minimum-test-timeout 60 \
    "$@" -- --lib --test rules --test model
