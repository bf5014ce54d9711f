//! Lookups, against a real name server and against one that misbehaves.

mod errors;
mod nsd;
mod pipes;
mod scripted;
mod services;
mod timing;
mod transports;

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tuyau_core::{ConnectError, Many, Net, Policy, Stop};
use tuyau_dns::{Config, Dns, DnsNet, Random, Server};
use tuyau_tokio::{host, runtime};

/// Random enough for a test, and the same each time.
fn random() -> Random {
    let next = std::sync::atomic::AtomicU32::new(1);
    Random::new(move || next.fetch_add(0x9E37_79B9, std::sync::atomic::Ordering::Relaxed))
}

fn config(servers: &[SocketAddr]) -> Config {
    Config::new(servers.iter().copied().map(Server::at))
}

fn dns(config: Config) -> Dns {
    Dns::new(config, runtime(), random()).expect("a configuration")
}

/// By UDP.
fn on_host(config: Config) -> DnsNet {
    dns(config).on_host(host())
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

async fn first(many: &mut Many<IpAddr>) -> Option<Result<IpAddr, Stop>> {
    match many {
        Many::All(all) if all.is_empty() => None,
        Many::All(all) => Some(Ok(all.remove(0))),
        Many::Stream(stream) => poll_fn(|cx| stream.as_mut().poll_next(cx)).await,
    }
}

async fn lookup(net: &DnsNet, name: &str) -> Result<Vec<IpAddr>, ConnectError> {
    let mut many = net.lookup(name, &Policy::new()).await?;
    let mut all = Vec::new();
    while let Some(ip) = first(&mut many).await {
        all.push(ip.expect("an address"));
    }
    Ok(all)
}

async fn failure(net: &DnsNet, name: &str) -> ConnectError {
    let error = lookup(net, name).await.expect_err("found what is not there");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error} does not say what to do");
    error
}

const LONG: Duration = Duration::from_secs(3600);
