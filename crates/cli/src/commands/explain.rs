//! `tuyau plan` and `tuyau explain`.

use std::path::Path;
use std::{fs, io};

use tuyau::report::{Candidate, Outcome};
use tuyau::{Report, Uri, Via};
use tuyau_tokio::IP;

use crate::app::App;
use crate::cli::{Connecting, Format};
use crate::confirm::confirmed;
use crate::exit::Failure;
use crate::output::{BAD, DIM, GOOD, HEAD, columns, wrapped};
use crate::overrides::pinned;
use crate::page::page;
use crate::route::{Routed, is_looked_up_here, route_to};
use crate::told;

pub(crate) async fn plan(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    format: Format,
) -> Result<(), Failure> {
    let Routed { uri, ctx, note } = route_to(uri, connecting)?;
    uri.require_port(&ctx).await?;
    // What is looked up on the way is not looked up here: the net would decline.
    let ctx = if is_looked_up_here(&uri) { ctx } else { ctx.without(&IP) };
    let mut report = uri.plan_in(&ctx, |host, port| pinned(&connecting.resolve, host, port))?;
    report.notes.extend(steps(&uri));
    report.notes.extend(note);
    let report = told::report(report);
    print(app, &report, format)?;
    let would_try = |it: &Candidate| matches!(it.outcome, Outcome::WouldConnect | Outcome::WouldDerive);
    if report.candidates.iter().any(would_try) { Ok(()) } else { Err(Failure::Told) }
}

/// The hops and what they lead to, nearest first.
fn steps(uri: &Uri) -> Option<String> {
    let way = uri.hops().iter().map(Via::to_string).chain([uri.to_string()]);
    let steps: Vec<_> = (1..).zip(way).map(|(number, step)| format!("{number}. {step}")).collect();
    (steps.len() > 1).then(|| format!("the way: {}", steps.join(", ")))
}

/// The hops.
fn through(uri: &Uri) -> Option<String> {
    let hops: Vec<_> = uri.hops().iter().map(Via::to_string).collect();
    (!hops.is_empty()).then(|| format!("through {}", hops.join(", then ")))
}

pub(crate) async fn explain(
    app: &App,
    uri: &str,
    connecting: &Connecting,
    format: Format,
    html: Option<&Path>,
) -> Result<(), Failure> {
    if html.is_some_and(|file| file == "-") && (format.json || format.dot) {
        let option = if format.json { "--json" } else { "--dot" };
        return Err(Failure::Usage(format!("{option} has no use with --html -, which writes a page there")));
    }
    let Routed { uri, ctx, note } = route_to(uri, connecting)?;
    let mut report = match uri.connect_in(&ctx).await {
        Ok(resolved) => confirmed(&uri, resolved).await,
        Err(tuyau::Error::Connect(error)) => error.report(),
        Err(error) => return Err(error.into()),
    };
    report.notes.extend(note);
    let report = told::report(report);
    let asked = || through(&uri).map_or(uri.to_string(), |hops| format!("{uri} {hops}"));
    match html {
        Some(file) if file == "-" => app.out.bytes(page(&asked(), &report).as_bytes())?,
        Some(file) => {
            print(app, &report, format)?;
            fs::write(file, page(&asked(), &report))
                .map_err(|error| Failure::Failed(format!("the page {}: {error}", file.display())))?;
        }
        None => print(app, &report, format)?,
    }
    if report.winner.is_some() { Ok(()) } else { Err(Failure::Told) }
}

fn print(app: &App, report: &Report, format: Format) -> Result<(), Failure> {
    match format {
        Format { json: true, .. } => {
            let json = serde_json::to_string_pretty(report)
                .map_err(|error| Failure::Failed(format!("the report as JSON: {error}")))?;
            app.out.line(json)
        }
        Format { dot: true, .. } => app.out.line(report.dot().to_string().trim_end()),
        _ if app.verbose => {
            let width = columns(&io::stdout());
            app.out.line(painted(&format!("{report:#width$}")))
        }
        _ => app.out.line(painted(&wrapped(report, &io::stdout()))),
    }
}

/// With colours for how it ended; they are taken out again where nobody sees them.
fn painted(report: &str) -> String {
    let mut lines = Vec::new();
    for (number, line) in report.trim_end().lines().enumerate() {
        let text = line.trim_start();
        // What stands further in is its steps.
        let candidate =
            line.strip_prefix("  ").is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
        let ended = |how: &str| (number == 0 && text.starts_with(how)) || (candidate && text.contains(how));
        let style = if text.starts_with('>') || (number == 0 && text.starts_with("connected")) {
            GOOD
        } else if ended("could not connect")
            || ended(": failed")
            || ended(": forbidden")
            || ended(": cut off")
        {
            BAD
        } else if ended("not tried") || ended(": not available") {
            DIM
        } else if number == 0 || text.starts_with("what to do:") {
            HEAD
        } else {
            lines.push(line.to_owned());
            continue;
        };
        lines.push(format!("{style}{line}{style:#}"));
    }
    lines.join("\n")
}
