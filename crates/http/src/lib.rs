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
    Body, Client, Connected, Connector, Error, FinalUrl, Multipart, RequestBuilder, ResponseBody, SCHEME, STACKS,
    Scheme, Sender, Stacks, Stage, handshake,
};
pub use connection::Connection;
pub use error::{BodyError, BodyErrorKind, BoxError, Limit, ServeError, ServeErrorKind};
pub use incoming::Incoming;
pub use limits::Limits;
pub use server::{Failure, FlowServed, Http, Refused, Report, Server, Versions, serve_flow};
pub use upgrade::{Upgradable, UpgradeError, upgrade};
