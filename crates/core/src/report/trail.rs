//! What was read, in words, and by which way it was come to.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use super::words::{Count, clipped, in_parentheses, safe};
use super::{Candidate, Place, Read, ReadOutcome};
use crate::key::HIDDEN;

impl Read {
    pub(super) fn place(&self) -> Option<&Place> {
        self.binding.as_ref().filter(|place| place.is_known())
    }

    /// `ip = ::1 (src/main.rs:14)`.
    pub(super) fn source(&self) -> String {
        let mut source = safe(self.key).to_string();
        if let Some(value) = &self.value {
            let _ = write!(source, " = {}", clipped(value, false));
        }
        if let Some(place) = self.place() {
            let _ = write!(source, " ({place})");
        }
        source
    }

    /// `ip from host = db.internal, net = this machine`: with what it was made of, as far as that is shown.
    pub(super) fn origin(&self, reads: &[Self]) -> String {
        let values = self.needs.iter().filter_map(|&need| reads.get(need)).filter_map(|need| {
            let value = need.value.as_ref().filter(|value| *value != HIDDEN)?;
            Some(format!("{} = {}", safe(need.key), clipped(value, false)))
        });
        match values.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => safe(self.key).to_string(),
            values => format!("{} from {values}", safe(self.key)),
        }
    }

    /// What came of it, as a line. A reason that was `said` before is not said again.
    pub(super) fn story(&self, said: &str, all: bool) -> String {
        let key = safe(self.key);
        let at = self.place().map(|place| format!(" at {place}")).unwrap_or_default();
        let value =
            self.value.as_ref().map(|value| format!(" = {}", clipped(value, all))).unwrap_or_default();
        let took = in_parentheses(self.took);
        let because = |why: &str| match !said.is_empty() && said.contains(why) {
            true => String::new(),
            false => format!(": {}", clipped(why, all)),
        };
        match &self.outcome {
            ReadOutcome::Value => format!("{key}{value}: bound{at}"),
            ReadOutcome::Derived { of: 0 | 1, .. } => format!("{key}{value}: derived{at}{took}"),
            ReadOutcome::Derived { choice, of } => {
                let choice = Count(choice.saturating_add(1));
                format!("{key}{value}: derived{at}{took}, {choice} of {}", Count(*of))
            }
            ReadOutcome::Missing => match &self.binding {
                Some(place) if place.is_known() => {
                    format!("missing: {key}, which {place} would have supplied")
                }
                Some(_) => format!("missing: {key}"),
                // Most that is not bound is not missed.
                None if all => format!("{key}: not bound"),
                None => format!("missing: {key}, nothing is bound to it"),
            },
            ReadOutcome::Declined(why) => format!("declined: {key}{at}{took}{}", because(why)),
            ReadOutcome::Failed(cause) => format!("failed: {key}{at}{took}{}", because(&cause.what)),
            ReadOutcome::Unfinished => format!("unfinished: {key}{at}{took}"),
            ReadOutcome::WouldRun => format!("would derive: {key}{at}"),
        }
    }
}

/// Whatever a candidate reads, directly or not, and by which way.
pub(super) struct Paths {
    pub(super) nearest_first: Vec<usize>,
    /// Who first wanted each read; itself if the candidate did.
    wanted_by: Vec<usize>,
}

impl Paths {
    pub(super) fn from(candidate: &Candidate, reads: &[Read]) -> Self {
        let mut paths = Self { nearest_first: Vec::new(), wanted_by: vec![usize::MAX; reads.len()] };
        let mut queue: VecDeque<_> = candidate.needs.iter().map(|&need| (need, need)).collect();
        while let Some((index, by)) = queue.pop_front() {
            let (Some(read), Some(wanted_by)) = (reads.get(index), paths.wanted_by.get_mut(index)) else {
                continue;
            };
            if *wanted_by != usize::MAX {
                continue;
            }
            *wanted_by = by;
            paths.nearest_first.push(index);
            queue.extend(read.needs.iter().map(|&need| (need, index)));
        }
        paths
    }

    /// The same, each after what it needs: in the order in which they are had.
    pub(super) fn in_order(&self, candidate: &Candidate, reads: &[Read]) -> Vec<usize> {
        let mut order = Vec::new();
        let mut met = vec![false; reads.len()];
        // With which of its needs is next.
        let mut open: Vec<(Option<usize>, &[usize])> = vec![(None, &candidate.needs)];
        while let Some((at, needs)) = open.last_mut() {
            let Some((&need, rest)) = needs.split_first() else {
                order.extend(*at);
                open.pop();
                continue;
            };
            *needs = rest;
            if let (Some(read), Some(met @ false)) = (reads.get(need), met.get_mut(need)) {
                *met = true;
                open.push((Some(need), &read.needs));
            }
        }
        order
    }

    /// `, for tls-config (src/a.rs:5), for …`: who wanted it, up to what the candidate itself wants.
    pub(super) fn wanted_by(&self, index: usize, reads: &[Read]) -> String {
        let mut chain = Vec::new();
        let mut at = index;
        while let Some(&by) = self.wanted_by.get(at).filter(|&&by| by != at) {
            chain.extend(reads.get(by));
            at = by;
        }
        let name = |read: &&Read| format!(", for {}", read.source());
        if let [first, second, middle @ .., last] = chain.as_slice()
            && middle.len() > 1
        {
            return format!("{}{}, … {} more{}", name(first), name(second), Count(middle.len()), name(last));
        }
        let names: Vec<_> = chain.iter().map(name).collect();
        names.concat()
    }
}
