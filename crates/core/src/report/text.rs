//! Text for people.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::time::Duration;

use super::trail::Paths;
use super::words::{Count, Took, clipped, in_parentheses};
use super::{Candidate, Outcome, Read, ReadOutcome, Report};

/// How wide a line may be, in characters, where words allow.
const WIDTH: usize = 100;
/// Up to how many candidates all have a block of their own.
const APART: usize = 8;
/// How many blocks there are if not all are asked for.
const BLOCKS: usize = 20;
/// How many lines of one sort there are in a block if not all are asked for.
const LINES: usize = 8;
/// Where the text of a block begins.
const INDENT: usize = 7;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = f.alternate();
        let mut page = Page { report: self, all, f };
        page.line(0, &self.headline())?;
        page.candidates()?;
        page.reads()?;
        page.notes()
    }
}

struct Page<'a, 'f, 'b> {
    report: &'a Report,
    /// Whether nothing may be left out.
    all: bool,
    f: &'f mut fmt::Formatter<'b>,
}

impl<'a> Page<'a, '_, '_> {
    fn line(&mut self, indent: usize, text: &str) -> fmt::Result {
        self.wrapped(indent, indent + 2, text)
    }

    /// Writes a line, wrapped between words, what is wrapped at `hanging`.
    fn wrapped(&mut self, indent: usize, hanging: usize, text: &str) -> fmt::Result {
        let mut column = indent;
        write!(self.f, "{:indent$}", "")?;
        for (index, word) in text.split(' ').enumerate() {
            let length = word.chars().count();
            if index > 0 && column + 1 + length > WIDTH {
                column = hanging;
                write!(self.f, "\n{:column$}", "")?;
            } else if index > 0 {
                column += 1;
                self.f.write_char(' ')?;
            }
            column += length;
            self.f.write_str(word)?;
        }
        self.f.write_char('\n')
    }

    fn candidates(&mut self) -> fmt::Result {
        if self.report.candidates.is_empty() {
            for line in self.report.nothing() {
                self.line(2, &line)?;
            }
            return Ok(());
        }
        let groups = match self.all {
            true => (0..self.report.candidates.len()).map(|index| vec![index]).collect(),
            false => self.report.alike(APART),
        };
        // However many come before: the winner has its block, and those never tried their line.
        let always = |index: usize| {
            let untried = |it: &Candidate| it.outcome == Outcome::NotTried;
            self.report.winner == Some(index) || self.report.candidates.get(index).is_some_and(untried)
        };
        let shown = |(index, group): &(usize, &Vec<usize>)| {
            self.all || *index < BLOCKS || group.iter().copied().any(always)
        };
        let (mut blocks, mut left) = (Vec::new(), 0);
        for item in groups.iter().enumerate() {
            if shown(&item) { blocks.push(item.1) } else { left += item.1.len() }
        }
        for group in blocks {
            self.group(group)?;
        }
        match left {
            0 => Ok(()),
            left => {
                self.line(2, &format!("… {} more candidate{}", Count(left), if left == 1 { "" } else { "s" }))
            }
        }
    }

    /// The block of candidates that ended alike: the first in full.
    fn group(&mut self, group: &[usize]) -> fmt::Result {
        let Some((&index, rest)) = group.split_first() else { return Ok(()) };
        let Some(candidate) = self.report.candidates.get(index) else { return Ok(()) };
        if candidate.outcome == Outcome::NotTried && !self.all {
            let some = group.iter().filter_map(|&index| self.report.candidates.get(index)).take(3);
            let mut names: Vec<_> = some.map(Candidate::name).collect();
            if let Some(more @ 1..) = group.len().checked_sub(names.len()) {
                names.push(format!("… {} more", Count(more)));
            }
            return self.line(2, &format!("{}. not tried: {}", ranges(group), names.join(", ")));
        }
        self.block(index, candidate)?;
        let Some(last) = rest.last().and_then(|&index| self.report.candidates.get(index)) else {
            return Ok(());
        };
        let more =
            format!("and {} more like it ({}), the last {}", Count(rest.len()), ranges(rest), last.name());
        self.line(INDENT, &more)
    }

