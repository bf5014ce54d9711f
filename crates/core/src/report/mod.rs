//! What a resolution did, or would do: plain data, made when asked for, and its renderings.
//!
//! Text for people is `Display` ([`Report::summary`] for a few lines), [`Report::dot`] is for
//! Graphviz, and the feature `serde` serialises. Texts may come from a peer (a banner, the reason
//! in a certificate); all renderings escape control characters and what reorders text (bidirectional
//! overrides), so that no peer can write to somebody's terminal.
//!
//! # JSON
//!
//! All fields are always there, `null` where there is nothing; fields may be added, never renamed.
//! Times are milliseconds, as floats: `took_ms`, `started_ms`. Outcomes are flat: `outcome` is a
//! word, `cause` has `what` and `hint`. Candidates are in the order in which they were tried, the hops of each in the
//! order of the way, nearest to us first: a proxy's before those of what is reached through it, a transport's before
//! the handshakes over it. Those that failed, or were given up for another, are among them, as they were tried.
//!
//! ```json
//! {
//!   "planned": false, "winner": 0, "took_ms": 0.4,
//!   "candidates": [{
//!     "key": "tcp", "priority": 20, "protection": "clear",
//!     "binding": { "file": "src/main.rs", "line": 12 },
//!     "endpoint": "[::1]:4343", "outcome": "connected", "cause": null, "needs": [0],
//!     "hops": [{ "name": "tcp", "address": "127.0.0.1:1080", "outcome": "ok", "cause": null, "detail": null,
//!                "started_ms": 0.05, "took_ms": 0.213 },
//!              { "name": "socks5", "address": "127.0.0.1:1080 to [::1]:4343", "outcome": "ok", "cause": null,
//!                "detail": null, "started_ms": 0.27, "took_ms": 0.08 }],
//!     "started_ms": 0.0, "took_ms": 0.3
//!   }],
//!   "reads": [{
//!     "key": "port", "binding": { "file": "src/main.rs", "line": 9 },
//!     "outcome": "value", "cause": null, "choice": null, "of": null,
//!     "value": "4343", "needs": [], "took_ms": null
//!   }],
//!   "notes": []
//! }
//! ```
//!
//! `outcome` of a candidate: `connected`, `absent`, `failed`, `refused`, `cancelled`, `not-tried`,
//! `would-connect`, `would-derive`; of a read: `value`, `derived`, `missing`, `declined`, `failed`,
//! `unfinished`, `would-run`; of a hop: `ok`, `failed`, `unfinished`.

mod dot;
#[cfg(feature = "serde")]
mod json;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod trail;
mod words;

pub(crate) use words::listed;
pub use words::{safe, took};

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::resolve::cause;
use crate::{ConnectError, Protection};

/// What a resolution did, or, from [`Context::plan`](crate::Context::plan), would do.
///
/// `Display` is for people: one block per candidate, in the order tried. It says what went wrong, the steps of
/// the way in the order in which bytes go it, and where each value came from, and sums up many candidates that ended
/// alike; `{:#}` lists all candidates, hops and reads. A width (`{:100}`) wraps lines at so many columns. [`summary`](Self::summary) is the few lines for an error message,
/// [`dot`](Self::dot) is for Graphviz; with the feature `serde` it serialises (see [`report`](self) for
/// the JSON). Values of keys marked sensitive are in none of them.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// Whether this is a plan: nothing was run or connected.
    pub planned: bool,
    /// Which candidate won, if one did: an index into `candidates`.
    pub winner: Option<usize>,
    /// In the order in which they were, or would be, tried.
    pub candidates: Vec<Candidate>,
    /// What the candidates read or tried to read, each once; candidates point into it. An offered
    /// key that nothing is bound to has no candidate, and is here alone, as [`ReadOutcome::Missing`].
    pub reads: Vec<Read>,
    /// What else is worth knowing: excluded offers, keys of the same name, choices over the limit.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::texts"))]
    pub notes: Vec<String>,
    /// How long all of it took, if the context has a clock.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", serialize_with = "json::millis"))]
    pub took: Option<Duration>,
}

impl Report {
    /// The same, where the winner turned out to be of no use once it was connected: its last step failed after all.
    pub fn refuted(mut self, why: &ConnectError) -> Self {
        if let Some(winner) = self.winner.take().and_then(|winner| self.candidates.get_mut(winner)) {
            let cause = cause(why);
            if let Some(last) = winner.hops.last_mut() {
                (last.outcome, last.detail) = (Some(Err(cause.what.clone())), None);
            }
            winner.outcome = Outcome::Failed(cause);
        }
        self
    }

    /// A plan, of which it is known that the way is forbidden from where no plan sees: a hop, say.
    pub fn refused(mut self, why: &ConnectError) -> Self {
        for candidate in &mut self.candidates {
            if matches!(candidate.outcome, Outcome::WouldConnect | Outcome::WouldDerive) {
                candidate.outcome = Outcome::Refused(cause(why));
            }
        }
        self
    }

