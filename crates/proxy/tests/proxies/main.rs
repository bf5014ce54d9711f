//! Proxies that one dials through, and the SOCKS5 server.

mod conformance;
mod connect_server;
mod policy;
mod real;
mod scripted;
mod server;
mod support;
mod tls;
