//! What callers get of a resolution.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

use super::Reads;
use super::candidate::{Attempt, AttemptState};
use super::memo::Need;
use super::record::Record;
use super::retrace;
use crate::connect::Trace;
use crate::protocol::Value;
use crate::report::{Report, safe};
use crate::{ConnectError, ConnectErrorKind, Context, Dial, Flow, Key};

/// What a context resolved into: the connected flow, first of all (it derefs to it), and how it
/// came about.
pub struct Resolved {
    flow: Flow,
    how: How,
}

/// How it came about.
enum How {
    /// By the direct way: the record is made if asked for.
    Direct {
        ctx: Context,
        trace: Option<Box<Trace>>,
    },
    Raced(Box<Record>),
}

impl Resolved {
    pub(super) fn new(flow: Flow, record: Box<Record>) -> Self {
        Self { flow, how: How::Raced(record) }
    }

    pub(super) fn direct(flow: Flow, ctx: Context, trace: Option<Box<Trace>>) -> Self {
        Self { flow, how: How::Direct { ctx, trace } }
    }

    fn with_record<R>(&self, f: impl FnOnce(&Record) -> R) -> R {
        match &self.how {
            How::Raced(record) => f(record),
            How::Direct { ctx, trace } => f(&retrace(ctx, trace.clone())),
        }
    }

    /// The flow alone.
    pub fn into_flow(self) -> Flow {
        self.flow
    }

    /// What the resolution did, candidate by candidate.
    pub fn report(&self) -> Report {
        self.with_record(Record::report)
    }

    /// The value of `key` that the winner was derived from. `None` if it did not need it, whatever
    /// candidates that lost may have needed.
    pub fn get<T: Clone + 'static>(&self, key: &'static Key<T>) -> Option<T> {
        self.with_record(|record| record.winner_value(key.erase())?.downcast_ref().cloned())
    }

    /// What was read: the key to reuse this connection by.
    pub fn reads(&self) -> Reads {
        self.with_record(Record::reads)
    }
}

impl Deref for Resolved {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        &self.flow
    }
}

impl DerefMut for Resolved {
    fn deref_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }
}

impl From<Resolved> for Flow {
    fn from(resolved: Resolved) -> Self {
        resolved.flow
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flow.fmt(f)
    }
}

/// Why nothing could be connected, or a value not be had: every candidate, and why. `Display` sums
/// it up in a few lines; `{:#}` lists all.
pub struct Error(Box<Record>);

impl Error {
    pub(super) fn new(record: Box<Record>) -> Self {
        Self(record)
    }

    /// The context can't be resolved at all.
    pub(super) fn setup(ctx: &Context, error: ConnectError) -> Self {
        Self::new(Box::new(Record::setup(ctx, error)))
    }

    /// A key could not be had.
    pub(super) fn of_get(mut record: Box<Record>, root: &Need) -> Self {
        record.setup = Some(record.known.failure(root));
        Self::new(record)
    }

    /// What the resolution did, candidate by candidate.
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// The kind of the failure that decided: of the candidate that ended the resolution, else of
    /// the first that failed.
    pub fn kind(&self) -> ConnectErrorKind {
        self.0.kind()
    }

    /// What made candidates fail, in the order in which they were tried, each to be downcast:
    /// [`ConnectError`]s, and the errors that derivations failed with.
    pub fn errors(&self) -> impl Iterator<Item = &(dyn core::error::Error + 'static)> {
        self.0.errors()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.0.setup_cause() {
            write!(f, "{}", safe(&why.what))?;
            return why.hint.map_or(Ok(()), |hint| write!(f, "\n  what to do: {}", safe(&hint)));
        }
        let report = self.report();
        if f.alternate() { write!(f, "{report:#}") } else { report.summary().fmt(f) }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.errors().next()
    }
}

/// The endpoints of all candidates, not connected, in the order in which they would be tried.
pub struct Unfolded {
    endpoints: Vec<UnfoldedEndpoint>,
    record: Box<Record>,
}

/// An endpoint that a context resolves into.
#[derive(Clone, Debug)]
pub struct UnfoldedEndpoint {
    dial: Dial,
}

impl UnfoldedEndpoint {
    /// The endpoint and its protocol, to be opened.
    pub fn dial(&self) -> &Dial {
        &self.dial
    }
}

impl Unfolded {
    pub(super) fn new(record: Box<Record>) -> Result<Self, Error> {
        let known = record.known();
        let endpoint = |attempt: &Attempt| {
            if !matches!(attempt.state, AttemptState::Parked) {
                return None;
            }
            let value: &Value = known.value(attempt.found)?;
            let endpoint = record.offer(attempt.root).endpoint;
            Some(UnfoldedEndpoint { dial: Dial { endpoint, value: value.clone() } })
        };
        let endpoints: Vec<_> = record.attempts.iter().filter_map(endpoint).collect();
        if endpoints.is_empty() {
            return Err(Error::new(record));
        }
        Ok(Self { endpoints, record })
    }

    /// The endpoints, in order. Never none.
    pub fn endpoints(&self) -> &[UnfoldedEndpoint] {
        &self.endpoints
    }

    /// What was done to have them.
    pub fn report(&self) -> Report {
        self.record.report()
    }
}

impl fmt::Debug for Unfolded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.endpoints).finish()
    }
}

#[cfg(feature = "std")]
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            ConnectErrorKind::Refused => Io::ConnectionRefused,
            ConnectErrorKind::Unreachable => Io::HostUnreachable,
            ConnectErrorKind::NotFound => Io::NotFound,
            ConnectErrorKind::TimedOut => Io::TimedOut,
            ConnectErrorKind::Closed => Io::ConnectionAborted,
            ConnectErrorKind::Authentication | ConnectErrorKind::Policy => Io::PermissionDenied,
            ConnectErrorKind::Unsupported => Io::Unsupported,
            ConnectErrorKind::Misuse => Io::InvalidInput,
            _ => Io::Other,
        };
        Self::new(kind, error)
    }
}
