//! TCP/IP in user space as a [`Net`](tuyau_core::Net), over any packet device: a [`Stack`] connects, listens
//! and looks names up without the host's network. Built on smoltcp.
//!
//! Packets come and go through a [`Device`]: a [`Link`] in memory, which can lose, delay, reorder, duplicate and
//! corrupt them by a seed (no privilege needed, and no time passes that the [`Runtime`](tuyau_core::Runtime)
//! does not tell), or a TAP or TUN device (`TunTap`, on Linux, with the feature `tun`).
//!
//! It brings no endpoint key: TCP is one protocol over whichever net the context holds. Bind a stack to
//! [`names::NET`](tuyau_core::names::NET), and the same client and server run on it.
//!
//! ```
//! use tuyau_core::{Context, SharedRuntime, names};
//! use tuyau_stack::{Conditions, Config, Link, Stack};
//!
//! # fn example(runtime: SharedRuntime) -> Result<(), tuyau_core::ConnectError> {
//! let (here, there) = Link::new(runtime.clone(), Conditions::new().loss(0.01), 7).ends();
//! let client = Stack::new(Config::new().address([10, 0, 0, 1], 24), here, runtime.clone())?;
//! let server = Stack::new(Config::new().address([10, 0, 0, 2], 24), there, runtime)?;
//! let ctx = Context::new().with(&names::NET, client.into());
//! # drop((ctx, server)); Ok(()) }
//! ```
//!
//! What it does not do: datagrams for its users, DHCP and SLAAC (give it its addresses), and fragmented packets.

mod config;
mod core;
mod device;
mod dns;
mod driver;
mod error;
mod flow;
mod inspect;
mod link;
mod listener;
mod lookup;
mod stack;
#[cfg(all(feature = "tun", target_os = "linux"))]
mod tun;

pub use config::Config;
pub use device::{Device, Medium};
pub use link::{Conditions, Link, Port};
pub use stack::Stack;
#[cfg(all(feature = "tun", target_os = "linux"))]
pub use tun::TunTap;
