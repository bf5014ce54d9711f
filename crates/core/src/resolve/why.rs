//! Why something was not had: from what is known, down to where it began.

use alloc::format;
use alloc::string::{String, ToString};
use core::error::Error;
use core::fmt::{self, Write};

use super::memo::{Found, Known, Need, State};
use super::record::shown;
use crate::connect::write_chain;
use crate::context::Binding;
use crate::derive::Stop;
use crate::report::{Cause, ReadOutcome};
use crate::{ConnectError, ConnectErrorKind, KeyRef};

/// How many keys of a cycle are named.
const NAMED: usize = 12;

impl Known {
    pub(super) fn read_outcome(&self, outcome: u32, choice: u32) -> ReadOutcome {
        match &self.outcomes[outcome as usize].state {
            State::Running | State::Retry => ReadOutcome::Unfinished,
            State::WouldRun => ReadOutcome::WouldRun,
            State::One(_) => ReadOutcome::Derived { choice: 0, of: 1 },
            State::Many(many) => match many.values.get(choice as usize) {
                Some(Ok(_)) => ReadOutcome::Derived { choice: choice as usize, of: many.values.len() },
                Some(Err(Stop::Decline(why))) => ReadOutcome::Declined(why.to_string()),
                Some(Err(Stop::Fail(error))) => ReadOutcome::Failed(cause(&**error)),
                None => ReadOutcome::Unfinished,
            },
            State::Failed(error) => ReadOutcome::Failed(cause(&**error)),
            // Why a need was not had is said by its own row: to say it again in each row above would
            // be quadratic.
            State::Missing | State::NeedFailed => match self.needs_of(outcome).next() {
                Some(need) if self.examined(need).next().is_some() => match need.found {
                    Found::Failed(..) => ReadOutcome::Failed(Cause::new(format!("`{}` failed", need.key))),
                    _ => ReadOutcome::Declined(format!("`{}` is missing", need.key)),
                },
                _ => ReadOutcome::Declined(self.why_absent(Some(outcome)).what),
            },
            State::Declined(_) | State::Unequal => ReadOutcome::Declined(self.why_absent(Some(outcome)).what),
            State::Cycle(_) => ReadOutcome::Failed(self.why(outcome)),
        }
    }

    /// Why the derivation gave nothing, though it did not fail.
    pub(super) fn why_absent(&self, outcome: Option<u32>) -> Cause {
        let Some(outcome) = outcome else { return Cause::new("nothing is bound") };
        let last = self.needs_of(outcome).next();
        match (&self.outcomes[outcome as usize].state, last) {
            (State::Declined(why), _) => Cause::new(&**why),
            (State::Many(_), _) => Cause::new("this choice was declined"),
            (State::Unequal, Some(need)) => {
                let wanted = match &self.ctx.entry(self.outcomes[outcome as usize].entry).binding {
                    Binding::Derivation(derivation) => derivation.wanted(self.needs_of(outcome).count() - 1),
                    _ => None,
                };
                let mut what = format!("`{}` is not {}", need.key, wanted.as_deref().unwrap_or("as wanted"));
                if let Some(is) = self.value(need.found).and_then(|value| shown(need.key, value)) {
                    let _ = write!(what, ", but {is}");
                }
                Cause::new(what)
            }
            (State::Missing, Some(need)) => match self.examined(need).next() {
                None => Cause {
                    what: format!("`{}` is missing: nothing is bound to it", need.key),
                    hint: Some(format!("bind `{}`, with a value or a derivation", need.key)),
                },
                Some(oldest) => self.why_all_declined(need.key, oldest),
            },
            _ => Cause::new("absent"),
        }
    }

    /// Why no binding of `key` gave anything: down to where something was declined or is missing.
    pub(super) fn why_all_declined(&self, key: KeyRef, mut outcome: u32) -> Cause {
        let mut what = format!("`{key}` is missing");
        loop {
            let next = match (&self.outcomes[outcome as usize].state, self.needs_of(outcome).next()) {
                (State::Missing, Some(need)) => self.examined(need).next(),
                _ => None,
            };
            match next {
                Some(next) => outcome = next,
                None => break,
            }
        }
        let entry = self.ctx.entry(self.outcomes[outcome as usize].entry);
        let cause = self.why_absent(Some(outcome));
        let _ = write!(what, ": `{}` declined: {}", entry.key, cause.what);
        Cause { what, hint: cause.hint }
    }

