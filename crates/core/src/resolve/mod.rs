//! The resolver.

use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::protocol::Value;
use crate::{
    ConnectError, ConnectErrorKind, Context, Flow, Instant, Key, KeyRef, Policy, Report, SharedRuntime,
};

/// What a hop passes on to the next.
#[derive(Clone)]
pub(crate) struct Inherited {
    pub(crate) deadline: Option<Instant>,
    pub(crate) runtime: Option<SharedRuntime>,
}

impl Inherited {
    pub(crate) fn of(_ctx: &Context) -> Result<Self, ConnectError> {
        unimplemented!()
    }
    pub(crate) fn for_hop(&self, _outer: &Context) -> Result<Self, ConnectError> {
        unimplemented!()
    }
    pub(crate) fn policy(&self) -> &Policy {
        unimplemented!()
    }
}

/// What a context resolved into: a flow first of all.
pub struct Resolved {
    flow: Flow,
}

impl Resolved {
    /// The flow alone.
    pub fn into_flow(self) -> Flow {
        self.flow
    }
    /// What the resolution did.
    pub fn report(&self) -> Report {
        unimplemented!()
    }
    /// What the winner read for `key`, if it read it.
    pub fn get<T: Clone + 'static>(&self, _key: &'static Key<T>) -> Option<T> {
        unimplemented!()
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

/// Why nothing was connected: every candidate, and why. `{:#}` lists all.
pub struct Error;

impl Error {
    /// What the resolution did.
    pub fn report(&self) -> Report {
        unimplemented!()
    }
    /// The kind of the failure that decided.
    pub fn kind(&self) -> ConnectErrorKind {
        unimplemented!()
    }
}
impl fmt::Debug for Error {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}
impl fmt::Display for Error {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        unimplemented!()
    }
}
impl core::error::Error for Error {}

/// The endpoints of all candidates, not connected.
#[derive(Debug)]
pub struct Unfolded(#[allow(dead_code)] Vec<()>);

pub(crate) async fn resolve(_ctx: &Context) -> Result<Resolved, Error> {
    unimplemented!()
}
pub(crate) async fn resolve_inherited(_ctx: &Context, _inherited: Inherited) -> Result<Resolved, Error> {
    unimplemented!()
}
pub(crate) async fn unfold(_ctx: &Context) -> Result<Unfolded, Error> {
    unimplemented!()
}
pub(crate) async fn get(_ctx: &Context, _key: KeyRef) -> Result<Option<Value>, Error> {
    unimplemented!()
}
pub(crate) fn plan(_ctx: &Context) -> Report {
    unimplemented!()
}
