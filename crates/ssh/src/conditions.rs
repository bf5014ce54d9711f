//! The conditions of a `Match` in OpenSSH's configuration (ssh_config(5)).

use std::fmt;

use crate::known_hosts::glob;

/// What conditions are about.
pub(crate) struct Subject<'a> {
    /// The server as it was asked for.
    pub(crate) original: &'a str,
    /// Its name after the substitutions so far.
    pub(crate) host: &'a str,
    /// Who logs in, as far as that is known so far.
    pub(crate) user: &'a str,
    /// Who runs this program.
    pub(crate) local_user: &'a str,
    /// Whether all was read before, and this is the pass for the name that came of it.
    pub(crate) last_pass: bool,
}

/// A condition that can't be judged here, or makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadMatch {
    what: String,
}

impl fmt::Display for BadMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The keyword of `line`, in lower case, and what follows it.
pub(crate) fn keyword(line: &str) -> (String, &str) {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let rest = line[end..].trim_start();
    (line[..end].to_ascii_lowercase(), rest.strip_prefix('=').unwrap_or(rest).trim_start())
}

/// Whether the `conditions` of a `Match` hold.
///
/// # Errors
/// If they are none, or if one decides that can't be judged here.
pub(crate) fn hold(conditions: &str, subject: &Subject<'_>) -> Result<bool, BadMatch> {
    let bad = |what: String| Err(BadMatch { what });
    let mut words = words(conditions).into_iter();
    let (mut holds, mut any, mut all) = (true, false, false);
    while let Some(word) = words.next() {
        let (negated, criterion) = match word.strip_prefix('!') {
            Some(criterion) => (true, criterion),
            None => (false, word.as_str()),
        };
        let (criterion, given) = match criterion.split_once('=') {
            Some((criterion, given)) => (criterion.to_ascii_lowercase(), Some(given.to_owned())),
            None => (criterion.to_ascii_lowercase(), None),
        };
        let first = !std::mem::replace(&mut any, true);
        if all {
            return bad("`all` must be the last word of a `Match`".into());
        }
        let met = match criterion.as_str() {
            // Nothing else goes with it, but what says in which pass.
            "all" if first || only_passes(conditions) => {
                all = true;
                true
            }
            "all" => return bad("`all` can't be combined with other criteria of a `Match`".into()),
            "final" | "canonical" => subject.last_pass,
            "host" | "originalhost" | "user" | "localuser" => {
                let Some(patterns) = given.or_else(|| words.next()) else {
                    return bad(format!("`{criterion}` of a `Match` wants a pattern"));
                };
                match criterion.as_str() {
                    "host" => matches_one(&patterns.to_ascii_lowercase(), &subject.host.to_ascii_lowercase()),
                    "originalhost" => {
                        matches_one(&patterns.to_ascii_lowercase(), &subject.original.to_ascii_lowercase())
                    }
                    "user" => matches_one(&patterns, subject.user),
                    _ => matches_one(&patterns, subject.local_user),
                }
            }
            // OpenSSH runs no command, either, once something else does not hold.
            other if holds => {
                let not = if negated { "!" } else { "" };
                return bad(format!("`{not}{other}` of a `Match` is not supported, and decides here"));
            }
            _ => {
                if given.is_none() {
                    words.next();
                }
                continue;
            }
        };
        holds &= met != negated;
    }
    if any { Ok(holds) } else { bad("a `Match` wants criteria".into()) }
}

/// Whether a `Match` asks for the last pass, whatever else it says.
pub(crate) fn wants_last_pass(conditions: &str) -> bool {
    words(conditions).iter().any(|word| {
        let word = word.trim_start_matches('!');
        word.eq_ignore_ascii_case("final")
    })
}

fn only_passes(conditions: &str) -> bool {
    let passes = |word: &String| {
        ["all", "final", "canonical"].iter().any(|it| word.trim_start_matches('!').eq_ignore_ascii_case(it))
    };
    words(conditions).iter().all(passes)
}

/// As a shell has them: with quotes, up to a comment.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '#' if !quoted && word.is_none() => break,
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether one of the patterns, with commas between them, matches, and none that begins with `!` does.
fn matches_one(patterns: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if glob(pattern, text) => return false,
            Some(_) => {}
            None => found |= glob(pattern, text),
        }
    }
    found
}
