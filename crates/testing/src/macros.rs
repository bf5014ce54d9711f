//! One test per check, so that a failure names both the check and the transport.

/// The tests that every flow passes, in a module of this name: what the transport can do
/// ([`Abilities`](crate::Abilities)), and an async function that makes a connected
/// [`Pair`](crate::Pair). The crate that uses it depends on tokio itself.
///
/// With `paused` in front, the tests run on one thread, on a clock that stands still while there is anything to
/// do: for transports with delays. tokio's `test-util` is needed then.
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
/// [`NetCase`](crate::NetCase).
#[macro_export]
macro_rules! net_conformance {
    ($name:ident, $case:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::net_conformance!(@each $case;
                what_is_listened_on_can_be_connected, many_at_once, refusal, cancelled_connects,
                cancelled_accepts, lookups, what_it_cant_do_it_says, policy_is_kept
            );
        }
    };
    (@each $case:expr; $($check:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $check() {
            $crate::run_net($case, |case| Box::pin($crate::net_checks::$check(case))).await;
        }
    )*};
}