    pub(super) fn why_failed(&self, found: Found) -> Cause {
        match found {
            Found::Failed(outcome, _) => self.why(outcome),
            _ => Cause::new("failed"),
        }
    }

    /// Why the derivation failed: down to where it began.
    pub(super) fn why(&self, outcome: u32) -> Cause {
        let bottom = self.bottom(outcome);
        let made = &self.outcomes[bottom as usize];
        let key = self.ctx.entry(made.entry).key;
        match (self.error(bottom), &made.state) {
            // Whoever makes a `ConnectError` says what failed.
            (Some(error), _) if error.is::<ConnectError>() => cause(error),
            (Some(error), _) => cause(error).of(key),
            (None, State::Cycle(path)) => {
                let cycle = Cause {
                    what: format!("cycle: {}", Path(path)),
                    hint: Some(
                        "bind one of these keys to a value, or take it out of the others' arguments".into(),
                    ),
                };
                if bottom == outcome { cycle } else { cycle.of(key) }
            }
            (None, _) => Cause::new("failed").of(key),
        }
    }

    /// The outcome that made `outcome` fail.
    pub(super) fn bottom(&self, mut outcome: u32) -> u32 {
        loop {
            match (&self.outcomes[outcome as usize].state, self.needs_of(outcome).next()) {
                (State::NeedFailed, Some(Need { found: Found::Failed(below, _), .. })) => outcome = *below,
                _ => return outcome,
            }
        }
    }

    /// The error that made the root fail, if it was one.
    pub(super) fn cause(&self, found: Found) -> Option<&(dyn Error + 'static)> {
        let Found::Failed(outcome, _) = found else { return None };
        self.error(self.bottom(outcome))
    }

    /// The error that this derivation failed with, if it was one.
    fn error(&self, outcome: u32) -> Option<&(dyn Error + 'static)> {
        match &self.outcomes[outcome as usize].state {
            State::Failed(error) => Some(&**error as _),
            State::Many(many) => many.values.iter().find_map(|value| match value {
                Err(Stop::Fail(error)) => Some(&**error as _),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Whether this failed because a peer is not, or does not accept, who it should.
    pub(super) fn is_refuted(&self, found: Found) -> bool {
        let Some(error) = self.cause(found) else { return false };
        let kind = error.downcast_ref().map(ConnectError::kind);
        kind.or_else(|| error.downcast_ref().map(super::Error::kind)).is_some_and(ConnectErrorKind::is_final)
    }

    /// The failure of a lookup, as an error.
    pub(super) fn failure(&self, root: &Need) -> ConnectError {
        let kind = self.cause(root.found).and_then(|error| error.downcast_ref()).map(ConnectError::kind);
        let why = self.why_failed(root.found);
        let error = ConnectError::new(
            kind.unwrap_or(ConnectErrorKind::Other),
            format!("`{}` could not be had: {}", root.key, why.what),
        );
        match why.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl Cause {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// The same, of a derivation of `key`.
    fn of(self, key: KeyRef) -> Self {
        Self { what: format!("`{key}`: {}", self.what), hint: self.hint }
    }
}

/// `error` with its causes, and the first hint among them.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> Cause {
    let mut what = String::new();
    let _ = write_chain(error, &mut what);
    let mut hint = None;
    let mut next = Some(error);
    while let (Some(error), None) = (next, &hint) {
        hint = error.downcast_ref().and_then(ConnectError::hint).map(ToString::to_string);
        next = error.source();
    }
    Cause { what, hint }
}

/// A cycle, its middle left out if it is long.
struct Path<'a>(&'a [KeyRef]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.0.len().saturating_sub(NAMED);
        for (i, key) in self.0.iter().enumerate() {
            match i {
                0 => write!(f, "{key}")?,
                _ if left_out == 0 || i < NAMED / 2 || i >= NAMED / 2 + left_out => write!(f, " → {key}")?,
                _ if i == NAMED / 2 => write!(f, " → … {left_out} more …")?,
                _ => {}
            }
        }
        Ok(())
    }
}
