//! The tour as a table that grows as it goes.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Tour;
use super::measure::Row;
use crate::app::App;
use crate::exit::Failure;
use crate::output::{BAD, DIM, GOOD, HEAD, Output, Took, Visible, wrapped};
use crate::table::{fitted, width};

/// The columns: fixed, so that each row can be shown as soon as it is known, and together not more than 118
/// wide.
const COLUMNS: [(&str, usize); 8] = [
    ("TRANSPORT", 9),
    ("RESOLVED TO", 25),
    ("SERVER'S END", 21),
    ("SERVER'S PEER", 21),
    ("CONNECT", 8),
    ("RTT", 8),
    ("RATE", 9),
    ("OK", 3),
];

pub(super) struct Show {
    out: Output,
    json: bool,
    /// What moves, on a terminal.
    spinner: Option<ProgressBar>,
}

impl Show {
    pub(super) fn new(app: &App, json: bool) -> Self {
        let spinner = (app.out.is_live() && !json).then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        Self { out: app.out, json, spinner }
    }

    pub(super) fn head(&self) -> Result<(), Failure> {
        self.line(&COLUMNS.map(|(title, _)| format!("{HEAD}{title}{HEAD:#}")))
    }

    pub(super) fn begin(&self, name: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.enable_steady_tick(Duration::from_millis(80));
            spinner.set_message(name.to_owned());
        }
    }

    pub(super) fn end(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }

    pub(super) fn row(&self, row: &Row) -> Result<(), Failure> {
        let dash = || format!("{DIM}-{DIM:#}");
        let text = |text: &str| if text.is_empty() { dash() } else { Visible(text).to_string() };
        self.line(&[
            row.name.into(),
            text(&row.short()),
            text(&row.server.listener),
            text(&row.server.peer),
            row.connect_ms.map_or_else(dash, |ms| Took(Duration::from_secs_f64(ms / 1e3)).to_string()),
            row.rtt.map_or_else(dash, |rtt| Took(rtt.median()).to_string()),
            row.throughput.map_or_else(dash, rate),
            match row.ok {
                Some(true) => format!("{GOOD}ok{GOOD:#}"),
                Some(false) => format!("{BAD}no{BAD:#}"),
                None => format!("{DIM}n/a{DIM:#}"),
            },
        ])
    }

    fn line(&self, cells: &[String; 8]) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let mut line = String::new();
        for (cell, (_, most)) in cells.iter().zip(COLUMNS) {
            // Only plain text is ever too long.
            let cell = if width(cell) > most { fitted(cell, most) } else { cell.clone() };
            let fill = most - width(&cell);
            let _ = write!(line, "{cell}{:fill$}  ", "");
        }
        let line = line.trim_end();
        match &self.spinner {
            Some(spinner) => spinner.suspend(|| self.out.line(line)),
            None => self.out.line(line),
        }
    }

    /// What the table has no room for, the failure, and what to make of it all.
    pub(super) fn conclusion(&self, tour: &Tour) -> Result<(), Failure> {
        let out = self.out;
        for row in &tour.rows {
            if let Some(why) = &row.why {
                let style = if row.ok.is_none() { DIM } else { BAD };
                out.line(format_args!("\n{style}{}:{style:#} {}", row.name, Visible(why)))?;
            }
        }
        let failure = &tour.failure;
        out.line(format_args!(
            "\n{HEAD}And a failure, on purpose{HEAD:#}: nobody listens there. tuyau explain {}\n\n{}",
            failure.uri,
            wrapped(&failure.report, &std::io::stdout())
        ))?;
        let worked = tour.rows.iter().filter(|row| row.ok == Some(true)).count();
        let absent = tour.rows.iter().filter(|row| row.ok.is_none()).count();
        let tried = tour.rows.len() - absent;
        let style = if tour.ok { GOOD } else { BAD };
        let mut verdict = format!("{style}{worked} of {tried}{style:#} transports carried the same client");
        if absent > 0 {
            let _ = write!(verdict, "; this machine does not have {absent}");
        }
        if !failure.ok {
            verdict.push_str("; the failure did not fail");
        }
        out.line(format_args!("\n{verdict}."))
    }
}

fn rate(bytes_per_second: f64) -> String {
    let (value, unit) = match bytes_per_second {
        ..1e6 => (bytes_per_second / 1e3, "kB/s"),
        ..1e9 => (bytes_per_second / 1e6, "MB/s"),
        _ => (bytes_per_second / 1e9, "GB/s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}