    fn block(&mut self, index: usize, candidate: &'a Candidate) -> fmt::Result {
        let wins = self.report.winner == Some(index);
        let mark = if wins { ">" } else { " " };
        let mut title =
            format!("{mark} {}. {}: {}", index + 1, candidate.name(), candidate.ending(self.report));
        if candidate.outcome == Outcome::Cancelled
            && let Some(what) = candidate.under_way(self.report)
        {
            let _ = write!(title, ", {what}");
        }
        self.wrapped(0, INDENT, &title)?;
        let (said, hint) = candidate.outcome.cause().unzip();
        let (said, hint) = (said.unwrap_or_default(), hint.flatten());
        if !said.is_empty() {
            self.line(INDENT, &clipped(said, self.all).to_string())?;
        }
        self.hint(INDENT, hint)?;
        let terms = self.terms(candidate);
        if !terms.is_empty() {
            self.line(INDENT, &terms)?;
        }
        self.hops(candidate, said)?;
        if self.all {
            return match candidate.needs.is_empty() {
                true => Ok(()),
                false => self.line(INDENT, &format!("reads {}", numbers(&candidate.needs))),
            };
        }
        self.sources(candidate)?;
        self.culprits(candidate, said, hint)
    }

    fn hint(&mut self, indent: usize, hint: Option<&str>) -> fmt::Result {
        match hint {
            Some(hint) => self.line(indent, &format!("what to do: {}", clipped(hint, self.all))),
            None => Ok(()),
        }
    }

    /// Where it is bound, and what put it in its place, as far as that tells candidates apart.
    fn terms(&self, candidate: &Candidate) -> String {
        let others = &self.report.candidates;
        let mut terms = Vec::new();
        if candidate.binding.is_known() {
            terms.push(format!("bound at {}", candidate.binding));
        }
        if self.all || others.iter().any(|other| other.priority != candidate.priority) {
            terms.push(match candidate.priority {
                Some(priority) => format!("priority {priority}"),
                None => "no priority".into(),
            });
        }
        let refused = matches!(candidate.outcome, Outcome::Refused(_));
        if self.all || refused || others.iter().any(|other| other.protection != candidate.protection) {
            terms.push(candidate.protection.to_string());
        }
        if let Some(started) = candidate.started.filter(|&it| it >= Duration::from_millis(1)) {
            terms.push(format!("begun after {}", Took(started)));
        }
        terms.join(", ")
    }

    fn hops(&mut self, candidate: &Candidate, said: &str) -> fmt::Result {
        let shown = if self.all { candidate.hops.len() } else { LINES };
        for hop in candidate.hops.iter().take(shown) {
            let how = match &hop.outcome {
                Some(Ok(())) => "ok".into(),
                Some(Err(why)) if !self.all && said.contains(why.as_str()) => "failed".into(),
                Some(Err(why)) => format!("failed: {}", clipped(why, self.all)),
                None => "under way".into(),
            };
            self.line(INDENT, &format!("hop {}: {how}{}", hop.title(self.all), in_parentheses(hop.took)))?;
        }
        self.more(candidate.hops.len().saturating_sub(shown), "hops")
    }

    fn more(&mut self, count: usize, what: &str) -> fmt::Result {
        match count {
            0 => Ok(()),
            count => self.line(INDENT, &format!("… {} more {what}", Count(count))),
        }
    }

    /// What its own arguments came from.
    fn sources(&mut self, candidate: &Candidate) -> fmt::Result {
        let reads = candidate.needs.iter().filter_map(|&index| self.report.reads.get(index));
        let had = |read: &&Read| matches!(read.outcome, ReadOutcome::Value | ReadOutcome::Derived { .. });
        let mut sources: Vec<_> = reads.filter(had).map(|read| read.source()).collect();
        if sources.is_empty() {
            return Ok(());
        }
        let more = sources.len().saturating_sub(LINES);
        sources.truncate(LINES);
        if more > 0 {
            sources.push(format!("… {} more", Count(more)));
        }
        self.line(INDENT, &format!("from {}", sources.join(", ")))
    }

