//! What a resolution leaves behind, and the report made of it when somebody asks.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::time::Duration;

use super::candidate::{Attempt, AttemptState, Root, Turn};
use super::control_keys;
use super::memo::{Found, Known, Need};
use super::reads::{Gathered, Reads};
use super::why::cause;
use crate::connect::Trace;
use crate::context::{Binding, Context, Entry, Offer};
use crate::few::Few;
use crate::index::Index;
use crate::policy::refusal_hint;
use crate::protocol::Value;
use crate::report::{Candidate, Cause, Outcome, Place, Read, ReadOutcome, Report};
use crate::{ConnectError, ConnectErrorKind, Instant, KeyRef};

pub(super) struct Record {
    pub(super) known: Known,
    pub(super) roots: Vec<Root>,
    pub(super) attempts: Few<Attempt, 1>,
    pub(super) trace: Option<Box<Trace>>,
    pub(super) winner: Option<u32>,
    /// The attempt whose failure ended the resolution.
    pub(super) decided: Option<u32>,
    /// Why it could not begin, or what could not be had.
    pub(super) setup: Option<ConnectError>,
    pub(super) planned: bool,
    pub(super) deadline_passed: bool,
    /// Roots with more choices than are tried.
    pub(super) over_limit: Vec<u32>,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) clock: bool,
}

impl Record {
    pub(super) fn new(ctx: Context) -> Self {
        Self {
            known: Known::new(ctx),
            roots: Vec::new(),
            attempts: Few::new(),
            trace: None,
            winner: None,
            decided: None,
            setup: None,
            planned: false,
            deadline_passed: false,
            over_limit: Vec::new(),
            began: Instant::default(),
            ended: Instant::default(),
            clock: false,
        }
    }

