//! One test per check, so that a failure names both the check and the transport.

/// The tests that every flow passes, in a module of this name: what the transport can do
/// ([`Abilities`](crate::Abilities)), and an async function that makes a connected
/// [`Pair`](crate::Pair). The crate that uses it depends on tokio itself.
///
/// With `paused` in front, the tests run on one thread, on a clock that stands still while there is anything to
/// do: for transports with delays. tokio's `test-util` is needed then.
///
/// With a list of checks behind, only those run: for what must go through a peer that can't do it all.
#[macro_export]
macro_rules! flow_conformance {
    (paused $name:ident, $abilities:expr, $pair:expr) => {
        $crate::flow_conformance!(@all $name, [start_paused = true], $abilities, $pair);
    };
    ($name:ident, $abilities:expr, $pair:expr) => {
        $crate::flow_conformance!(
            @all $name, [flavor = "multi_thread", worker_threads = 2], $abilities, $pair
        );
    };
    ($name:ident, $abilities:expr, $pair:expr; $($check:ident),* $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::flow_conformance!(
                @each [flavor = "multi_thread", worker_threads = 2], $abilities, $pair; $($check),*
            );
        }
    };
    (@all $name:ident, $runtime:tt, $abilities:expr, $pair:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::flow_conformance!(@each $runtime, $abilities, $pair;
                large_transfers_both_ways, tiny_reads_and_writes, half_close, the_end_stays,
                reset_by_peer, writes_to_nobody_fail, write_after_shutdown, vectored_writes,
                cancelled_reads, cancelled_writes, cancelled_shutdown, a_pending_read_does_not_stop_writes,
                drop_without_close, lending, empty_reads_and_writes, facts
            );
        }
    };
    (@each $runtime:tt, $abilities:expr, $pair:expr; $($check:ident),*) => {$(
        $crate::flow_conformance!(@one $runtime, $abilities, $pair, $check);
    )*};
    (@one [$($runtime:tt)*], $abilities:expr, $pair:expr, $check:ident) => {
        #[tokio::test($($runtime)*)]
        async fn $check() {
            $crate::run($pair, $abilities, |pair, abilities| Box::pin($crate::checks::$check(pair, abilities))).await;
        }
    };
}

/// The tests that every net passes, in a module of this name: an async function that makes a
/// [`NetCase`](crate::NetCase). `paused` in front and a list of checks behind mean what they mean to
/// [`flow_conformance!`](crate::flow_conformance).
#[macro_export]
macro_rules! net_conformance {
    (paused $name:ident, $case:expr) => {
        $crate::net_conformance!(@all $name, [start_paused = true], $case);
    };
    ($name:ident, $case:expr) => {
        $crate::net_conformance!(@all $name, [flavor = "multi_thread", worker_threads = 2], $case);
    };
    ($name:ident, $case:expr; $($check:ident),* $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::net_conformance!(
                @each [flavor = "multi_thread", worker_threads = 2], $case; $($check),*
            );
        }
    };
    (@all $name:ident, $runtime:tt, $case:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::net_conformance!(@each $runtime, $case;
                what_is_listened_on_can_be_connected, many_at_once, refusal, cancelled_connects,
                cancelled_accepts, lookups, what_it_cant_do_it_says, policy_is_kept
            );
        }
    };
    (@each $runtime:tt, $case:expr; $($check:ident),*) => {$(
        $crate::net_conformance!(@one $runtime, $case, $check);
    )*};
    (@one [$($runtime:tt)*], $case:expr, $check:ident) => {
        #[tokio::test($($runtime)*)]
        async fn $check() {
            $crate::run_net($case, |case| Box::pin($crate::net_checks::$check(case))).await;
        }
    };
}
