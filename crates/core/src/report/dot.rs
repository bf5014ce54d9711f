//! Graphviz: what was read points to what needed it, candidates point to their hops.

use alloc::format;
use alloc::string::String;
use core::fmt::{self, Write};

use super::words::{Count, Safe, in_parentheses};
use super::{Candidate, Hop, Outcome, Read, ReadOutcome, Report};

/// How much of one text a label shows, in characters.
const LABEL: usize = 120;

impl Report {
    /// The report as a directed graph in Graphviz' DOT language: reads `r0`, `r1`, …, candidates
    /// `c0`, …, and their hops `c0h0`, …, nearest to us first, numbered as in the report's vectors. The winner is green and
    /// bold, what failed red, what was cancelled or never tried grey and dashed.
    pub fn dot(&self) -> impl fmt::Display {
        Dot(self)
    }
}

struct Dot<'a>(&'a Report);

/// The colour of what went well, what went wrong, and what did not come to an end.
const GOOD: &str = r##"color="#2e7d32", fillcolor="#e8f5e9""##;
const BAD: &str = r##"color="#c62828", fillcolor="#ffebee""##;
const OFF: &str = r##"color="#9e9e9e", fontcolor="#757575", style="filled,dashed""##;
const PLAIN: &str = r##"color="#546e7a""##;

impl fmt::Display for Dot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        f.write_str("digraph report {\n  rankdir=LR;\n")?;
        f.write_str("  node [shape=box, style=filled, fillcolor=white, fontname=\"sans-serif\"];\n")?;
        for (index, read) in report.reads.iter().enumerate() {
            writeln!(f, "  r{index} [label=\"{}\", shape=ellipse, {}];", read_label(read), read_style(read))?;
            edges(&read.needs, report, format_args!("r{index}"), f)?;
        }
        for (index, candidate) in report.candidates.iter().enumerate() {
            let style = candidate_style(candidate);
            let wins = if report.winner == Some(index) { ", penwidth=3" } else { "" };
            let label = candidate_label(index, candidate, report);
            writeln!(f, "  c{index} [label=\"{label}\", {style}{wins}];")?;
            edges(&candidate.needs, report, format_args!("c{index}"), f)?;
            for (step, hop) in candidate.hops.iter().enumerate() {
                writeln!(
                    f,
                    "  c{index}h{step} [label=\"{}\", {}];",
                    hop_label(hop, candidate.is_given_up(step)),
                    hop_style(hop)
                )?;
                match step.checked_sub(1) {
                    None => writeln!(f, "  c{index} -> c{index}h0;")?,
                    Some(before) => writeln!(f, "  c{index}h{before} -> c{index}h{step};")?,
                }
            }
        }
        for (index, note) in report.notes.iter().enumerate() {
            writeln!(f, "  n{index} [label=\"{}\", shape=note, {PLAIN}];", Label(note))?;
        }
        f.write_str("}\n")
    }
}

fn edges(
    needs: &[usize],
    report: &Report,
    to: fmt::Arguments<'_>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    // An edge to a node that was never declared would make one up.
    for need in needs.iter().filter(|&&need| need < report.reads.len()) {
        writeln!(f, "  r{need} -> {to};")?;
    }
    Ok(())
}

fn read_label(read: &Read) -> String {
    let mut label = format!("{}", Label(read.key));
    if let Some(value) = &read.value {
        let _ = write!(label, " = {}", Label(value));
    }
    let _ = match &read.outcome {
        ReadOutcome::Value => Ok(()),
        ReadOutcome::Derived { of: 0 | 1, .. } => write!(label, r"\nderived"),
        ReadOutcome::Derived { choice, of } => {
            write!(label, r"\nderived, {} of {}", Count(choice.saturating_add(1)), Count(*of))
        }
        ReadOutcome::Missing if read.binding.is_none() => write!(label, r"\nnot bound"),
        ReadOutcome::Missing => write!(label, r"\nmissing"),
        ReadOutcome::Declined(why) => write!(label, r"\ndeclined: {}", Label(why)),
        ReadOutcome::Failed(cause) => write!(label, r"\nfailed: {}", Label(&cause.what)),
        ReadOutcome::Unfinished => write!(label, r"\nunfinished"),
        ReadOutcome::WouldRun => write!(label, r"\nwould be derived"),
    };
    label.push_str(&in_parentheses(read.took));
    if let Some(place) = read.place() {
        let _ = write!(label, r"\n{}", Label(&format!("{place}")));
    }
    label
}

fn candidate_label(index: usize, candidate: &Candidate, report: &Report) -> String {
    let (name, ending) = (candidate.name(), candidate.ending(report));
    let mut label = format!(r"{}. {}\n{}", index + 1, Label(&name), Label(&ending));
    if let Some((what, _)) = candidate.outcome.cause() {
        let _ = write!(label, r"\n{}", Label(what));
    }
    if candidate.binding.is_known() {
        let _ = write!(label, r"\n{}", Label(&format!("{}", candidate.binding)));
    }
    label
}

fn hop_label(hop: &Hop, given_up: bool) -> String {
    let (title, took) = (hop.title(false), in_parentheses(hop.took));
    match &hop.outcome {
        Some(Ok(())) => match &hop.detail {
            Some(detail) => format!(r"{}\nok{took}\n{}", Label(&title), Label(detail)),
            None => format!(r"{}\nok{took}", Label(&title)),
        },
        Some(Err(what)) => format!(r"{}\n{}{took}", Label(&title), Label(what)),
        None if given_up => format!(r"{}\ngiven up{took}", Label(&title)),
        None => format!(r"{}\nunder way{took}", Label(&title)),
    }
}

fn read_style(read: &Read) -> &'static str {
    match read.outcome {
        ReadOutcome::Failed(_) => BAD,
        ReadOutcome::Missing | ReadOutcome::Declined(_) | ReadOutcome::Unfinished => OFF,
        ReadOutcome::Value | ReadOutcome::Derived { .. } | ReadOutcome::WouldRun => PLAIN,
    }
}

fn candidate_style(candidate: &Candidate) -> &'static str {
    match candidate.outcome {
        Outcome::Connected => GOOD,
        Outcome::Failed(_) | Outcome::Refused(_) => BAD,
        Outcome::Absent(_) | Outcome::Cancelled | Outcome::NotTried => OFF,
        Outcome::WouldConnect | Outcome::WouldDerive => PLAIN,
    }
}

fn hop_style(hop: &Hop) -> &'static str {
    match hop.outcome {
        Some(Ok(())) => GOOD,
        Some(Err(_)) => BAD,
        None => OFF,
    }
}

/// A text inside a quoted label: no quote ends it, no backslash is one of Graphviz' escapes
/// (`\N`, `\n`), no ampersand begins a character reference (`&#27;`).
struct Label<'a>(&'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in format!("{}", Safe { text: self.0, max: LABEL }).chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '&' => f.write_str("&amp;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
