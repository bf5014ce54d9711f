//! Conformance suites, written once, that every flow and every net passes; [real peers](peers) to
//! test with; [certificates](certs); and what tests share.
//!
//! ```
//! use tuyau_testing::{Abilities, Pair};
//! # fn connected() -> Pair { unimplemented!() }
//!
//! async fn pair() -> Pair {
//!     connected()
//! }
//!
//! tuyau_testing::flow_conformance!(over_mine, Abilities::ALL, pair);
//! ```

pub mod certs;
mod flow;
mod host;
mod macros;
mod net;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod peers;
mod wrap;

pub use flow::{Abilities, Pair, checks, run};
pub use host::{Place, abstract_target, dead_port, free_port, rerun};
pub use net::{CountingNet, ListenOn, NetCase, net_checks, run_net};
pub use wrap::{Calls, Counting, PassThrough};
