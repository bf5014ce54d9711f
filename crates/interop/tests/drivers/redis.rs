//! redis-rs.

#[path = "../../../tuyau/examples/redis/glue.rs"]
#[allow(dead_code, reason = "nothing is cancelled here")]
mod glue;

use redis::{RedisConnectionInfo, cmd};
use tuyau_core::Context;
use tuyau_testing::Place;
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::{redis, redis_tls};
use tuyau_tls::{BACKEND, Backend, TLS};
use tuyau_tokio::TCP;

use crate::{Between, assert_goes_through, base, by, by_socket, by_tcp, to, trusting};

async fn query(ctx: &Context) {
    let mut client = glue::connect(ctx, &RedisConnectionInfo::default()).await.expect("a client");
    // Larger than any buffer on the way, there and back.
    let value = "tuyau ".repeat(100_000);
    let set: String = cmd("SET").arg("kept").arg(&value).query_async(&mut client).await.expect("an answer");
    assert_eq!(set, "OK");
    let got: String = cmd("GET").arg("kept").query_async(&mut client).await.expect("a value");
    assert!(got == value);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_by_tls_ssh_and_socks5() {
    let (place, ca, between) = (Place::new(), Ca::new("CA"), Between::new());
    let plain = redis();
    let ways: [(Context, &[&str]); 4] = [
        (by_tcp(between.ssh(), plain.port()), &["ssh"]),
        (by_socket(between.ssh(), plain.socket()), &["ssh"]),
        (by_tcp(between.socks5(), plain.port()), &["socks5"]),
        (by_socket(between.ssh_over_socks5(), plain.socket()), &["socks5", "ssh"]),
    ];
    for (ctx, hops) in ways {
        assert_goes_through(&ctx, hops).await;
        query(&ctx).await;
    }

    let (chain, key) = ca.leaf(&["127.0.0.1"]).files(&place, "redis");
    let secured = redis_tls(&chain, &key);
    for backend in [Backend::Rustls, Backend::OpenSsl] {
        for (ctx, hops) in [(base(), &[][..]), (between.ssh_over_socks5(), &["socks5", "ssh"][..])] {
            let ctx = to(ctx, secured.port()).with(&BACKEND, backend);
            let ctx = by(tuyau_tls::over(trusting(ctx, &ca), &TLS, &TCP), &TLS);
            assert_goes_through(&ctx, hops).await;
            query(&ctx).await;
        }
    }
}
