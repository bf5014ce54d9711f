//! The program, run as its users run it: against itself, socat, nc and a server in Python.

mod access;
mod bridge;
mod browser;
mod demo;
mod ended;
mod errors;
mod get;
mod load;
mod lost;
mod options;
mod page;
mod peers;
mod proxy;
mod serve;
mod signals;
mod strangers;
mod tap;
mod text;
mod tour;
mod transfer;
mod ways;
