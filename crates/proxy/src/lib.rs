//! Proxies: SOCKS5 and HTTP CONNECT as [hops](tuyau_core::Hop), in any order and number; which of them
//! the environment asks for ([`ProxyEnv`]); servers of both to embed ([`Socks5Server`],
//! [`HttpConnectServer`]); and the PROXY protocol on both sides ([`proxy_protocol`]).
//!
//! A hop has no address of its own: the context that [`via`](tuyau_core::Context::via) is called on is
//! resolved to reach the proxy, by whatever it offers. A proxy behind TLS, on a Unix socket or behind
//! another proxy needs nothing from this crate.
//!
//! ```
//! use tuyau_core::{Context, names};
//! use tuyau_proxy::{Credentials, HttpConnect, Socks5};
//!
//! let at = |ctx: Context, host: &str, port| ctx.with(&names::HOST, host.into()).with(&names::PORT, port);
//! # let ctx = Context::new();
//! // `ctx` offers TCP, say. Through SOCKS5 to an HTTP proxy, through that to the database:
//! let ctx = at(ctx, "127.0.0.1", 1080).via(Box::new(Socks5::new().lookup_by_proxy()));
//! let ctx = at(ctx, "proxy.example", 3128)
//!     .via(Box::new(HttpConnect::new().with_credentials(Credentials::new("me", "secret"))));
//! let ctx = at(ctx, "db.internal", 5432);
//! # let _ = ctx;
//! ```
//!
//! Nothing here connects directly if the proxy can't be used, reads the environment by itself, or shows
//! a password. Not here: UDP over SOCKS (datagrams are not flows), SOCKS4, and
//! forwarding requests of methods other than CONNECT.

mod beyond;
mod credentials;
mod env;
mod error;
mod handshake;
mod http_connect;
pub mod proxy_protocol;
mod relabelled;
mod serving;
mod socks5;
mod within;

pub use beyond::Tunnel;
pub use credentials::Credentials;
pub use env::{EnvProxy, EnvProxyError, EnvScheme, ProxyEnv};

pub use error::Answer;
pub use http_connect::{HttpConnect, HttpConnectServer};
pub use socks5::{Socks5, Socks5Server};
