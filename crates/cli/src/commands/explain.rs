//! `tuyau plan` and `tuyau explain`.

use std::fs;
use std::path::Path;

use tuyau::Report;
use tuyau::report::{Candidate, Outcome};

use crate::app::App;
use crate::cli::Format;
use crate::exit::Failure;
use crate::page::page;
use crate::route::typed;

pub(crate) async fn plan(app: &App, uri: &str, format: Format) -> Result<(), Failure> {
    let uri = typed(uri)?;
    let ctx = app.route.context(&uri, None)?;
    uri.require_port(&ctx).await?;
    let report = uri.apply(ctx)?.plan();
    print(app, &report, format)?;
    let would_try = |it: &Candidate| matches!(it.outcome, Outcome::WouldConnect | Outcome::WouldDerive);
    if report.candidates.iter().any(would_try) { Ok(()) } else { Err(Failure::Told) }
}

pub(crate) async fn explain(
    app: &App,
    uri: &str,
    format: Format,
    html: Option<&Path>,
) -> Result<(), Failure> {
    let uri = typed(uri)?;
    let ctx = app.route.context(&uri, None)?;
    let report = match uri.connect_in(&ctx).await {
        Ok(mut resolved) => {
            let report = resolved.report();
            // A clean end, where there is one: a server should not see an error for this.
            let _ = resolved.shutdown().await;
            report
        }
        Err(tuyau::Error::Connect(error)) => error.report(),
        Err(error) => return Err(error.into()),
    };
    if let Some(file) = html {
        fs::write(file, page(&uri.to_string(), &report))
            .map_err(|error| Failure::Failed(format!("the page {}: {error}", file.display())))?;
    }
    print(app, &report, format)?;
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
        _ if app.verbose => app.out.line(format!("{report:#}").trim_end()),
        _ => app.out.line(report.to_string().trim_end()),
    }
}
