//! Conformance suites, written once, that every flow and every net passes; and what their tests
//! share.
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

mod flow;
mod host;
mod macros;
mod net;
mod wrap;

pub use flow::{Abilities, Pair, checks, run};
pub use host::{abstract_target, rerun};
pub use net::{NetCase, net_checks, run_net};
pub use wrap::{Calls, Counting, PassThrough};
