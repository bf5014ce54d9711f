//! A network namespace of the test's own, with a TAP device between the kernel's stack and ours.

use tuyau_stack::{Config, Stack, TunTap};
use tuyau_testing::netns::{enter, ip};

/// The kernel has 10.9.0.1 and fd09::1, the stack 10.9.0.2 and fd09::2, and asks the kernel's side for names.
pub(crate) fn stack_on_tap() -> Stack {
    stack_with(|config| config)
}

pub(crate) fn stack_with(configure: impl FnOnce(Config) -> Config) -> Stack {
    enter();
    let tap = TunTap::tap("tap0", [2, 0, 0, 0, 0, 2]).expect("a TAP device");
    ip("address add 10.9.0.1/24 dev tap0");
    ip("-6 address add fd09::1/64 dev tap0 nodad");
    ip("link set tap0 up");
    start(configure(config()), tap)
}

/// Likewise, without Ethernet.
pub(crate) fn stack_on_tun() -> Stack {
    enter();
    let tun = TunTap::tun("tun0").expect("a TUN device");
    ip("address add 10.9.0.1/24 dev tun0");
    ip("-6 address add fd09::1/64 dev tun0 nodad");
    ip("link set tun0 up");
    start(config(), tun)
}

fn config() -> Config {
    let v6 = [0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    Config::new().address([10, 9, 0, 2], 24).address(v6, 64).name_server([10, 9, 0, 1]).seed(9)
}

fn start(config: Config, device: TunTap) -> Stack {
    Stack::new(config, device, tuyau_tokio::runtime()).expect("a stack")
}