    /// Of a context that can't be resolved at all.
    pub(super) fn setup(ctx: &Context, error: ConnectError) -> Self {
        Self { setup: Some(error), ..Self::new(ctx.clone()) }
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    pub(super) fn offer(&self, root: u32) -> &Offer {
        &self.known().ctx.offers()[self.roots[root as usize].offer as usize]
    }

    pub(super) fn winner_value(&self, key: KeyRef) -> Option<&Value> {
        let winner = &self.attempts[self.winner? as usize];
        if self.offer(winner.root).key() == key {
            return self.known().value(winner.found);
        }
        let mut value = None;
        self.known().visit(self.last_need(winner), |need| {
            if need.key == key && value.is_none() {
                value = self.known().value(need.found);
            }
        });
        value
    }

    /// What the attempt's root needs.
    fn last_need(&self, attempt: &Attempt) -> u32 {
        attempt.outcome.map_or(u32::MAX, |outcome| self.known().last_need(outcome))
    }

    pub(super) fn reads(&self) -> Reads {
        let mut reads = Gathered::default();
        let ctx = &self.known().ctx;
        for key in control_keys() {
            reads.add(ctx, key, usize::MAX);
        }
        // Whatever else is offered might have come first, so all of it decided.
        for offer in ctx.offers().iter() {
            reads.add(ctx, offer.key(), usize::MAX);
        }
        for attempt in self.attempts.iter() {
            self.known().add_reads(self.last_need(attempt), &mut reads);
            if let Some(outcome) = attempt.outcome {
                self.known().add_shared_reads(outcome, &mut reads);
            }
        }
        for &key in self.trace.iter().flat_map(|trace| &trace.reads) {
            reads.add(ctx, key, 1);
        }
        reads.finish()
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        let decided = self.decided.map(|id| &self.attempts[id as usize]);
        let others = self.attempts.iter().enumerate().filter(|(id, _)| Some(*id as u32) != self.decided);
        let attempts = decided.into_iter().chain(others.map(|(_, attempt)| attempt));
        let setup = self.setup.iter().map(|error| error as &(dyn Error + 'static));
        setup.chain(attempts.filter_map(|attempt| match &attempt.state {
            AttemptState::Failed(error) => Some(error as &(dyn Error + 'static)),
            AttemptState::NoEndpoint => self.known().cause(attempt.found),
            _ => None,
        }))
    }

    pub(super) fn kind(&self) -> ConnectErrorKind {
        let kind = |error: &(dyn Error + 'static)| error.downcast_ref().map(ConnectError::kind);
        if let Some(kind) = self.errors().find_map(kind) {
            return kind;
        }
        let state =
            |wanted: fn(&AttemptState) -> bool| self.attempts.iter().any(|attempt| wanted(&attempt.state));
        if self.deadline_passed || state(|state| matches!(state, AttemptState::Expired(_))) {
            ConnectErrorKind::TimedOut
        } else if state(|state| matches!(state, AttemptState::Refused(_))) {
            ConnectErrorKind::Policy
        } else if self.errors().next().is_some() {
            ConnectErrorKind::Other
        } else {
            ConnectErrorKind::Misuse
        }
    }

    pub(super) fn setup_cause(&self) -> Option<Cause> {
        self.setup.as_ref().map(|error| cause(error))
    }

    pub(super) fn report(&self) -> Report {
        let mut rows = Rows {
            known: self.known(),
            reads: Vec::new(),
            outcomes: Index::default(),
            values: Index::default(),
            missing: Index::default(),
        };
        let mut candidates: Vec<Candidate> = (0..)
            .zip(self.attempts.iter())
            .map(|(id, attempt)| self.candidate(id, attempt, &mut rows))
            .collect();
        for (candidate, attempt) in candidates.iter_mut().zip(self.attempts.iter()) {
            let allowed = match attempt.state {
                AttemptState::Expired(allowed) => Some(allowed),
                AttemptState::UnderWay if self.deadline_passed => None,
                _ => continue,
            };
            candidate.outcome = Outcome::Failed(late(allowed, candidate, &rows.reads));
        }
        for (number, root) in self.roots.iter().enumerate() {
            if root.turn == Turn::NotYet && !self.planned {
                candidates.push(self.blank(number as u32, Outcome::NotTried));
            }
        }
        let notes = self.notes(&candidates, &rows.reads);
        let mut report = Report {
            planned: self.planned,
            winner: self.winner.map(|id| id as usize),
            candidates,
            reads: rows.reads,
            notes,
            took: self.clock.then(|| self.ended.since(self.began)),
        };
        if let Some(why) = self.setup_cause() {
            report.notes.insert(0, why.what);
            report.notes.extend(why.hint);
        }
        report
    }

    fn blank(&self, root: u32, outcome: Outcome) -> Candidate {
        let offer = self.offer(root);
        let entry = self.known().ctx.entry(self.roots[root as usize].entry);
        Candidate {
            key: offer.key().name(),
            priority: offer.priority,
            protection: offer.endpoint.declared_protection(),
            binding: place(entry),
            endpoint: match &entry.binding {
                Binding::Value(value) => Some(describe(offer, value)),
                _ => None,
            },
            outcome,
            needs: Vec::new(),
            hops: Vec::new(),
            started: None,
            took: None,
        }
    }

    fn candidate(&self, id: u32, attempt: &Attempt, rows: &mut Rows<'_>) -> Candidate {
        let found = attempt.found;
        let hops = self.trace.as_ref().map(|trace| trace.way(id, self.began, self.ended)).unwrap_or_default();
        let outcome = match &attempt.state {
            AttemptState::Connected => Outcome::Connected,
            AttemptState::Failed(error) => Outcome::Failed(cause(error)),
            AttemptState::Refused(why) => {
                Outcome::Refused(Cause { what: why.to_string(), hint: Some(refusal_hint(why).into()) })
            }
            AttemptState::UnderWay | AttemptState::Expired(_) => Outcome::Cancelled,
            AttemptState::Parked => Outcome::NotTried,
            AttemptState::NoEndpoint => match found {
                Found::Value(_) | Found::Derived(..) => Outcome::WouldConnect,
                Found::Maybe(_) => Outcome::WouldDerive,
                Found::Absent => Outcome::Absent(self.known().why_absent(attempt.outcome)),
                Found::Failed(..) => Outcome::Failed(self.known().why_failed(attempt.found)),
            },
        };
        let offer = self.offer(attempt.root);
        let endpoint = self.known().value(found).map(|value| describe(offer, value));
        let needs = rows.of(self.last_need(attempt));
        let took = attempt.took.unwrap_or_else(|| self.ended.since(attempt.started));
        let tried = self.clock && !matches!(attempt.state, AttemptState::Refused(_) | AttemptState::Parked);
        let base = self.blank(attempt.root, outcome);
        Candidate {
            endpoint: endpoint.or(base.endpoint),
            needs,
            hops,
            started: tried.then(|| attempt.started.since(self.began)),
            took: tried.then_some(took),
            ..base
        }
    }

    fn notes(&self, candidates: &[Candidate], reads: &[Read]) -> Vec<String> {
        let mut notes = Vec::new();
        let ctx = &self.known().ctx;
        // Also where it is a resolution further down that tells of it.
        let is_late = |it: &Candidate| matches!(&it.outcome, Outcome::Failed(why) if why.what.contains(LATE));
        if self.deadline_passed && !candidates.iter().any(is_late) {
            notes.push(format!("{LATE}, and nothing else was tried"));
        }
        if let Some(id) = self.decided
            && had_more_to_try(candidates, reads)
        {
            let key = self.offer(self.attempts[id as usize].root).key();
            notes.push(format!("verification or authentication failed (`{key}`), so nothing else was tried"));
        }
        for &root in &self.over_limit {
            notes.push(format!("`{}` has more choices than the 64 that are tried", self.offer(root).key()));
        }
        if !ctx.excluded().is_empty() {
            let names: Vec<&str> = ctx.excluded().iter().map(|key| key.name()).collect();
            notes.push(format!("not offered, because the context was restricted: {}", names.join(", ")));
        }
        for offer in ctx.offers().iter() {
            if ctx.bindings(offer.key()).next().is_none() {
                notes.push(format!("`{}` is offered, but nothing is bound to it", offer.key()));
            }
        }
        if self.planned {
            self.add_namesakes(&mut notes);
        }
        notes
    }

    /// Different keys of one name: usually two versions of a crate.
    fn add_namesakes(&self, notes: &mut Vec<String>) {
        let mut names: Vec<&str> = self.known().ctx.keys().iter().map(|key| key.name()).collect();
        names.sort_unstable();
        let mut said = "";
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            if said != pair[0] {
                said = pair[0];
                notes.push(format!("different keys are named `{said}`: two versions of a crate?"));
            }
        }
    }
}

/// Whether there were candidates whose turn never came, or was cut short.
fn had_more_to_try(candidates: &[Candidate], reads: &[Read]) -> bool {
    let left = |it: &Candidate| matches!(it.outcome, Outcome::NotTried | Outcome::Cancelled);
    // A value that was not even looked at is of a candidate that is not even known.
    let unread = |read: &Read| match read.outcome {
        ReadOutcome::Derived { of: of @ 2.., .. } => {
            let same = |other: &&Read| (other.key, &other.binding) == (read.key, &read.binding);
            reads.iter().filter(same).count() < of
        }
        _ => false,
    };
    candidates.iter().any(left) || reads.iter().any(unread)
}

/// The rows of a report, each made once.
struct Rows<'a> {
    known: &'a Known,
    reads: Vec<Read>,
    /// From an outcome and a choice to its row.
    outcomes: Index,
    /// From a binding to its row.
    values: Index,
    /// From a key to its row.
    missing: Index,
}

impl Rows<'_> {
    /// The rows of `needs`, with all that they need in turn.
    fn of(&mut self, last_need: u32) -> Vec<usize> {
        let mut left = Vec::new();
        let rows = self.rows(last_need, &mut left);
        while let Some((row, outcome)) = left.pop() {
            self.reads[row].needs = self.rows(self.known.last_need(outcome), &mut left);
        }
        rows
    }

    fn rows(&mut self, last_need: u32, left: &mut Vec<(usize, u32)>) -> Vec<usize> {
        let known = self.known;
        let mut needs: Vec<&Need> = known.needs_from(last_need).collect();
        needs.reverse();
        let mut rows = Vec::new();
        for need in needs {
            let mut examined: Vec<u32> = known.examined(need).collect();
            examined.reverse();
            for outcome in examined {
                let choice = match need.found {
                    Found::Derived(taken, choice) | Found::Failed(taken, choice) if taken == outcome => {
                        choice
                    }
                    _ => 0,
                };
                rows.push(self.outcome_row(need.key, outcome, choice, left));
            }
            match need.found {
                Found::Value(_) => rows.push(self.value_row(need)),
                Found::Absent if known.examined(need).next().is_none() => {
                    rows.push(self.missing_row(need.key))
                }
                _ => {}
            }
        }
        rows
    }

    fn outcome_row(&mut self, key: KeyRef, outcome: u32, choice: u32, left: &mut Vec<(usize, u32)>) -> usize {
        let address = (outcome as usize + 1) * 128 + choice.min(127) as usize;
        if let Some(row) = self.outcomes.get(address) {
            return row as usize;
        }
        let row = self.reads.len();
        self.outcomes.insert(address, row as u32);
        left.push((row, outcome));
        let value = self.known.value(Found::Derived(outcome, choice));
        let made = &self.known.outcomes[outcome as usize];
        let read = self.known.read_outcome(outcome, choice);
        let ran = read != ReadOutcome::WouldRun;
        self.reads.push(Read {
            key: key.name(),
            binding: Some(place(self.known.ctx.entry(made.entry))),
            outcome: read,
            value: value.and_then(|value| shown(key, value)),
            needs: Vec::new(),
            took: self.known.took(outcome).filter(|_| ran),
        });
        row
    }

    fn value_row(&mut self, need: &Need) -> usize {
        let Found::Value(entry) = need.found else { unreachable!("called for values") };
        let entry = self.known.ctx.entry(entry);
        let row = self.reads.len();
        if let Some(row) = self.values.get(entry.binding.identity()) {
            return row as usize;
        }
        self.values.insert(entry.binding.identity(), row as u32);
        self.reads.push(Read {
            key: need.key.name(),
            binding: Some(place(entry)),
            outcome: ReadOutcome::Value,
            value: self.known.value(need.found).and_then(|value| shown(need.key, value)),
            needs: Vec::new(),
            took: None,
        });
        row
    }

    fn missing_row(&mut self, key: KeyRef) -> usize {
        if let Some(row) = self.missing.get(key.address()) {
            return row as usize;
        }
        let row = self.reads.len();
        self.missing.insert(key.address(), row as u32);
        self.reads.push(Read {
            key: key.name(),
            binding: None,
            outcome: ReadOutcome::Missing,
            value: None,
            needs: Vec::new(),
            took: None,
        });
        row
    }
}

/// What a report shows of a value, if anything.
pub(super) fn shown(key: KeyRef, value: &Value) -> Option<String> {
    struct Shown<'a>(KeyRef, &'a Value, core::cell::Cell<bool>);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.2.set(self.0.show(&**self.1, f)?);
            Ok(())
        }
    }
    let shown = Shown(key, value, core::cell::Cell::new(false));
    let text = shown.to_string();
    shown.2.get().then_some(text)
}

