//! What every command is given, and which command runs.

use tuyau::Report;

use crate::cli::{Cli, Command, Demo};
use crate::commands::{connect, demo, explain, generate, listen, ping, schemes, tour};
use crate::exit::Failure;
use crate::output::Output;
use crate::route::Route;
use crate::signals::Signals;

/// What every command is given.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) out: Output,
    pub(crate) route: Route,
    pub(crate) verbose: bool,
}

impl App {
    /// Shows how a connection came about, if that is wanted.
    pub(crate) fn show(&self, report: &Report) {
        tracing::debug!(took = ?report.took, "{}", report.summary());
        if self.verbose {
            self.out.tell(format_args!("{}", report.to_string().trim_end()));
        }
    }

    /// A failure to connect, after the report of it, if that is wanted.
    pub(crate) fn failed_to_connect(&self, error: tuyau::Error) -> Failure {
        if let tuyau::Error::Connect(error) = &error {
            self.show(&error.report());
        }
        error.into()
    }

    fn refuse_verbose(&self, command: &str) -> Result<(), Failure> {
        match self.verbose {
            true => Err(Failure::Usage(format!("-v has no use with `{command}`, which has no more to tell"))),
            false => Ok(()),
        }
    }
}

/// Runs the command, to its end or to a signal's.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::Failed(format!("signals: {error}")))?;
    let app = App {
        out: Output::new(cli.global.color),
        route: Route::of(&cli.global),
        verbose: cli.global.verbose,
    };
    let app = &app;
    match cli.command {
        Command::Tour { json } => {
            app.route.refuse("tour")?;
            signals.end(tour::run(app, json)).await
        }
        Command::Demo(Demo::Server { uri, seen }) => {
            app.route.refuse("demo server")?;
            demo::server(app, &uri, seen, &mut signals).await
        }
        Command::Demo(Demo::Client { uri, count }) => signals.end(demo::client(app, &uri, count)).await,
        Command::Ping { uri, count, interval } => ping::run(app, &uri, count, interval, &mut signals).await,
        Command::Connect { uri } => signals.end(connect::run(app, &uri)).await,
        Command::Listen { uri, echo, exec, once, max } => {
            app.route.refuse("listen")?;
            match listen::Service::of(echo, exec) {
                Some(service) => listen::serve(app, &uri, service, once, max, &mut signals).await,
                None if max.is_some() => Err(Failure::Usage(
                    "--max has no use without --echo or --exec: the first connection is the only one".into(),
                )),
                None => signals.end(listen::one(app, &uri)).await,
            }
        }
        Command::Plan { uri, format } => explain::plan(app, &uri, format).await,
        Command::Explain { uri, format, html } => {
            signals.end(explain::explain(app, &uri, format, html.as_deref())).await
        }
        Command::Schemes => {
            app.route.refuse("schemes")?;
            schemes::run(app)
        }
        Command::Completions { shell } => {
            app.route.refuse("completions")?;
            app.refuse_verbose("completions")?;
            generate::completions(app, shell)
        }
        Command::Man { dir } => {
            app.route.refuse("man")?;
            app.refuse_verbose("man")?;
            generate::man(app, dir.as_deref())
        }
    }
}
