//! What every command is given, and which command runs.

use std::io;

use tuyau::Report;

use crate::cli::{Cli, Command, Demo};
use crate::commands::{bridge, connect, demo, explain, generate, listen, ping, schemes, tour};
use crate::exit::Failure;
use crate::output::{Output, wrapped};
use crate::signals::{self, Signals};
use crate::told;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) out: Output,
    pub(crate) verbose: bool,
}

impl App {
    /// Shows how a connection came about, if that is wanted.
    pub(crate) fn show(&self, report: &Report) {
        tracing::debug!(took = ?report.took, "{}", report.summary());
        if self.verbose {
            self.out.tell(wrapped(&told::report(report.clone()), &io::stderr()));
        }
    }

    /// A failure to connect, after the report of it, if that is wanted.
    pub(crate) fn failed_to_connect(&self, error: tuyau::Error) -> Failure {
        if let tuyau::Error::Connect(error) = &error
            && !signals::has_come()
        {
            self.show(&error.report());
        }
        error.into()
    }
}

/// Runs the command, to its end or to a signal's.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::Failed(format!("signals: {error}")))?;
    let app = App { out: Output::new(cli.global.color), verbose: cli.global.verbose };
    let app = &app;
    match cli.command {
        Command::Tour { json } => signals.end(tour::run(app, json)).await,
        Command::Demo(Demo::Server { uri, seen, tls }) => {
            demo::server(app, &uri, seen, &tls, &mut signals).await
        }
        Command::Demo(Demo::Client { uri, count, connecting }) => {
            signals.end(demo::client(app, &uri, &connecting, count)).await
        }
        Command::Ping { uri, count, interval, connecting } => {
            ping::run(app, &uri, &connecting, count, interval, &mut signals).await
        }
        Command::Connect { uri, connecting } => signals.end(connect::run(app, &uri, &connecting)).await,
        Command::Bridge { listen, connect, listen_via, max, connecting } => {
            let ends = bridge::Ends { listen: &listen, listen_via: &listen_via, connect: &connect };
            bridge::run(app, ends, &connecting, max, &mut signals).await
        }
        Command::Listen { uri, echo, exec, once, max, tls } => match listen::Service::of(echo, exec) {
            Some(service) => listen::serve(app, &uri, service, once, max, &tls, &mut signals).await,
            None if max.is_some() => Err(Failure::Usage(
                "--max has no use without --echo or --exec: the first connection is the only one".into(),
            )),
            None => signals.end(listen::one(app, &uri, &tls)).await,
        },
        Command::Plan { uri, connecting, format } => explain::plan(app, &uri, &connecting, format).await,
        Command::Explain { uri, connecting, format, html } => {
            signals.end(explain::explain(app, &uri, &connecting, format, html.as_deref())).await
        }
        #[cfg(feature = "web")]
        Command::Get(args) => signals.end(crate::commands::get::run(app, &args)).await,
        #[cfg(feature = "web")]
        Command::Serve(args) => crate::commands::serve::run(app, &args, &mut signals).await,
        #[cfg(feature = "web")]
        Command::Proxy(args) => crate::commands::proxy::run(app, &args, &mut signals).await,
        #[cfg(feature = "web")]
        Command::Load(args) => crate::commands::load::run(app, &args, &mut signals).await,
        Command::Schemes => schemes::run(app),
        Command::Completions { no_more, shell } => {
            no_more.check(&cli.global, "completions")?;
            generate::completions(app, shell)
        }
        Command::Man { no_more, dir } => {
            no_more.check(&cli.global, "man")?;
            generate::man(app, dir.as_deref())
        }
    }
}
