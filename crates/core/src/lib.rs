//! One flow, any transport, chosen at run time.
//!
//! A protocol library asks a [`Context`] to [`resolve`](Context::resolve) into a [`Flow`], a
//! connected byte stream, and never learns what carries it. The program that runs it puts values
//! into the context; they choose the transport.
//!
//! This crate is the contract and the dispatch. It has no transport, no runtime, no URIs and no
//! std: those are the business of the crates around it. It depends on nothing.

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
pub mod names;
mod net;
mod policy;
mod protocol;
mod race;
pub mod report;
mod resolve;
mod runtime;
mod shared;

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
