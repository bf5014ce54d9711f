//! What people and programs are shown, as snapshots. `INSTA_UPDATE=always cargo test` rewrites them.

// The macros of insta name std.
extern crate std;

mod hostile;
mod long;
mod make;
mod shown;
