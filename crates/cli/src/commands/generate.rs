//! `tuyau completions` and `tuyau man`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::app::App;
use crate::cli::Cli;
use crate::exit::Failure;

pub(crate) fn completions(app: &App, shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tuyau", &mut script);
    app.out.print(String::from_utf8_lossy(&script))
}

pub(crate) fn man(app: &App, dir: Option<&Path>) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| Failure::Failed(format!("{what}: {error}"));
    let command = Cli::command();
    let Some(dir) = dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(|error| failed("the manual page", error))?;
        return app.out.print(String::from_utf8_lossy(&page));
    };
    let shown = dir.display().to_string();
    std::fs::create_dir_all(dir).map_err(|error| failed(&shown, error))?;
    clap_mangen::generate_to(command, dir).map_err(|error| failed(&shown, error))
}
