//! The fifteen rules of resolution, a story or more for each, named by it; and the bugs that are
//! usually written where such rules are implemented.

#[path = "../support/mod.rs"]
mod support;

mod bindings;
mod candidates;
mod demand;
mod failure;
mod protection;
mod racing;
mod shared;
mod traps;
mod winner;
