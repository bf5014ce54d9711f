//! Every layer and net over every other passes the suites for flows and nets, and so do stacks of three to five of
//! them, put together by seeds.

use tuyau_interop::Element::{
    self, Http, Microsocks, OpenSsl, ProxyProtocol, Rustls, Socks5, Socks5h, Ssh, Sshd, Stack, Tinyproxy, Ws,
};
use tuyau_interop::{abilities, case, pair, random};
use tuyau_testing::{flow_conformance, net_checks, net_conformance};

/// A module of what lies over `$below`.
macro_rules! over {
    ($($module:ident $below:ident),* $(,)?) => {$(
        mod $module {
            use super::*;
            each_over!($below; rustls Rustls, openssl OpenSsl, ws Ws, proxy_protocol ProxyProtocol,
                socks5 Socks5, socks5h Socks5h, http Http, ssh Ssh, stack Stack);
            net_conformance!(socks5_net, || case(&[$below, Socks5]));
            net_conformance!(socks5h_net, || case(&[$below, Socks5h]));
            net_conformance!(ssh_net, || case(&[$below, Ssh]));
            net_conformance!(stack_net, || case(&[$below, Stack]));
            // HTTP tells that a target was not reached, not that it refused.
            net_conformance!(http_net, || case(&[$below, Http]);
                what_is_listened_on_can_be_connected, many_at_once, cancelled_connects, cancelled_accepts,
                lookups, what_it_cant_do_it_says, policy_is_kept);
        }
    )*};
}

macro_rules! each_over {
    ($below:ident; $($name:ident $above:ident),*) => {
        $(flow_conformance!($name, abilities(&[$below, $above]), || pair(&[$below, $above]));)*
    };
}

over!(
    over_rustls Rustls, over_openssl OpenSsl, over_ws Ws, over_proxy_protocol ProxyProtocol,
    over_socks5 Socks5, over_socks5h Socks5h, over_http Http, over_ssh Ssh, over_stack Stack,
);

/// Programs of others in place of the embedded servers.
mod real {
    use super::*;

    const SSH_IN_TLS: [Element; 3] = [OpenSsl, Sshd, Ws];
    flow_conformance!(ssh_in_tls, abilities(&SSH_IN_TLS), || pair(&SSH_IN_TLS));
    net_conformance!(ssh_over_a_stack, || case(&[Stack, Sshd]));

    /// For proxies that end both directions once one has ended: all but what needs the other.
    macro_rules! without_half_close {
        ($name:ident, $stack:expr) => {
            flow_conformance!($name, abilities(&$stack), || pair(&$stack);
                tiny_reads_and_writes, reset_by_peer, writes_to_nobody_fail, cancelled_reads,
                a_pending_read_does_not_stop_writes, drop_without_close, empty_reads_and_writes, facts);
        };
    }
    without_half_close!(http_over_socks_over_tls, [Rustls, Microsocks, Tinyproxy]);
    without_half_close!(ssh_over_http_over_ws, [Ws, Tinyproxy, Sshd]);
}

/// The test names say the seed, and what fails says the stack.
macro_rules! random_stacks {
    ($($name:ident $seed:literal),* $(,)?) => {
        $(flow_conformance!($name, abilities(&random($seed)), || pair_of($seed));)*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_nets_among_them_are_nets() {
            let mut nets = 0;
            for seed in [$($seed),*] {
                let stack = random(seed);
                eprintln!("seed {seed}: {stack:?}");
                if stack.last().is_some_and(|last| last.is_net()) {
                    nets += 1;
                    net_checks::what_is_listened_on_can_be_connected(case(&stack).await).await;
                    net_checks::many_at_once(case(&stack).await).await;
                    net_checks::cancelled_connects(case(&stack).await).await;
                    net_checks::cancelled_accepts(case(&stack).await).await;
                    net_checks::what_it_cant_do_it_says(case(&stack).await).await;
                    net_checks::policy_is_kept(case(&stack).await).await;
                }
            }
            assert!(nets > 0, "other seeds have some");
        }
    };
}

mod random_of_three_to_five {
    use super::*;

    async fn pair_of(seed: u64) -> tuyau_testing::Pair {
        let stack = random(seed);
        eprintln!("seed {seed}: {stack:?}");
        pair(&stack).await
    }

    random_stacks!(
        seed_1 1, seed_2 2, seed_3 3, seed_4 4, seed_5 5, seed_6 6, seed_7 7, seed_8 8, seed_9 9, seed_10 10,
    );
}
