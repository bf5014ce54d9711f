//! The few lines of an error message.

use alloc::string::{String, ToString};
use core::fmt::{self, Write};

use super::words::{Count, clipped, in_parentheses};
use super::{Candidate, Cause, Outcome, Report};

/// How many lines of candidates there are at most.
const LINES: usize = 5;
/// How many notes.
const NOTES: usize = 3;

impl Report {
    /// A few lines for an error message: what came of it, then each candidate with its cause, and
    /// what to do. What failed comes before what was not available. Not wrapped; no line end at the
    /// end.
    ///
    /// ```text
    /// could not connect: 2 candidates failed
    ///   tcp [::1]:1: connect: connection refused (0.2 ms)
    ///   tcp 127.0.0.1:1: connect: connection refused (0.1 ms)
    ///     nobody listens there: is the server running?
    /// ```
    pub fn summary(&self) -> impl fmt::Display {
        Summary(self)
    }
}

impl Report {
    /// What to do about the failures, if that is known of one: of the last, which ends a resolution if any does.
    pub(crate) fn hint(&self) -> Option<&str> {
        self.candidates.iter().rev().find_map(hint)
    }

    /// Why there is no connection, in a line, for an error that this one caused: without times and hints.
    pub(crate) fn brief(&self) -> String {
        let mut text = String::new();
        let groups = self.alike(0);
        for group in groups.iter().take(LINES) {
            let Some(candidate) = group.first().and_then(|&index| self.candidates.get(index)) else {
                continue;
            };
            let separator = if text.is_empty() { "" } else { "; " };
            let why = match &candidate.outcome {
                Outcome::NotTried => continue,
                Outcome::Failed(Cause { what, .. }) => clipped(what, false).to_string(),
                _ => how(self, &Candidate { took: None, ..candidate.clone() }),
            };
            // Most errors say whom they are about.
            let address = candidate.endpoint.as_deref().and_then(|it| it.split(' ').next()).unwrap_or("\0");
            let _ = match why.contains(address) {
                true => write!(text, "{separator}{why}"),
                false => write!(text, "{separator}{}: {why}", candidate.name()),
            };
        }
        if text.is_empty() { self.nothing().join("; ") } else { text }
    }
}

struct Summary<'a>(&'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        match report.candidates.as_slice() {
            [] => nothing(report, f)?,
            [only] if !report.planned && report.winner.is_none() => {
                write!(f, "could not connect: {}", line(report, only, 1))?;
                if let Some(hint) = hint(only) {
                    write!(f, "\n  {}", clipped(hint, false))?;
                }
            }
            _ => candidates(report, f)?,
        }
        for note in report.notes.iter().take(NOTES) {
            write!(f, "\n  note: {}", clipped(note, false))?;
        }
        match report.notes.len().saturating_sub(NOTES) {
            0 => Ok(()),
            more => write!(f, "\n  … {} more notes", Count(more)),
        }
    }
}

fn nothing(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&report.headline())?;
    for (index, line) in report.nothing().into_iter().enumerate() {
        write!(f, "{}{line}", if index == 0 { ": " } else { "\n  " })?;
    }
    Ok(())
}

fn candidates(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&report.headline())?;
    let mut groups = report.alike(LINES - 1);
    if report.winner.is_some() {
        // The first line names the winner; what came before it is of interest, what never came is not.
        groups.retain(|group| {
            let first = group.first().and_then(|&it| report.candidates.get(it));
            first.is_some_and(|it| !matches!(it.outcome, Outcome::Connected | Outcome::NotTried))
        });
    }
    if !report.planned {
        let rank = |group: &alloc::vec::Vec<usize>| {
            group.first().and_then(|&it| report.candidates.get(it)).map(|it| it.outcome.rank())
        };
        groups.sort_by_key(rank);
    }
    let mut pending = None;
    for group in groups.iter().take(LINES) {
        let Some(first) = group.first().and_then(|&index| report.candidates.get(index)) else { continue };
        // One hint serves all that stand together and have it.
        if pending.is_some() && pending != hint(first) {
            write_hint(pending, f)?;
        }
        pending = hint(first);
        write!(f, "\n  {}", line(report, first, group.len()))?;
    }
    write_hint(pending, f)?;
    match groups.iter().skip(LINES).map(alloc::vec::Vec::len).sum() {
        0 => Ok(()),
        more => write!(f, "\n  … {} more candidate{}", Count(more), if more == 1 { "" } else { "s" }),
    }
}

fn hint(candidate: &Candidate) -> Option<&str> {
    candidate.outcome.cause().and_then(|(_, hint)| hint)
}

fn write_hint(hint: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match hint {
        Some(hint) => write!(f, "\n    {}", clipped(hint, false)),
        None => Ok(()),
    }
}

/// `tcp [::1]:1: connect: connection refused (0.2 ms)`, for the first of `count` that are alike.
fn line(report: &Report, candidate: &Candidate, count: usize) -> String {
    let alike = match count {
        1 => String::new(),
        _ => alloc::format!(" and {} more", Count(count - 1)),
    };
    alloc::format!("{}{alike}: {}", candidate.name(), how(report, candidate))
}

fn how(report: &Report, candidate: &Candidate) -> String {
    match &candidate.outcome {
        Outcome::Failed(cause) => {
            alloc::format!("{}{}", clipped(&cause.what, false), in_parentheses(candidate.took))
        }
        Outcome::Absent(cause) => alloc::format!("not available: {}", clipped(&cause.what, false)),
        Outcome::Refused(why) => alloc::format!("forbidden: {}", clipped(why, false)),
        Outcome::Cancelled => match candidate.under_way(report) {
            Some(what) => alloc::format!("{}, {what}", candidate.ending(report)),
            None => candidate.ending(report),
        },
        _ => candidate.ending(report),
    }
}
