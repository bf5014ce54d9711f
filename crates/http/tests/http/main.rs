//! Server, client and connector, over every transport and against real peers.

mod client;
mod connector;
#[path = "../hostile/frames.rs"]
#[allow(dead_code, reason = "of both suites")]
mod frames;
mod graceful;
mod half_closed;
mod hygiene;
mod matrix;
mod peers;
mod pool;
mod proxy;
mod seeds;
mod server;
mod servers;
mod support;
mod upgrade;
