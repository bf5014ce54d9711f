//! One module per hop: its row in the table, its options, and the net beyond it.

pub(crate) mod exec;
