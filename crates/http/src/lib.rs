//! HTTP/1.1 and HTTP/2 over any flow.

mod connection;
mod error;
mod incoming;
mod limits;
mod listener;
mod server;
mod upgrade;

pub use connection::Connection;
pub use error::{BodyError, BodyErrorKind, BoxError, Limit, ServeError, ServeErrorKind};
pub use incoming::Incoming;
pub use limits::Limits;
pub use server::{Failure, FlowServed, Http, Refused, Report, Server, Versions, serve_flow};
pub use upgrade::{Upgradable, UpgradeError, upgrade};
