//! `tuyau completions` and `tuyau man`.

use std::fmt::Display;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::app::App;
use crate::cli::{Cli, EXIT_STATUS, FURTHER, URIS};
use crate::exit::Failure;

pub(crate) fn completions(app: &App, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tuyau", &mut script);
    app.out.bytes(&script)
}

pub(crate) fn man(app: &App, dir: Option<&Path>) -> Result<(), Failure> {
    let failed = |what: &str, error: io::Error| Failure::Failed(format!("{what}: {error}"));
    let page = main_page().map_err(|error| failed("the manual page", error))?;
    let Some(dir) = dir else {
        return app.out.bytes(&page);
    };
    let write = || {
        std::fs::create_dir_all(dir)?;
        clap_mangen::generate_to(Cli::command(), dir)?;
        std::fs::write(dir.join("tuyau.1"), &page)
    };
    write().map_err(|error| failed(&dir.display().to_string(), error))
}

/// The page of the program itself: with sections for what `--help` has at its end.
fn main_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(Cli::command());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    let mut rest = Roff::new();
    section(&mut rest, "FURTHER COMMANDS", &FURTHER);
    section(&mut rest, "URIS", &URIS);
    section(&mut rest, "EXIT STATUS", &EXIT_STATUS);
    rest.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// A list of terms.
fn section(roff: &mut Roff, title: &str, list: &[(impl Display, &str)]) {
    roff.control("SH", [title]);
    for (term, what) in list {
        roff.control("TP", []);
        roff.text([bold(term.to_string())]);
        roff.text([roman(*what)]);
    }
}
