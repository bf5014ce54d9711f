//! Lookups by DNS (RFC 1034, RFC 1035), as an alternative to the system's resolver, over any
//! [`Net`](tuyau_core::Net).
//!
//! A [`Dns`] is a value: servers, search list, timeouts, and a cache that obeys TTLs and lives as long
//! as the value. [`Dns::over`] and [`Dns::on_host`] put it on a net: what they give is a net that looks
//! names up by DNS, and passes all else on. IPv4 and IPv6 addresses are asked for at once, and reach the
//! race as they arrive (RFC 8305 section 3): a family whose answer hangs holds up nobody.
//!
//! | how a server is reached | |
//! |---|---|
//! | [`Dns::on_host`], [`Server::at`] | UDP from this machine; TCP if the answer did not fit |
//! | [`Dns::over`], [`Server::at`] | TCP (RFC 7766) through the net: a proxy, an SSH server, a stack of one's own |
//! | [`Server::flow`] | DNS over whichever flow a context resolves to: over TLS it is DoT (RFC 7858) |
//!
//! ```no_run
//! use std::sync::Arc;
//! use tuyau_core::{Context, names};
//! use tuyau_dns::{Config, Dns, Random};
//! use tuyau_tokio::{TCP, derivations, host, runtime};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let dns = Dns::new(Config::from_system()?, runtime(), Random::system())?;
//! let ctx = Context::new().with(&names::HOST, "example.org".into()).with(&names::PORT, 80);
//! let flow = dns.on_host(host()).bind(derivations(ctx)).offer(&TCP).resolve().await?;
//! # Ok(()) }
//! ```
//!
//! A flow to a name server is kept for some seconds, and queries that come meanwhile share it, beside each other.
//!
//! [`srv`] and [`https`] make the records of those types decide where to connect.
//!
//! It is a stub resolver: it asks servers that recurse. It validates no DNSSEC, reads no `/etc/hosts`,
//! and does no multicast DNS.

mod addresses;
mod cache;
mod config;
mod dns;
mod error;
mod exchange;
mod net;
mod pipe;
mod services;
mod wire;

pub use config::{Config, Random, Server};
pub use dns::Dns;
pub use net::{DNS, DnsNet};
pub use services::{HTTPS, HttpsRecord, SERVICE, SRV, SrvRecord, https, order_srv, srv};
