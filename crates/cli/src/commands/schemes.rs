//! `tuyau schemes`.

use tuyau::{Scheme, SchemeKind};

use crate::app::App;
use crate::exit::Failure;
use crate::output::{BAD, DIM, GOOD, HEAD};
use crate::table::Table;

pub(crate) fn run(app: &App) -> Result<(), Failure> {
    list(app, "Transports", of(SchemeKind::Transport))?;
    list(app, "Layers, which lie on a transport: tls+unix:/run/x.sock", of(SchemeKind::Layer))?;
    list(app, "Hops, to go through: --via URI", tuyau::hops().iter().collect())?;
    let missing: Vec<_> = all().filter(|scheme| !scheme.available).collect();
    if missing.is_empty() {
        app.out.line("This build has all that this version knows.")?;
    }
    for scheme in missing {
        app.out.line(format_args!("{}: {}", scheme.name, how_to_have(scheme)))?;
    }
    if app.verbose { options(app) } else { Ok(()) }
}

/// Every scheme; one that is of two kinds comes twice.
fn all() -> impl Iterator<Item = &'static Scheme> {
    tuyau::schemes().iter().chain(tuyau::hops())
}

fn of(kind: SchemeKind) -> Vec<&'static Scheme> {
    tuyau::schemes().iter().filter(|scheme| scheme.kind == kind).collect()
}

fn list(app: &App, title: &str, schemes: Vec<&Scheme>) -> Result<(), Failure> {
    let mut table = Table::new(&["scheme", "connect", "listen", "example", "what it is"]);
    for scheme in schemes {
        let can = |it: bool| match (it, scheme.available) {
            (true, true) => format!("{GOOD}yes{GOOD:#}"),
            (true, false) => format!("{BAD}no{BAD:#}"),
            (false, _) => format!("{DIM}-{DIM:#}"),
        };
        table.row([
            scheme.name.into(),
            can(scheme.connects),
            can(scheme.listens),
            scheme.example.into(),
            scheme.what.into(),
        ]);
    }
    app.out.print(format_args!("{HEAD}{title}{HEAD:#}\n{table}\n"))
}

fn how_to_have(scheme: &Scheme) -> String {
    match scheme.feature {
        Some(feature) if cfg!(unix) => format!("this build lacks it; the feature `{feature}` adds it"),
        _ => "this platform has not got it".into(),
    }
}

fn options(app: &App) -> Result<(), Failure> {
    let mut table = Table::new(&["scheme", "option", "example", "what it does"]);
    for scheme in all() {
        for option in scheme.options() {
            table.row([scheme.name.into(), option.name.into(), option.example.into(), option.what.into()]);
        }
    }
    app.out.print(format_args!("\n{table}"))
}
