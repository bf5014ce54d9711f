#!/bin/sh
# Builds a program that resolves a context without std, libc and start files, runs it, and checks
# that it really has none of them. For x86-64 Linux.
set -eu
cd "$(dirname "$0")/../crates/core/freestanding"
target=x86_64-unknown-linux-gnu
export RUSTFLAGS="-C link-arg=-nostartfiles -C link-arg=-nodefaultlibs -C link-arg=-nostdlib -C link-arg=-static \
-C relocation-model=static"
out=${CARGO_TARGET_DIR:-$(pwd)/target}
for profile in dev release; do
    cargo build --quiet --locked --target "$target" --profile "$profile"
    program=$out/$target/$([ $profile = dev ] && echo debug || echo $profile)/tuyau-freestanding
    "$program" || { echo "$profile: it exits with $?" >&2; exit 1; }
    if readelf --wide --segments --dynamic "$program" | grep -Eq 'INTERP|NEEDED|DYNAMIC'; then
        echo "$profile: it is linked dynamically" >&2
        exit 1
    fi
    if nm --undefined-only "$program" | grep -q .; then
        echo "$profile: it leaves symbols to others" >&2
        exit 1
    fi
    # Symbols of the crate std, in either mangling, and what libc starts and ends with.
    if nm "$program" | grep -E ' (_ZN3std|_R[A-Za-z]*Cs[0-9A-Za-z]+_3std|__libc_|_?exit$|main$)' >&2; then
        echo "$profile: it has std or libc" >&2
        exit 1
    fi
    echo "$profile: resolves without std and libc"
done
