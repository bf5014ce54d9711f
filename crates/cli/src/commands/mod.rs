//! One module per command.

pub(crate) mod bridge;
pub(crate) mod connect;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod generate;
pub(crate) mod listen;
pub(crate) mod ping;
pub(crate) mod schemes;
pub(crate) mod tour;
