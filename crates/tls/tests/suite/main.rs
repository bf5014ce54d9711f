//! One suite, over both backends and crosswise, and against other programs.

mod conformance;
mod context;
mod errors;
mod files;
mod peers;
mod servers;
mod support;
mod upgrades;
