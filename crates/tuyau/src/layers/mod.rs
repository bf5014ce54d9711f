//! One module per layer: its row in the table of schemes, its options, and how it comes into a context.

mod nested;
pub(crate) mod tls;

pub(crate) use nested::{NESTED, Nested};
