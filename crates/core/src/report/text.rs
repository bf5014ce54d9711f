//! Text for people.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::time::Duration;

use super::trail::Paths;
use super::words::{Count, Took, clipped, counted, in_parentheses};
use super::{Candidate, Outcome, Read, ReadOutcome, Report};
use crate::key::HIDDEN;

/// Up to how many candidates all have a block of their own.
const APART: usize = 8;
/// How many blocks there are if not all are asked for.
const BLOCKS: usize = 20;
/// How many lines of one sort there are in a block if not all are asked for.
const LINES: usize = 8;
/// How many steps: the last tells most.
const STEPS: usize = 32;
/// Where the text of a block begins.
const INDENT: usize = 7;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().filter(|width| *width > 0).unwrap_or(usize::MAX);
        let mut page = Page { report: self, all: f.alternate(), width, f };
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
    /// How wide a line may be, in characters, where words allow.
    width: usize,
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
            if index > 0 && column + 1 + length > self.width {
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
            left => self.line(2, &format!("… {}", counted(left, "more candidate"))),
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
            && let Some((what, took)) = candidate.under_way(&self.report.reads)
        {
            let _ = write!(title, ", {what}{}", in_parentheses(took));
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
        let paths = Paths::from(candidate, &self.report.reads);
        self.sources(candidate, &paths)?;
        match candidate.outcome {
            Outcome::WouldDerive => self.runs(candidate, &paths),
            _ => self.culprits(candidate, &paths, said, hint),
        }
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

    /// The steps of the way, numbered.
    fn hops(&mut self, candidate: &Candidate, said: &str) -> fmt::Result {
        let shown = if self.all { candidate.hops.len() } else { STEPS };
        for (index, hop) in candidate.hops.iter().take(shown).enumerate() {
            let how = match &hop.outcome {
                Some(Ok(())) => "ok".into(),
                Some(Err(why)) if !self.all && said.contains(why.as_str()) => "failed".into(),
                Some(Err(why)) => format!("failed: {}", clipped(why, self.all)),
                None if candidate.is_given_up(index) => "given up".into(),
                None => "under way".into(),
            };
            let detail = hop.detail.iter().map(|detail| format!(", {}", clipped(detail, self.all)));
            let (title, took) = (hop.title(self.all), in_parentheses(hop.took));
            let detail: String = detail.collect();
            self.wrapped(INDENT, INDENT + 3, &format!("{}. {title}: {how}{took}{detail}", index + 1))?;
        }
        self.more(candidate.hops.len().saturating_sub(shown), "step")
    }

    fn more(&mut self, count: usize, what: &str) -> fmt::Result {
        match count {
            0 => Ok(()),
            count => self.line(INDENT, &format!("… {}", counted(count, &format!("more {what}")))),
        }
    }

    /// What it came from: whatever values can be shown, near or far, and where its own arguments were bound.
    fn sources(&mut self, candidate: &Candidate, paths: &Paths) -> fmt::Result {
        let tells = |index: usize, read: &Read| match read.outcome {
            ReadOutcome::Value | ReadOutcome::Derived { .. } => {
                read.value.as_ref().is_some_and(|value| value != HIDDEN)
                    || (read.place().is_some() && candidate.needs.contains(&index))
            }
            _ => false,
        };
        let reads =
            paths.nearest_first.iter().filter_map(|&index| Some((index, self.report.reads.get(index)?)));
        let mut sources: Vec<_> =
            reads.filter(|(index, read)| tells(*index, read)).map(|(_, read)| read.source()).collect();
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

    /// What a plan would run, in that order.
    fn runs(&mut self, candidate: &Candidate, paths: &Paths) -> fmt::Result {
        let would_run = |&index: &usize| {
            self.report.reads.get(index).is_some_and(|read| read.outcome == ReadOutcome::WouldRun)
        };
        let reads = &self.report.reads;
        let mut runs: Vec<_> = paths.in_order(candidate, reads).into_iter().filter(would_run).collect();
        let more = runs.len().saturating_sub(LINES);
        // The last ones are what the candidate itself wants.
        runs.drain(..more);
        let mut names: Vec<_> = runs.iter().filter_map(|&index| reads.get(index)).map(Read::source).collect();
        if more > 0 {
            names.insert(0, format!("… {} more", Count(more)));
        }
        match names.is_empty() {
            true => Ok(()),
            false => self.line(INDENT, &format!("derives {}", names.join(", then "))),
        }
    }

    /// The reads, near or far, that decided how the candidate ended, nearest first.
    fn culprits(
        &mut self,
        candidate: &Candidate,
        paths: &Paths,
        said: &str,
        hint: Option<&str>,
    ) -> fmt::Result {
        let guilty = |read: &Read| match candidate.outcome {
            Outcome::Absent(_) => matches!(read.outcome, ReadOutcome::Missing | ReadOutcome::Declined(_)),
            Outcome::Failed(_) => matches!(read.outcome, ReadOutcome::Failed(_) | ReadOutcome::Unfinished),
            Outcome::Cancelled => read.outcome == ReadOutcome::Unfinished,
            _ => false,
        };
        // Of a chain of failures the last says why; each decline speaks for itself.
        let passed_on = |read: &Read| {
            matches!(read.outcome, ReadOutcome::Failed(_) | ReadOutcome::Missing)
                && read.needs.iter().filter_map(|&need| self.report.reads.get(need)).any(guilty)
        };
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
        match found.len().saturating_sub(LINES) {
            0 => Ok(()),
            more => self.line(INDENT, &format!("… {} like these", counted(more, "more read"))),
        }
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
            more => self.line(0, &format!("… {}", counted(more, "more note"))),
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
