//! One flow, any transport, chosen at run time.
//!
//! A protocol library asks a [`Context`] to [`resolve`](Context::resolve) into a [`Flow`], a
//! connected byte stream, and never learns what carries it. The program that runs it puts values
//! into the context; they choose the transport.
//!
//! ```
//! use std::error::Error;
//! use tuyau_core::{Context, Flow};
//!
//! // A protocol library. TCP? A child process? It can't tell.
//! pub async fn ping(ctx: &Context) -> Result<[u8; 6], Box<dyn Error + Send + Sync>> {
//!     let mut flow = ctx.resolve().await?;
//!     flow.write_all(b"ping\r\n").await?;
//!     let mut answer = [0; 6];
//!     flow.read_exact(&mut answer).await?;
//!     Ok(answer)
//! }
//!
//! // A program, with the smallest context: a closure that gives the flow.
//! # fn open() -> Flow { unimplemented!() }
//! let ctx = Context::from_fn(|| async { Ok(open()) });
//! ```
//!
//! This crate is the contract and the dispatch. It has no transport, no runtime, no URIs and no
//! std: those are the business of the crates around it. It depends on nothing, and is all that a
//! protocol library needs. Datagrams are not flows, and not its business.
//!
//! # In which order to read
//!
//! 1. [`Flow`]: what one reads from and writes to. The features `tokio`, `futures-io` and `hyper`
//!    implement the I/O traits of those names on it.
//! 2. [`Context`]: [`from_fn`](Context::from_fn), then [`with`](Context::with) and
//!    [`offer`](Context::offer). A [`Key`] names a value; an [`Endpoint`] is a key whose values can
//!    be connected, by its [`Protocol`].
//! 3. [`via`](Context::via) goes through a hop: it replaces the [`Net`].
//! 4. [`derive`](Context::derive), with [`req`] first, then [`opt`], [`or`] and [`is`]; last
//!    [`derive_many`](Context::derive_many).
//! 5. [`plan`](Context::plan) and [`explain`](Context::explain), to be told why; [`Report`].
//!
//! # How a context is resolved
//!
//! * The candidates are the bindings of all offered endpoint keys: lower priorities first, then the
//!   newest first. Equal priorities race (RFC 8305), if the context has a
//!   [`RUNTIME`](names::RUNTIME).
//! * A key's bindings are tried newest first. What is *absent* (nothing bound, a derivation that
//!   [declines](decline), a requirement that is missing) falls through to the next older one. An
//!   *error* never does.
//! * A derivation runs only if a candidate whose turn has come needs it, and at most once.
//! * Once a protected candidate has had its turn, no less protected one follows, unless
//!   [`ALLOW_DOWNGRADE`](names::ALLOW_DOWNGRADE) says so.
//! * Dropping the future drops everything under it. Nothing is global, nothing is spawned.

#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod adapters;
mod connect;
mod context;
mod derive;
mod few;
mod flow;
mod from_fn;
mod index;
mod key;
mod layer;
mod listener;
mod lock;
mod log;
pub mod names;
mod net;
mod node;
mod policy;
mod protocol;
mod race;
pub mod report;
mod resolve;
mod runtime;
mod shared;

#[cfg(feature = "hyper")]
pub use adapters::Unboxed;
pub use connect::{ConnectCx, ConnectError, ConnectErrorKind};
pub use context::Context;
pub use derive::{Arg, Args, DialArg, Is, Many, Opt, Or, Req, Stop, Values, decline, dial, is, opt, or, req};
pub use flow::{Ask, Flow, FlowError, FlowErrorKind, Prefixed, RawFlow, ReadBuf, copy_bidirectional};
pub use key::{Key, KeyRef};
pub use layer::{Layer, Role, SharedLayer};
pub use listener::{AcceptError, AcceptErrorKind, Accepted, Listener, RawListener};
pub use net::{Hop, Net, SharedNet, Target};
pub use policy::{Network, NetworkParseError, Policy, Protection};
pub use protocol::{AnyEndpoint, Dial, Endpoint, Protocol};
pub use report::Report;
pub use resolve::{Error, Reads, Resolved, Unfolded, UnfoldedEndpoint};
pub use runtime::{BoxFuture, Instant, Runtime, SharedRuntime};

/// What [`forward!`] names, which has no other way to it without std.
#[doc(hidden)]
pub mod __forward {
    pub use alloc::boxed::Box;
    pub use alloc::vec::Vec;
}

/// The page outside this crate, whose program is a test of it.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
