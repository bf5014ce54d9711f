//! One module per layer: its row in the table of schemes, its options, and how it comes into a context.

mod nested;
#[cfg(feature = "proxy-protocol")]
pub(crate) mod proxy_protocol;
pub(crate) mod tls;
pub(crate) mod ws;

pub(crate) use nested::{NESTED, Nested};
