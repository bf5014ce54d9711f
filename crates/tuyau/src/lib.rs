//! One flow, any transport, chosen at run time by a URI.
//!
//! ```no_run
//! # async fn example() -> Result<(), tuyau::Error> {
//! let mut flow = tuyau::connect("tcp://localhost:8080").await?;
//! let mut listener = tuyau::listen("unix:/run/x.sock").await?;
//! # Ok(()) }
//! ```
//!
//! This crate is a front end: the contract is `tuyau-core`, re-exported here, and the transports are in
//! the crates beside it, which have their keys: `tuyau-tokio`, and each of the others behind a feature. A protocol library depends on
//! `tuyau-core` alone; a program on this. The repository has a tutorial, `docs/tutorial.md`.
//!
//! # Contexts
//!
//! [`context()`] is the default [`Context`]. It is a value: nothing in it is global, and a program
//! overlays it with what it wants to be different. A URI only adds to it.
//!
//! ```no_run
//! use tuyau::{Context, names};
//!
//! async fn ping(ctx: &Context) -> Result<(), tuyau::core::Error> {
//!     let flow = ctx.resolve().await?; // a protocol library: TCP? a child process? It can't tell.
//!     # drop(flow);
//!     Ok(())
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let ctx = tuyau::context().with(&names::DEADLINE, std::time::Duration::from_secs(10));
//! ping(&tuyau::uri("tcp://localhost:8080")?.apply(ctx)?).await?;
//! # Ok(()) }
//! ```
//!
//! # URIs from strangers
//!
//! [`connect`] takes URIs to the network only. Whatever reaches this machine otherwise (a local socket, a
//! program, a file) wants the word of the program, since a URI can come from a redirect or a stranger's
//! configuration:
//!
//! ```no_run
//! use tuyau::Allow;
//! # async fn example() -> Result<(), tuyau::Error> {
//! let flow = tuyau::uri("exec:ssh host cat")?.allow(Allow::EXEC).connect().await?;
//! # Ok(()) }
//! ```
//!
//! That a URI is of the network says nothing of *where* in the network it leads. A program that must
//! not be led to its own machine or neighbours says so by a
//! [`Policy`](Policy::only_networks), which is checked on the address dialled.
//!
//! # Layers and hops
//!
//! A URI names a stack, outermost layer first (`tls+unix:/run/x.sock`), and [`Uri::via`] goes through proxies and
//! bastions, nearest first. Both are values that a program has from its user; a protocol library sees
//! neither.
//!
//! [`schemes()`] and [`hops()`] list what this build can do, [`Uri`] has the grammar.

mod allow;
mod error;
mod hops;
#[cfg(feature = "http-client")]
mod http_client;
mod layers;
mod open;
mod schemes;
mod uri;
mod via;

pub use tuyau_core as core;
pub use tuyau_core::*;
#[cfg(feature = "dns")]
pub use tuyau_dns as dns;
#[cfg(feature = "http-client")]
pub use tuyau_http as http;
#[cfg(any(feature = "socks5", feature = "http", feature = "proxy-protocol"))]
pub use tuyau_proxy as proxy;
#[cfg(feature = "ssh")]
pub use tuyau_ssh as ssh;
#[cfg(feature = "tls")]
pub use tuyau_tls as tls;
pub use tuyau_tokio::serve;
#[cfg(feature = "ws")]
pub use tuyau_ws as ws;

pub use allow::Allow;
pub use error::{Error, ListenError};
#[cfg(any(feature = "socks5", feature = "http"))]
pub use hops::env::EnvError;
#[cfg(feature = "ssh")]
pub use hops::ssh::wired::SSH_CONFIG;
#[cfg(feature = "http-client")]
pub use http_client::http_stacks;
#[cfg(feature = "proxy-protocol")]
pub use layers::proxy_protocol::on_behalf_of;
pub use open::{connect, context, listen};
pub use schemes::{Scheme, SchemeKind, hops, schemes};
pub use uri::{OptionInfo, Uri, UriError, UriErrorKind, UserInfo, uri};
pub use via::{Via, via};

/// The pages outside this crate, whose programs are tests of it.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../docs/tutorial.md")]
    mod tutorial {}
    #[doc = include_str!("../../../README.md")]
    mod readme {}
    #[doc = include_str!("../README.md")]
    mod own_readme {}
}
