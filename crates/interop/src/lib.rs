//! What the tests of this crate share: stacks of layers and nets, put together at run time, with the server of
//! each. Unpublished.
//!
//! A stack is a list of [`Element`]s, nearest to us first. Layers lie on the way to the next net, or to the end;
//! nets are gone through. `[Rustls, Ssh, Ws]` is an SSH server that is reached by TLS, and WebSocket to
//! somebody behind it.
//!
//! All happens on this machine: whoever is beyond a net is on this machine again, or, beyond a
//! [`Stack`](Element::Stack), on the other stack.

mod build;
mod element;
mod http;
mod tunnel;

pub use build::{case, pair};
pub use element::{Element, abilities, random};
