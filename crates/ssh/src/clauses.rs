//! Which lines of OpenSSH's configuration count for a server (ssh_config(5)): those of the `Host` and `Match` that
//! hold, in the file itself and in what it includes.

use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::MatchOptions;

use crate::conditions::{keyword, words};
use crate::known_hosts::glob;
use crate::openssh::ConfigError;

/// How deep files may include files: as in OpenSSH.
const DEPTH: usize = 16;
/// What may be said several times: each time counts.
const SEVERAL: &[&str] = &[
    "certificatefile",
    "dynamicforward",
    "identityfile",
    "localforward",
    "remoteforward",
    "sendenv",
    "setenv",
];

/// A file, and what it includes.
#[derive(Clone)]
pub(crate) struct ConfigFile {
    path: Arc<Path>,
    lines: Arc<[(usize, Line)]>,
}

enum Line {
    Host(String),
    Match(String),
    Include(Vec<ConfigFile>),
    Other { keyword: String, text: String },
}

/// A `Match`: its conditions, and where it stands.
pub(crate) struct Match<'a> {
    pub(crate) path: &'a Path,
    pub(crate) line: usize,
    pub(crate) conditions: &'a str,
    /// Whether it stands where nothing holds: then it decides nothing.
    pub(crate) moot: bool,
}

/// Where relative `Include`s are looked for, and what `~` is.
pub(crate) struct Places<'a> {
    pub(crate) home: &'a Path,
    pub(crate) includes: PathBuf,
}

/// The lines that count so far. What is said first wins.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) text: String,
    said: Vec<String>,
}

impl Counted {
    /// Lets nothing more be said of this.
    pub(crate) fn settle(&mut self, keyword: &str) {
        self.said.push(keyword.into());
    }

    fn add(&mut self, keyword: &str, line: &str) {
        // Either is the way, and the one that comes first leaves no place for the other.
        let about = if keyword == "proxycommand" { "proxyjump" } else { keyword };
        if !SEVERAL.contains(&about) {
            if self.said.iter().any(|said| said == about) {
                return;
            }
            self.settle(about);
        }
        self.text.push_str(line);
        self.text.push('\n');
    }
}

impl ConfigFile {
    /// Reads the file, and all that it includes; `None` if there is none.
    pub(crate) fn read(path: &Path, places: &Places<'_>) -> Result<Option<Self>, ConfigError> {
        Self::read_at(path, places, 0)
    }

    fn read_at(path: &Path, places: &Places<'_>, depth: usize) -> Result<Option<Self>, ConfigError> {
        let failed = |source: Box<dyn Error + Send + Sync>| ConfigError::reading(path, source);
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (keyword, rest) = keyword(line);
            let line = match keyword.as_str() {
                "" => continue,
                comment if comment.starts_with('#') => continue,
                "host" => Line::Host(rest.into()),
                "match" => Line::Match(rest.into()),
                "include" if depth == DEPTH => {
                    return Err(failed(
                        format!("line {}: too many files that include files", index + 1).into(),
                    ));
                }
                "include" => {
                    let mut files = Vec::new();
                    for file in included(rest, places).map_err(failed)? {
                        files.extend(Self::read_at(&file, places, depth + 1)?);
                    }
                    Line::Include(files)
                }
                _ => Line::Other { keyword, text: line.into() },
            };
            lines.push((index + 1, line));
        }
        Ok(Some(Self { path: path.into(), lines: lines.into() }))
    }

    /// All lines of it, whomever they are about.
    pub(crate) fn whole(&self) -> String {
        let mut whole = String::new();
        self.add_whole(&mut whole);
        whole
    }

    fn add_whole(&self, whole: &mut String) {
        for (_, line) in &*self.lines {
            match line {
                Line::Host(_) | Line::Match(_) => whole.push_str("Host *\n"),
                Line::Include(files) => files.iter().for_each(|file| file.add_whole(whole)),
                Line::Other { text, .. } => {
                    whole.push_str(text);
                    whole.push('\n');
                }
            }
        }
    }

    /// Adds the lines that count for `host`. `judge` says whether a `Match` holds, given what counts before it.
    pub(crate) fn count(
        &self,
        host: &str,
        counted: &mut Counted,
        judge: &mut dyn FnMut(&Match<'_>, &Counted) -> Result<bool, ConfigError>,
    ) -> Result<(), ConfigError> {
        self.count_if(true, host, counted, judge)
    }

    /// The same; if it is included where nothing `holds`, nothing of it counts.
    fn count_if(
        &self,
        holds: bool,
        host: &str,
        counted: &mut Counted,
        judge: &mut dyn FnMut(&Match<'_>, &Counted) -> Result<bool, ConfigError>,
    ) -> Result<(), ConfigError> {
        let mut counts = holds;
        for (line, content) in &*self.lines {
            match content {
                Line::Host(patterns) => counts = holds && fits(patterns, host),
                Line::Match(conditions) => {
                    let it = Match { path: &self.path, line: *line, conditions, moot: !holds };
                    counts = judge(&it, counted)? && holds;
                }
                // What holds in it says nothing of what comes after it.
                Line::Include(files) => {
                    files.iter().try_for_each(|file| file.count_if(counts, host, counted, judge))?
                }
                Line::Other { keyword, text } if counts => counted.add(keyword, text),
                Line::Other { .. } => {}
            }
        }
        Ok(())
    }
}

/// The files that an `Include` names: those that there are, each pattern's in order.
fn included(patterns: &str, places: &Places<'_>) -> Result<Vec<PathBuf>, Box<dyn Error + Send + Sync>> {
    let mut files = Vec::new();
    for pattern in words(patterns) {
        if pattern.contains(['%', '$']) {
            return Err(format!("`Include {pattern}`: tokens and variables are not supported").into());
        }
        let path = match pattern.strip_prefix("~/") {
            Some(rest) => places.home.join(rest),
            None => places.includes.join(&pattern),
        };
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
        for file in glob::glob_with(&path.to_string_lossy(), options)? {
            files.push(file?);
        }
    }
    Ok(files)
}

/// Whether a `Host` of these patterns is about `host`: one matches, and none that begins with `!` does.
fn fits(patterns: &str, host: &str) -> bool {
    let mut fits = false;
    for pattern in words(patterns) {
        match pattern.strip_prefix('!') {
            Some(pattern) if glob(pattern, host) => return false,
            Some(_) => {}
            None => fits |= glob(&pattern, host),
        }
    }
    fits
}
