//! The few lines of an error message.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::words::{Count, Took, clipped, counted, in_parentheses, listed, safe};
use super::{Candidate, Outcome, Report};

/// How many lines of candidates there are at most.
const LINES: usize = 5;
/// How many notes.
const NOTES: usize = 3;

impl Report {
    /// A few lines for an error message: what came of it, then each cause with the candidates that it
    /// hit, and what to do. What failed comes before what was not available. Not wrapped; no line end at the
    /// end.
    ///
    /// ```text
    /// could not connect: 2 candidates failed (0.4 ms)
    ///   tcp: connect to [::1]:1 and 127.0.0.1:1: connection refused (0.2 ms at most)
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
        let groups = self.alike(0);
        let lines = groups.iter().take(LINES).filter_map(|group| {
            let first = group.first().and_then(|&index| self.candidates.get(index))?;
            (first.outcome != Outcome::NotTried).then(|| line(self, group, false))
        });
        let text = lines.collect::<Vec<_>>().join("; ");
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
                write!(f, "could not connect: {}", line(report, &[0], true))?;
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
            more => write!(f, "\n  … {}", counted(more, "more note")),
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
    let mut groups = report.alike(0);
    if report.winner.is_some() {
        // The first line names the winner; what came before it is of interest, what never came is not.
        groups.retain(|group| {
            let first = group.first().and_then(|&it| report.candidates.get(it));
            first.is_some_and(|it| !matches!(it.outcome, Outcome::Connected | Outcome::NotTried))
        });
    }
    if !report.planned {
        let rank = |group: &Vec<usize>| {
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
        write!(f, "\n  {}", line(report, group, true))?;
    }
    write_hint(pending, f)?;
    match groups.iter().skip(LINES).map(Vec::len).sum() {
        0 => Ok(()),
        more => write!(f, "\n  … {}", counted(more, "more candidate")),
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

/// `tcp: connect to [::1]:1 and 127.0.0.1:1: connection refused (0.2 ms at most)`, for candidates that are alike. Most
/// errors say whom they are about; the others are told with the candidates' names. Not `in_full`, no times.
fn line(report: &Report, group: &[usize], in_full: bool) -> String {
    let group: Vec<&Candidate> = group.iter().filter_map(|&index| report.candidates.get(index)).collect();
    let [first, others @ ..] = group.as_slice() else { return String::new() };
    let mut how = how(report, first, in_full);
    let addresses = group.iter().filter_map(|it| it.address()).map(|it| clipped(it, false).to_string());
    let addresses = listed(&addresses.collect::<Vec<_>>());
    let address = first.address().filter(|address| mentions(&how, address));
    let name = match (address, others) {
        (Some(_), _) if in_full => safe(first.key).to_string(),
        (Some(_), _) => String::new(),
        (None, []) => first.name(),
        (None, _) if addresses.is_empty() => format!("{} ({} of them)", safe(first.key), Count(group.len())),
        (None, _) => format!("{} {addresses}", safe(first.key)),
    };
    if let (Some(address), [_, ..]) = (address, others) {
        how = how.replace(address, &addresses);
    }
    if let (Outcome::Failed(_), true) = (&first.outcome, in_full) {
        how.push_str(&match (others, group.iter().filter_map(|it| it.took).max()) {
            ([_, ..], Some(longest)) => format!(" ({} at most)", Took(longest)),
            (_, took) => in_parentheses(took),
        });
    }
    if name.is_empty() { how } else { format!("{name}: {how}") }
}

/// Whether `address` stands in `text`, and not as part of a word.
fn mentions(text: &str, address: &str) -> bool {
    text.match_indices(address).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + address.len()..].chars().next();
        !before.into_iter().chain(after).any(char::is_alphanumeric)
    })
}

fn how(report: &Report, candidate: &Candidate, in_full: bool) -> String {
    let ending = || match in_full {
        true => candidate.ending(report),
        false => Candidate { took: None, ..candidate.clone() }.ending(report),
    };
    match &candidate.outcome {
        Outcome::Failed(cause) => clipped(&cause.what, false).to_string(),
        Outcome::Absent(cause) => format!("not available: {}", clipped(&cause.what, false)),
        Outcome::Refused(cause) => format!("forbidden: {}", clipped(&cause.what, false)),
        Outcome::Cancelled => match candidate.under_way(&report.reads) {
            Some((what, took)) => format!("{}, {what}{}", ending(), in_parentheses(took)),
            None => ending(),
        },
        _ => ending(),
    }
}
