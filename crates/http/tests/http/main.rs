//! Server, client and connector, over every transport and against real peers.

mod client;
mod connector;
mod graceful;
mod hygiene;
mod matrix;
mod peers;
mod pool;
mod proxy;
mod seeds;
mod server;
mod support;
mod upgrade;
