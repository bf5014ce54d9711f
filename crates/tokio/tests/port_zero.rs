//! Port 0 of a name is one that all of its addresses have free.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use tuyau_core::{ConnectCx, Context, Target};
use tuyau_testing::netns::enter;
use tuyau_tokio::host;

#[tokio::test]
async fn another_port_is_chosen_if_one_address_lacks_the_first() {
    enter();
    // The system chooses among the odd ones of these first: four.
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007").expect("a namespace of our own");
    let (host, cx) = (host(), ConnectCx::new(&Context::new()).expect("a context"));
    let listen = async || match host.listen(&Target::name("localhost", 0), &cx).await.map(|it| it.local()) {
        Ok(Target::Addr(address)) => address,
        other => panic!("{other:?}"),
    };
    // The address that is listened on second has one of them taken: chances are one in four that it is chosen.
    let second: IpAddr = match listen().await.ip() {
        IpAddr::V6(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let taken = TcpListener::bind(SocketAddr::new(second, 40001)).expect("nobody has it");
    for _ in 0..64 {
        assert_ne!(listen().await.port(), 40001);
    }
    drop(taken);
}
