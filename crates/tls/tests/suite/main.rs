//! One suite, over both backends and crosswise, and against other programs.

mod conformance;
mod errors;
mod facts;
mod files;
mod peers;
mod servers;
mod support;
mod upgrades;
