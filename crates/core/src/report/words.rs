//! The words that all renderings share: escaped texts, times, counts, outcomes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::time::Duration;

use super::trail::Paths;
use super::{Candidate, Cause, Hop, Outcome, Place, Read, ReadOutcome, Report};

/// How much of one text is shown where not all is asked for, in characters.
pub(super) const CLIP: usize = 400;

/// A text that can't be anything but one line of text, wherever it came from: control
/// characters, line ends and what reorders or hides text are escaped.
pub(super) struct Safe<'a> {
    pub(super) text: &'a str,
    pub(super) max: usize,
}

impl fmt::Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.text.chars();
        for c in chars.by_ref().take(self.max) {
            if disturbs(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        match chars.count() {
            0 => Ok(()),
            more => write!(f, "… {} more characters", Count(more)),
        }
    }
}

/// All of `text`, as the renderings here show it: control characters, and what hides or reorders
/// text, are escaped. For a rendering of one's own.
pub fn safe(text: &str) -> impl fmt::Display {
    Safe { text, max: usize::MAX }
}

/// A time in the unit that suits it, as the renderings here show it: `213 µs`, `4.2 ms`, `5 s`.
pub fn took(time: Duration) -> impl fmt::Display {
    Took(time)
}

/// As much of `text` as reads well, or all of it.
pub(super) fn clipped(text: &str, all: bool) -> Safe<'_> {
    Safe { text, max: if all { usize::MAX } else { CLIP } }
}

/// Controls (C0, DEL, C1: a terminal may take U+009B for an escape sequence), and the invisible
/// characters that break, hide or reorder a line (Unicode UAX 9).
fn disturbs(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A time in the unit that suits it, cut off rather than rounded: `213 µs`, `4.2 ms`, `5 s`.
pub(super) struct Took(pub(super) Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, micros) = (self.0.as_secs(), self.0.subsec_micros());
        let tenths = |f: &mut fmt::Formatter<'_>, whole: u64, tenth: u32, unit| match tenth {
            0 => write!(f, "{whole} {unit}"),
            _ => write!(f, "{whole}.{tenth} {unit}"),
        };
        match (secs, micros) {
            (0, 0) => f.write_str("< 1 µs"),
            (0, 1..=99) => write!(f, "{micros} µs"),
            (0, 100..=99_999) => tenths(f, u64::from(micros / 1_000), micros / 100 % 10, "ms"),
            (0, _) => write!(f, "{} ms", micros / 1_000),
            (1..=59, _) => tenths(f, secs, micros / 100_000, "s"),
            (60..=3_599, _) => write!(f, "{} min {} s", secs / 60, secs % 60),
            _ => write!(f, "{} h {} min", secs / 3_600, secs / 60 % 60),
        }
    }
}

/// ` (4.2 ms)`, if the time is known.
pub(super) fn in_parentheses(took: Option<Duration>) -> String {
    took.map(|took| format!(" ({})", Took(took))).unwrap_or_default()
}

/// A number with its thousands set apart: `99,990`.
pub(super) struct Count(pub(super) usize);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// `1 candidate`, `1,000 candidates`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{} {what}{}", Count(count), if count == 1 { "" } else { "s" })
}

/// `a`, `a and b`, `a, b and 998 more`.
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [first, second] => format!("{first} and {second}"),
        [first, second, third] => format!("{first}, {second} and {third}"),
        [first, second, more @ ..] => format!("{first}, {second} and {} more", Count(more.len())),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", safe(self.file), self.line)
    }
}

impl Outcome {
    /// Why, in its own words, and what to do about it.
    pub(super) fn cause(&self) -> Option<(&str, Option<&str>)> {
        match self {
            Self::Absent(Cause { what, hint })
            | Self::Failed(Cause { what, hint })
            | Self::Refused(Cause { what, hint }) => Some((what, hint.as_deref())),
            Self::Connected | Self::Cancelled | Self::NotTried | Self::WouldConnect | Self::WouldDerive => {
                None
            }
        }
    }

    /// What matters most to somebody who asks why there is no connection, first.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Connected | Self::WouldConnect | Self::WouldDerive => 0,
            Self::Failed(_) => 1,
            Self::Cancelled => 2,
            Self::Refused(_) => 3,
            Self::Absent(_) => 4,
            Self::NotTried => 5,
        }
    }
}

impl Candidate {
    /// `tcp [::1]:4343`, or the key alone where there is no endpoint.
    pub(super) fn name(&self) -> String {
        let mut name = safe(self.key).to_string();
        if let Some(endpoint) = &self.endpoint {
            let _ = write!(name, " {}", clipped(endpoint, false));
        }
        name
    }

    /// Where its endpoint is, without what else there is to say of it: `[::1]:4343` of `[::1]:4343 as localhost`.
    pub(super) fn address(&self) -> Option<&str> {
        self.endpoint.as_deref()?.split(' ').next().filter(|address| !address.is_empty())
    }

    /// How it ended, and when.
    pub(super) fn ending(&self, report: &Report) -> String {
        let after = |what: &str, preposition: &str| match self.took {
            Some(took) => format!("{what} {preposition} {}", Took(took)),
            None => what.into(),
        };
        match self.outcome {
            Outcome::Connected => after("connected", "in"),
            Outcome::Failed(_) => after("failed", "after"),
            Outcome::Cancelled if report.winner.is_some() => after("cancelled", "after"),
            Outcome::Cancelled => after("cut off", "after"),
            Outcome::Absent(_) => "not available".into(),
            Outcome::Refused(_) => "forbidden".into(),
            Outcome::NotTried => "not tried".into(),
            Outcome::WouldConnect => "would connect".into(),
            Outcome::WouldDerive => "would derive, then connect".into(),
        }
    }

