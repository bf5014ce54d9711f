#!/bin/sh
# Mutates the resolver and the race scheduler. On demand, not in CI: some minutes per file on an
# idle core. Arguments are files (default: all of them), one after the other:
#
#     scripts/mutants.sh crates/core/src/race.rs
#
# What is committed is mutated in place, in a clone under $SCRATCH (default: in memory). First the rule
# tests judge each mutant, with what the file has of its own; those that survive run once more
# against the model, the memory footprint, and the chains of 100,000. `$SCRATCH/<file>/mutants.out`
# keeps what is known, also if it is stopped; the next run of the same commit goes on from there.
# crates/core/mutants.md says why each that is left may live.
set -eu
cd "$(dirname "$0")/.."
core=crates/core/src
[ $# -gt 0 ] || set -- $core/race.rs $core/resolve/session/mod.rs $core/resolve/session/forks.rs $core/resolve/candidate.rs \
    $core/resolve/walk.rs $core/resolve/direct.rs $core/resolve/memo.rs $core/resolve/reads.rs $core/resolve/mod.rs \
    $core/shared.rs $core/node.rs $core/context.rs $core/index.rs $core/few.rs
commit=$(git rev-parse HEAD)
scratch=${SCRATCH:-/dev/shm/mutants}
[ -d "$scratch/clone" ] || git clone --quiet . "$scratch/clone"
git -C "$scratch/clone" fetch --quiet "$PWD" "$commit"
git -C "$scratch/clone" checkout --quiet --force "$commit"
cd "$scratch/clone"

# An incremental build takes two seconds. A failed case is not shrunk: that it failed is enough. A
# mutant that takes all memory is stopped.
export CARGO_TARGET_DIR="$scratch/target" CARGO_INCREMENTAL=1 CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_DEV_DEBUG=0
export PROPTEST_MAX_SHRINK_ITERS=0 INSTA_UPDATE=no
ulimit -v 8000000

# Unmutated, all must pass.
cargo test --quiet --package tuyau-core --lib --test rules --test hops --test model --test footprint

# mutants <file> <seconds> <tests> [<arguments of the tests>...]
mutants() {
    file=$1 timeout=$2 targets=
    # As arguments of all that cargo does: only what runs is built.
    for target in $3; do targets="$targets -C=--$target"; done
    shift 3
    # 2 and 3: some were missed, or timed out.
    # shellcheck disable=SC2086 # a list
    cargo mutants --in-place --baseline skip --iterate --timeout "$timeout" --build-timeout 120 \
        --package tuyau-core --file "$file" --output "$scratch/$commit/$file" $targets -- -- "$@" || [ $? -le 3 ]
}

for file; do
    mkdir -p "$scratch/$commit/$file"
    case $file in
        # Of rules that are all told by its own tests.
        */race.rs) mutants "$file" 6 lib race:: ;;
        */few.rs | */index.rs) mutants "$file" 6 "lib test=rules" --skip 100_000 ;;
        *) mutants "$file" 6 test=rules --skip 100_000 ;;
    esac
    mutants "$file" 30 "lib test=rules test=hops test=model test=footprint"
done