    /// The reads, near or far, that decided how the candidate ended, nearest first.
    fn culprits(&mut self, candidate: &Candidate, said: &str, hint: Option<&str>) -> fmt::Result {
        let guilty = |read: &Read| match candidate.outcome {
            Outcome::Absent(_) => matches!(read.outcome, ReadOutcome::Missing | ReadOutcome::Declined(_)),
            Outcome::Failed(_) => matches!(read.outcome, ReadOutcome::Failed(_) | ReadOutcome::Unfinished),
            Outcome::Cancelled => read.outcome == ReadOutcome::Unfinished,
            Outcome::WouldDerive => read.outcome == ReadOutcome::WouldRun,
            Outcome::Connected | Outcome::Refused(_) | Outcome::NotTried | Outcome::WouldConnect => false,
        };
        // Of a chain of failures the last says why; each decline and each run speaks for itself.
        let passed_on = |read: &Read| {
            matches!(read.outcome, ReadOutcome::Failed(_) | ReadOutcome::Missing)
                && read.needs.iter().filter_map(|&need| self.report.reads.get(need)).any(guilty)
        };
        let paths = Paths::from(candidate, &self.report.reads);
        let found: Vec<_> = paths
            .nearest_first
            .iter()
            .filter_map(|&index| Some((index, self.report.reads.get(index)?)))
            .filter(|(_, read)| guilty(read) && !passed_on(read))
            .collect();
        for &(index, read) in found.iter().take(LINES) {
            self.line(
                INDENT,
                &format!("{}{}", read.story(said, false), paths.wanted_by(index, &self.report.reads)),
            )?;
            if let ReadOutcome::Failed(cause) = &read.outcome
                && cause.hint.as_deref() != hint
            {
                self.hint(INDENT + 2, cause.hint.as_deref())?;
            }
        }
        self.more(found.len().saturating_sub(LINES), "reads like these")
    }

    /// All that was read, numbered.
    fn reads(&mut self) -> fmt::Result {
        if !self.all || self.report.reads.is_empty() {
            return Ok(());
        }
        self.line(0, "reads")?;
        for (index, read) in self.report.reads.iter().enumerate() {
            let mut line = format!("r{}. {}", index + 1, read.story("", true));
            if !read.needs.is_empty() {
                let _ = write!(line, ", from {}", numbers(&read.needs));
            }
            self.line(2, &line)?;
            if let ReadOutcome::Failed(cause) = &read.outcome {
                self.hint(INDENT, cause.hint.as_deref())?;
            }
        }
        Ok(())
    }

    fn notes(&mut self) -> fmt::Result {
        let shown = if self.all { self.report.notes.len() } else { LINES };
        for note in self.report.notes.iter().take(shown) {
            self.line(0, &format!("note: {}", clipped(note, self.all)))?;
        }
        match self.report.notes.len().saturating_sub(shown) {
            0 => Ok(()),
            more => self.line(0, &format!("… {} more notes", Count(more))),
        }
    }
}

/// `r1, r2`.
fn numbers(needs: &[usize]) -> String {
    let numbers: Vec<_> = needs.iter().map(|need| format!("r{}", need.saturating_add(1))).collect();
    numbers.join(", ")
}

/// Numbers from 1, of ascending indices: `1, 3-999`.
fn ranges(indices: &[usize]) -> String {
    let runs = indices.chunk_by(|a, b| a + 1 == *b);
    let mut text: Vec<_> = runs
        .filter_map(|run| Some((run.first()? + 1, run.last()? + 1)))
        .take(LINES + 1)
        .map(|(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") })
        .collect();
    if text.len() > LINES {
        text.truncate(LINES);
        text.push("…".into());
    }
    text.join(", ")
}