    /// The same, without the source lines of bindings: for a program whose users don't know its source.
    pub fn without_places(mut self) -> Self {
        for candidate in &mut self.candidates {
            candidate.binding = Place::UNKNOWN;
        }
        for place in self.reads.iter_mut().filter_map(|read| read.binding.as_mut()) {
            *place = Place::UNKNOWN;
        }
        self
    }
}

/// One candidate: a binding of an offered endpoint key, with one choice fixed for each
/// many-valued derivation that it depends on.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Candidate {
    /// The endpoint key.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub key: &'static str,
    /// Its priority; lower is first, `None` last.
    pub priority: Option<i32>,
    /// The protection that it declares.
    pub protection: Protection,
    /// The binding that it comes from.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::place"))]
    pub binding: Place,
    /// The endpoint, if it was had.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_text"))]
    pub endpoint: Option<String>,
    /// How it ended.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub outcome: Outcome,
    /// What it depends on directly: indices into [`Report::reads`].
    pub needs: Vec<usize>,
    /// The steps on the way, in the order in which bytes go it: what is nearest to us first. None if it is the
    /// endpoint alone that was connected.
    pub hops: Vec<Hop>,
    /// When its turn came, since the resolution began.
    #[cfg_attr(feature = "serde", serde(rename = "started_ms", serialize_with = "json::millis"))]
    pub started: Option<Duration>,
    /// How long it took, derivations included.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", serialize_with = "json::millis"))]
    pub took: Option<Duration>,
}

/// How a candidate ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// It connected, and won.
    Connected,
    /// It was not tried: its binding declined, or something was missing.
    Absent(Cause),
    /// It failed: a derivation, the connection, or a rule.
    Failed(Cause),
    /// The context forbids it: the policy, or no downgrade.
    Refused(Cause),
    /// It was under way when another won, or ended it for all.
    Cancelled,
    /// Its turn never came.
    NotTried,
    /// Only a plan: its endpoint is known, it would be connected.
    WouldConnect,
    /// Only a plan: it depends on derivations that would run.
    WouldDerive,
}

/// Why something was not had.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Cause {
    /// What failed and why, causes included: `connect: connection refused`.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub what: String,
    /// What to do about it, if that is known.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_text"))]
    pub hint: Option<String>,
}

/// Something that was read, or could not be.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Read {
    /// The key.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub key: &'static str,
    /// The binding, if there is one.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_place"))]
    pub binding: Option<Place>,
    /// What came of it.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub outcome: ReadOutcome,
    /// The value, if the key shows its values; `<hidden>` if it is sensitive.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_text"))]
    pub value: Option<String>,
    /// What it depends on in turn: indices into [`Report::reads`]. Nothing here depends on itself: a
    /// cycle is an outcome, not a shape.
    pub needs: Vec<usize>,
    /// How long the derivation ran, if it ran and the context has a clock.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", serialize_with = "json::millis"))]
    pub took: Option<Duration>,
}

/// What came of a read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ReadOutcome {
    /// A value that is bound.
    Value,
    /// A value that a derivation gave; of how many, if it gives many.
    Derived {
        /// Which of the values this candidate fixed, from 0.
        choice: usize,
        /// How many there were, as far as known.
        of: usize,
    },
    /// Nothing is bound, or all that is bound declined; with a binding, that binding's derivation
    /// requires something that is missing.
    Missing,
    /// The derivation declined, and why.
    Declined(String),
    /// The derivation failed.
    Failed(Cause),
    /// The derivation was still running at the end.
    Unfinished,
    /// Only a plan: the derivation would run.
    WouldRun,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Place {
    /// The file, as the compiler was given it; empty [without places](Report::without_places), and the place null in
    /// JSON.
    pub file: &'static str,
    /// The line, from 1.
    pub line: u32,
}

impl Place {
    const UNKNOWN: Self = Self { file: "", line: 0 };

    fn is_known(&self) -> bool {
        !self.file.is_empty()
    }
}

/// One step on the way to a connection: a transport, a handshake, a proxy.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Hop {
    /// What it is.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub name: String,
    /// Where it went.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::text"))]
    pub address: String,
    /// How it ended; `None` if it was under way at the end.
    #[cfg_attr(feature = "serde", serde(flatten, serialize_with = "json::hop_outcome"))]
    pub outcome: Option<Result<(), String>>,
    /// What else there is to tell of it if it went well: what a handshake agreed on.
    #[cfg_attr(feature = "serde", serde(serialize_with = "json::optional_text"))]
    pub detail: Option<String>,
    /// When it began, since the resolution began.
    #[cfg_attr(feature = "serde", serde(rename = "started_ms", serialize_with = "json::millis"))]
    pub started: Option<Duration>,
    /// How long it took, or had taken at the end.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", serialize_with = "json::millis"))]
    pub took: Option<Duration>,
}