    /// What it was busy with when it was cut off, and for how long if that is known.
    pub(crate) fn under_way(&self, reads: &[Read]) -> Option<(String, Option<Duration>)> {
        let busy = |(step, hop): &(usize, &Hop)| hop.outcome.is_none() && !self.is_given_up(*step);
        let hop = self.hops.iter().enumerate().rfind(busy);
        let hop = hop.map(|(_, hop)| (format!("at {}", hop.title(false)), hop.took));
        let reading = || {
            let near = Paths::from(self, reads).nearest_first;
            let mut near = near.iter().filter_map(|&index| reads.get(index));
            let read = near.find(|read| read.outcome == ReadOutcome::Unfinished)?;
            Some((format!("while deriving {}", read.origin(reads)), None))
        };
        let after = || Some((format!("after {}", self.hops.last()?.title(false)), None));
        hop.or_else(reading).or_else(after)
    }
}

impl Candidate {
    /// Whether a step that did not end lost against another, by which the way went on.
    pub(super) fn is_given_up(&self, step: usize) -> bool {
        self.hops.iter().skip(step).any(|hop| hop.outcome == Some(Ok(())))
    }
}

impl Hop {
    /// `tcp [::1]:4343`.
    pub(crate) fn title(&self, all: bool) -> String {
        let mut title = clipped(&self.name, all).to_string();
        if !self.address.is_empty() {
            let _ = write!(title, " {}", clipped(&self.address, all));
        }
        title
    }
}

impl Report {
    /// The first line: what came of it.
    pub(super) fn headline(&self) -> String {
        let (count, took) = (self.candidates.len(), in_parentheses(self.took));
        let winner = self.winner.and_then(|index| Some((index, self.candidates.get(index)?)));
        match winner {
            _ if self.planned && count == 0 => "nothing would be tried".into(),
            _ if self.planned => match self.candidates.iter().filter(|it| it.outcome.rank() == 0).count() {
                all if all == count => format!("would try {}; nothing was run", counted(count, "candidate")),
                some => {
                    format!("would try {} of {}; nothing was run", Count(some), counted(count, "candidate"))
                }
            },
            Some((_, winner)) if count == 1 => format!("connected: {}{took}", winner.name()),
            Some((index, winner)) => {
                format!("connected: {}, candidate {} of {}{took}", winner.name(), index + 1, Count(count))
            }
            None if count == 0 => format!("could not connect{took}"),
            None => format!("could not connect: {}{took}", self.tally()),
        }
    }

    /// `2 candidates failed, 1 forbidden`.
    fn tally(&self) -> String {
        let kinds = ["connected", "failed", "cut off", "forbidden", "not available", "not tried"];
        let mut tally = String::new();
        for (rank, kind) in kinds.into_iter().enumerate() {
            let count = self.candidates.iter().filter(|it| usize::from(it.outcome.rank()) == rank).count();
            let _ = match (count, tally.is_empty()) {
                (0, _) => Ok(()),
                (_, true) => write!(tally, "{} {kind}", counted(count, "candidate")),
                (_, false) => write!(tally, ", {} {kind}", Count(count)),
            };
        }
        tally
    }

    /// Why there is not even a candidate, and what to do, line by line.
    pub(super) fn nothing(&self) -> Vec<String> {
        let unbound = self.reads.iter().filter(|read| read.outcome == ReadOutcome::Missing);
        let mut lines: Vec<_> = unbound
            .take(8)
            .map(|it| format!("`{}` is offered, but nothing is bound to it", safe(it.key)))
            .collect();
        let todo = if lines.is_empty() {
            lines.push("the context offers no endpoint".into());
            "what to do: offer an endpoint key (`offer`), and bind it to a value (`with`) or derive it (`derive`)"
        } else {
            "what to do: bind it to a value (`with`), or derive it (`derive`)"
        };
        lines.push(todo.into());
        lines
    }

    /// The candidates, as indices. Those that ended alike (same key, binding and cause, wherever
    /// they were going) are together if there are more than `apart`, those never tried always.
    pub(super) fn alike(&self, apart: usize) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut known = BTreeMap::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let untried = candidate.outcome == Outcome::NotTried;
            // Of one that was cut off it matters where.
            let apart = if candidate.outcome == Outcome::Cancelled { apart.max(4) } else { apart };
            if !untried && self.candidates.len() <= apart {
                groups.push([index].into());
                continue;
            }
            // An error often names the address, which differs where all else is alike.
            let what = candidate.outcome.cause().map(|(what, _)| match candidate.address() {
                Some(address) => what.replace(address, ""),
                None => what.into(),
            });
            let place = (candidate.key, candidate.binding.file, candidate.binding.line);
            let alike = (candidate.outcome.rank(), (!untried).then_some(place), what);
            let group = *known.entry(alike).or_insert(groups.len());
            match groups.get_mut(group) {
                Some(group) => group.push(index),
                None => groups.push([index].into()),
            }
        }
        // Never tried, so last in the order of trying.
        groups.sort_by_key(|group| {
            group
                .first()
                .and_then(|&it| self.candidates.get(it))
                .is_some_and(|it| it.outcome == Outcome::NotTried)
        });
        groups
    }
}
