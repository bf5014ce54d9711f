//! HTTP/1.1 and HTTP/2 over any flow.

mod client;
mod connection;
mod error;
mod incoming;
mod limits;
mod listener;
mod server;
mod upgrade;

#[cfg(feature = "cookies")]
pub use client::Cookies;
pub use client::{
    Body, Client, Connected, Connector, Error, FinalUrl, Multipart, RequestBuilder, ResponseBody, SCHEME,
    STACKS, Scheme, Sender, Stacks, Stage, handshake,
};
pub use connection::Connection;
pub use error::{BodyError, BodyErrorKind, BoxError, Limit, ServeError, ServeErrorKind};
/// What an extended CONNECT asks for (RFC 8441 section 4): an extension of such requests.
pub use hyper::ext::Protocol;
pub use incoming::Incoming;
pub use limits::Limits;
pub use server::{Failure, FlowServed, Http, Refused, Report, Server, Versions, serve_flow};
pub use upgrade::{Upgradable, UpgradeError, upgrade};
