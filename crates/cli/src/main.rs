//! The program `tuyau`: one flow, any transport, chosen at run time by a URI.
//!
//! `pingpong` is the protocol of the demo, and depends on `tuyau-core` alone: it is what a protocol library
//! looks like. `commands` has one module per command; `relay` joins two flows.

#[cfg(not(unix))]
compile_error!("this program needs Unix; the libraries under it do not");

#[cfg(feature = "web")]
mod access;
mod app;
mod base;
mod cli;
mod commands;
mod confirm;
mod exit;
#[cfg(feature = "tls")]
mod flags;
mod masked;
mod output;
mod overrides;
mod page;
mod pingpong;
#[cfg(feature = "web")]
mod promised;
mod refused;
mod relay;
#[cfg(feature = "web")]
mod request;
mod route;
mod signals;
#[cfg(target_os = "linux")]
mod splice;
mod stats;
mod table;
mod told;
mod via;
#[cfg(feature = "web")]
mod web;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use exit::Failure;
use output::Output;

/// How long it may take until all tasks are dropped, if one of them is at work.
const LAST_DROPS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| masked::in_error(error).exit());
    let out = Output::new(cli.global.color);
    let result = start(cli, out);
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if let Some(message) = failure.message() {
        out.error(message);
    }
    ExitCode::from(failure.code())
}

fn start(cli: Cli, out: Output) -> Result<(), Failure> {
    if let Some(filter) = &cli.global.log {
        let filter = EnvFilter::builder()
            .parse(filter)
            .map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(out.colours_stderr())
            .init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime could not start: {error}")))?;
    // What was connected only to see whether it can be is not to go on.
    let looks = matches!(cli.command, Command::Ping { .. } | Command::Explain { .. });
    let result = runtime.block_on(app::run(cli));
    // A handler that does not end must not keep the program.
    match looks || result.is_err() || signals::has_come() {
        // Whoever still holds a child process is dropped first, which ends that.
        true => runtime.shutdown_timeout(LAST_DROPS),
        // A child that was told all, and has told all, may finish its work alone.
        false => runtime.shutdown_background(),
    }
    result
}
