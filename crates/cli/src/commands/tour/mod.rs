//! `tuyau tour`: one client and one server over every transport that there is.

mod measure;
mod rows;
mod servers;
mod show;

use std::path::Path;

use serde::Serialize;
use tokio::net::TcpSocket;
use tuyau::Report;

use crate::app::App;
use crate::exit::Failure;
use crate::route::typed;
use crate::told;
use measure::{Row, measure};
use servers::Servers;
use show::Show;

/// All that the tour found.
#[derive(Debug, Serialize)]
struct Tour {
    /// Whether every transport that this machine has worked, and the last one failed as it should.
    ok: bool,
    rows: Vec<Row>,
    failure: Deliberate,
}

/// The failure at the end, and how it is explained.
#[derive(Debug, Serialize)]
struct Deliberate {
    uri: String,
    /// Whether it failed.
    ok: bool,
    explanation: String,
    report: Report,
}

pub(crate) async fn run(app: &App, json: bool) -> Result<(), Failure> {
    let dir = tempfile::Builder::new()
        .prefix("tuyau-")
        .tempdir()
        .map_err(|error| Failure::Failed(format!("a temporary directory: {error}")))?;
    let show = Show::new(app, json);
    show.head()?;
    let rows = rows(app, &show, dir.path()).await?;
    show.end();
    let failure = deliberate().await?;
    let ok = failure.ok && rows.iter().all(|row| row.ok != Some(false));
    let tour = Tour { ok, rows, failure };
    dir.close().map_err(|error| Failure::Failed(format!("the temporary directory stays behind: {error}")))?;
    if json {
        let json = serde_json::to_string_pretty(&tour)
            .map_err(|error| Failure::Failed(format!("the tour as JSON: {error}")))?;
        app.out.line(json)?;
    } else {
        show.conclusion(&tour)?;
    }
    if ok { Ok(()) } else { Err(Failure::Told) }
}

/// Goes through all stages, with servers that have ended after it.
async fn rows(app: &App, show: &Show, dir: &Path) -> Result<Vec<Row>, Failure> {
    let ctx = tuyau::context();
    let servers = Servers::start(dir).await?;
    let mut rows = Vec::new();
    for stage in rows::stages(dir, &servers)? {
        show.begin(stage.name);
        let (row, report) = measure(&stage, &ctx).await;
        show.row(&row)?;
        if let Some(report) = report {
            app.show(&report);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Connects to a port that nobody listens on.
async fn deliberate() -> Result<Deliberate, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("a port where nobody listens: {error}"));
    // Bound and not listened on: nobody else can come to listen there meanwhile.
    let v4 = TcpSocket::new_v4().map_err(failed)?;
    v4.bind(([127, 0, 0, 1], 0).into()).map_err(failed)?;
    let port = v4.local_addr().map_err(failed)?.port();
    let v6 = TcpSocket::new_v6();
    if let Ok(v6) = &v6 {
        // A machine may have no IPv6.
        let _ = v6.bind((std::net::Ipv6Addr::LOCALHOST, port).into());
    }
    let uri = typed(&format!("tcp://localhost:{port}"))?;
    let (ok, report) = match uri.connect_in(&tuyau::context()).await {
        Ok(resolved) => (false, told::report(resolved.report())),
        Err(tuyau::Error::Connect(error)) => (true, told::report(error.report())),
        Err(error) => return Err(error.into()),
    };
    Ok(Deliberate { uri: uri.to_string(), ok, explanation: report.to_string(), report })
}
