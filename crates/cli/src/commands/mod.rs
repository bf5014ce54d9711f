//! One module per command.

pub(crate) mod bridge;
pub(crate) mod connect;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod generate;
#[cfg(feature = "web")]
pub(crate) mod get;
pub(crate) mod listen;
#[cfg(feature = "web")]
pub(crate) mod load;
pub(crate) mod ping;
#[cfg(feature = "web")]
pub(crate) mod proxy;
pub(crate) mod schemes;
#[cfg(feature = "web")]
pub(crate) mod serve;
pub(crate) mod tour;