const LATE: &str = "the deadline passed";

/// How an attempt ran out of time, that it was `allowed` or that all had: what it was busy with, and what to do about
/// that.
fn late(allowed: Option<Duration>, candidate: &Candidate, reads: &[Read]) -> Cause {
    let busy = match (candidate.under_way(reads), &candidate.endpoint) {
        (Some((busy, _)), _) => busy,
        (None, Some(endpoint)) => format!("at {} {endpoint}", candidate.key),
        (None, None) => format!("while deriving {}", candidate.key),
    };
    let reached = candidate.hops.iter().any(|hop| matches!(hop.outcome, Some(Ok(()))));
    let hint = match (&candidate.endpoint, reached) {
        (None, _) => "whoever was asked for it did not answer: is it up, and is its address right?",
        (Some(_), false) => "nothing answered: is it up, and is the address right?",
        (Some(_), true) => {
            "it was reached, but went no further: is that the right port, and the right protocol?"
        }
    };
    let (what, hint) = match allowed {
        None => (format!("{LATE}, {busy}"), hint.into()),
        Some(allowed) => (
            format!("timed out after {allowed:?}, {busy}"),
            format!("{hint} How long an attempt may take is `attempt-timeout`"),
        ),
    };
    Cause { what, hint: Some(hint) }
}

pub(super) fn describe(offer: &Offer, value: &Value) -> String {
    struct Described<'a>(&'a Offer, &'a Value);
    impl fmt::Display for Described<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.endpoint.describe(&**self.1, f)
        }
    }
    Described(offer, value).to_string()
}

fn place(entry: &Entry) -> Place {
    Place { file: entry.at.file(), line: entry.at.line() }
}
