//! What is carried down every hop.

mod error;

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem;
use core::time::Duration;

use crate::context::{Context, Plain};
use crate::few::Few;
use crate::lock::Lock;
use crate::log::{after, step};
use crate::names::{HOST, POLICY, PORT};
use crate::report::{Hop, Outcome};
use crate::resolve::{self, Inherited, Ran};
use crate::runtime::{earlier, until};
use crate::{Dial, Instant, Key, KeyRef, Policy, Protection, Resolved, SharedRuntime};

pub(crate) use error::write_chain;
pub use error::{ConnectError, ConnectErrorKind};

/// What a connecting transport is told, at every hop: the context's plain values, the deadline,
/// the policy and the runtime. Cheap to clone.
#[derive(Clone)]
pub struct ConnectCx<'a> {
    frame: MaybeOwned<'a>,
    /// The candidate that is being connected.
    attempt: u32,
    /// When it has had its time, or one that it is a hop of.
    expires: Option<Instant>,
}

#[derive(Clone)]
enum MaybeOwned<'a> {
    Borrowed(&'a Frame<'a>),
    Owned(Arc<Frame<'static>>),
}

/// What all candidates of one resolution share.
pub(crate) struct Frame<'a> {
    ctx: MaybeCloned<'a>,
    pub(crate) inherited: Inherited,
    /// None as long as there is nothing to tell.
    trace: Lock<Option<Box<Trace>>>,
}

enum MaybeCloned<'a> {
    Borrowed(&'a Context),
    Owned(Context),
}

/// What happened on the way to a connection.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    /// The derivations that the direct way ran, in order.
    pub(crate) ran: Few<Ran, 4>,
    /// What happened below the candidates while they were connecting.
    pub(crate) hops: Few<TracedHop, 1>,
    pub(crate) reads: Vec<KeyRef>,
}

#[derive(Clone)]
pub(crate) struct TracedHop {
    attempt: u32,
    /// Those before this, as an index, and after this one are steps of it.
    until: u32,
    to: To,
    outcome: Option<Result<(), String>>,
    took: Option<Duration>,
    started: Option<Instant>,
}

/// Where a hop went; written down only when somebody asks.
#[derive(Clone)]
enum To {
    Named { name: Box<str>, address: Box<str>, detail: Option<Box<str>> },
    Dialled(Dial),
}

impl To {
    fn title(&self) -> String {
        match self {
            Self::Named { name, address, .. } => alloc::format!("hop {name} {address}"),
            Self::Dialled(dial) => alloc::format!("hop {} {}", dial.key().name(), dial.address()),
        }
    }
}

impl Trace {
    /// For people, the steps of an attempt of a resolution between these times, in the order of the way. What
    /// dialled others is no step of its own, unless it failed after them.
    pub(crate) fn way(&self, attempt: u32, began: Instant, ended: Instant) -> Vec<Hop> {
        let mut way: Vec<Hop> = Vec::new();
        // What is still open, with how long the way was before it.
        let mut open: Vec<(&TracedHop, usize)> = Vec::new();
        let close = |(hop, before): (&TracedHop, usize), way: &mut Vec<Hop>| {
            let hop = hop.hop(began, ended);
            if hop.is_apart_from(&way[before..]) {
                way.push(hop);
            }
        };
        for (index, hop) in self.hops.iter().enumerate().filter(|(_, hop)| hop.attempt == attempt) {
            while let Some(over) = open.pop_if(|(hop, _)| hop.until as usize <= index) {
                close(over, &mut way);
            }
            open.push((hop, way.len()));
        }
        while let Some(over) = open.pop() {
            close(over, &mut way);
        }
        way
    }
}

impl Hop {
    /// Whether it is a step besides those that were made for it: one that was made for nothing else, or that failed
    /// though they did not.
    fn is_apart_from(&self, steps: &[Self]) -> bool {
        let went_well = |hop: &Self| matches!(hop.outcome, Some(Ok(())));
        steps.last().is_none_or(|last| went_well(last) && !went_well(self))
    }
}

impl TracedHop {
    fn hop(&self, began: Instant, ended: Instant) -> Hop {
        let (name, address, detail) = match &self.to {
            To::Named { name, address, detail } => {
                (name.to_string(), address.to_string(), detail.as_ref().map(|detail| detail.to_string()))
            }
            To::Dialled(dial) => (dial.key().name().into(), dial.address(), None),
        };
        let cut_off = || self.started.map(|started| ended.since(started));
        let took = if self.outcome.is_none() { cut_off() } else { self.took };
        let started = self.started.map(|started| started.since(began));
        Hop { name, address, outcome: self.outcome.clone(), detail, started, took }
    }
}

impl<'a> Frame<'a> {
    pub(crate) fn new(ctx: &'a Context, inherited: Inherited) -> Self {
        Self { ctx: MaybeCloned::Borrowed(ctx), inherited, trace: Lock::new(None) }
    }

    pub(crate) fn set_trace(&self, trace: Option<Box<Trace>>) {
        self.trace.with(|here| *here = trace);
    }

    pub(crate) fn take_ran(&self) -> Few<Ran, 4> {
        self.trace.with(|trace| trace.as_mut().map(|trace| mem::take(&mut trace.ran))).unwrap_or_default()
    }

    pub(crate) fn ctx(&self) -> &Context {
        match &self.ctx {
            MaybeCloned::Borrowed(ctx) => ctx,
            MaybeCloned::Owned(ctx) => ctx,
        }
    }

    /// For an attempt that has its time until `expires`.
    pub(crate) fn cx(&'a self, attempt: u32, expires: Option<Instant>) -> ConnectCx<'a> {
        let expires = earlier(expires, self.inherited.expires);
        ConnectCx { frame: MaybeOwned::Borrowed(self), attempt, expires }
    }

    pub(crate) fn last_trace(&mut self) -> Option<Box<Trace>> {
        self.trace.get_mut().take()
    }

    pub(crate) fn take_trace(&self) -> Option<Box<Trace>> {
        self.trace.with(mem::take)
    }

    fn trace<R>(&self, f: impl FnOnce(&mut Trace) -> R) -> R {
        self.trace.with(|trace| f(trace.get_or_insert_default()))
    }
}

impl ConnectCx<'static> {
    /// For connecting and listening outside a resolution, with the values of `ctx`. Its time begins now.
    pub fn new(ctx: &Context) -> Result<Self, ConnectError> {
        let inherited = Inherited::of_attempt(ctx)?;
        let expires = inherited.expires;
        let ctx = MaybeCloned::Owned(ctx.clone());
        let frame = Frame { ctx, inherited, trace: Lock::new(None) };
        Ok(Self { frame: MaybeOwned::Owned(Arc::new(frame)), attempt: 0, expires })
    }
}

impl ConnectCx<'_> {
    fn frame(&self) -> &Frame<'_> {
        match &self.frame {
            MaybeOwned::Borrowed(frame) => frame,
            MaybeOwned::Owned(frame) => frame,
        }
    }

    /// The same, to be given to what is connected below.
    pub(crate) fn reborrow(&self) -> ConnectCx<'_> {
        self.frame().cx(self.attempt, self.expires)
    }

    /// The context's value of `key`: for what configures a transport rather than names its peer
    /// (socket options). It must be bound to a value: a derivation can't run here, and is an error.
    pub fn get<T: Clone + 'static>(&self, key: &'static Key<T>) -> Result<Option<T>, ConnectError> {
        let erased = key.erase();
        self.frame().trace(|trace| {
            if !trace.reads.contains(&erased) {
                trace.reads.push(erased);
            }
        });
        plain(self.frame().ctx(), key)
    }

    /// The policy that binds this hop.
    pub fn policy(&self) -> &Policy {
        self.frame().inherited.policy()
    }

    /// The time and task source, if the context has one.
    pub fn runtime(&self) -> Option<&SharedRuntime> {
        self.frame().inherited.runtime.as_ref()
    }

    /// When this must be done, by the deadline of the resolution or by the time that an attempt may take, if
    /// there are such. The resolver keeps it: it drops the future that connects, after having polled it once
    /// more. So it may say what it was waiting for.
    pub fn deadline(&self) -> Option<Instant> {
        earlier(self.frame().inherited.deadline, self.expires)
    }

    /// What `future` gives, or `None` if there is no more [time](Self::deadline): for whoever can say what was waited
    /// for, and for whoever connects outside a resolution, where nobody else keeps the time. Cancel safe if `future` is.
    pub async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        until(self.runtime().zip(self.deadline()), future).await
    }

    /// Runs `connect` as a hop of its own: reports show it, with its outcome and time. Whatever a transport does
    /// after it has [opened](Dial::open) or [resolved](Self::resolve) what is before it, a handshake say, is to be one:
    /// what it dialled shows in its place, nearest first.
    pub async fn hop<T>(
        &self,
        name: impl Into<String>,
        address: impl fmt::Display,
        connect: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        self.hop_telling(name, address, connect, |_| None).await
    }

    /// Like [`hop`](Self::hop), if there is more to `tell` of it once it went well: what a handshake agreed on.
    pub async fn hop_telling<T>(
        &self,
        name: impl Into<String>,
        address: impl fmt::Display,
        connect: impl Future<Output = Result<T, ConnectError>>,
        tell: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, ConnectError> {
        let address = alloc::format!("{address}").into();
        let to = To::Named { name: name.into().into(), address, detail: None };
        self.traced(to, connect, tell).await
    }

    /// Runs `connect`, to what is dialled, as a hop of its own.
    pub(crate) async fn hop_to<T>(
        &self,
        dial: &Dial,
        connect: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        self.traced(To::Dialled(dial.clone()), connect, |_| None).await
    }

    async fn traced<T>(
        &self,
        to: To,
        connect: impl Future<Output = Result<T, ConnectError>>,
        tell: impl FnOnce(&T) -> Option<String>,
    ) -> Result<T, ConnectError> {
        let started = self.now();
        step(|| alloc::format!("{}: begins", to.title()));
        let until = u32::MAX;
        let hop = TracedHop { attempt: self.attempt, until, to, outcome: None, took: None, started };
        let index = self.frame().trace(|trace| {
            trace.hops.push(hop);
            trace.hops.len() - 1
        });
        let result = connect.await;
        let ended = self.now();
        let took = ended.zip(started).map(|(ended, started)| ended.since(started));
        let told = result.as_ref().ok().and_then(tell);
        let outcome = result.as_ref().map(|_| ()).map_err(|error| {
            let mut text = String::new();
            let _ = write_chain(error, &mut text);
            text
        });
        step(|| {
            let to = self.frame().trace(|trace| trace.hops[index].to.clone());
            let took = after(took);
            match &outcome {
                Ok(()) => alloc::format!("{}: done{took}", to.title()),
                Err(why) => alloc::format!("{}: failed{took}: {why}", to.title()),
            }
        });
        self.frame().trace(|trace| {
            let until = trace.hops.len() as u32;
            let hop = &mut trace.hops[index];
            hop.until = until;
            hop.took = took;
            hop.outcome = Some(outcome);
            if let (Some(told), To::Named { detail, .. }) = (told, &mut hop.to) {
                *detail = Some(told.into());
            }
        });
        result
    }

    /// Adds a hop that is over, or that was cut off, of a resolution that began then.
    fn add_hop(&self, hop: Hop, began: Option<Instant>) {
        let Hop { name, address, outcome, detail, started, took } = hop;
        let detail = detail.map(Into::into);
        let (attempt, to) = (self.attempt, To::Named { name: name.into(), address: address.into(), detail });
        let started = began.zip(started).map(|(began, started)| began + started);
        let hop = TracedHop { attempt, until: 0, to, outcome, took, started };
        self.frame().trace(|trace| trace.hops.push(hop));
    }

    /// Resolves `outer`, the context that a hop is dialled in, under this hop's deadline and
    /// policy. What it dialled shows as hops of this one. Cancel safe.
    pub async fn resolve(&self, outer: &Context) -> Result<Resolved, ConnectError> {
        self.resolve_protected(outer, Protection::Clear).await
    }

    /// Like [`resolve`](Self::resolve), for a hop that itself protects what it sends through `outer`, as
    /// far as `own` says (an SSH server): a policy that wants each hop encrypted does not want `outer`
    /// to be encrypted as well.
    pub async fn resolve_protected(
        &self,
        outer: &Context,
        own: Protection,
    ) -> Result<Resolved, ConnectError> {
        let inherited = self.frame().inherited.for_hop(outer, own, self.expires)?;
        // What derives addresses reads it, too.
        let told = (!inherited.policy().allows_local_lookup())
            .then(|| outer.clone().with(&POLICY, inherited.policy().clone()));
        let outer = told.as_ref().unwrap_or(outer);
        let began = self.now();
        let result = resolve::resolve_inherited(outer, inherited).await;
        let report = match &result {
            Ok(resolved) => resolved.report(),
            Err(error) => error.report(),
        };
        let hint = report.hint().map(ToString::to_string);
        for candidate in report.candidates {
            let address = match (candidate.endpoint, &candidate.outcome) {
                (Some(address), _) => address,
                // What is forbidden is not even derived.
                (None, Outcome::Refused(_)) => destination(outer),
                (None, _) => continue,
            };
            let outcome = match candidate.outcome {
                Outcome::Connected => Some(Ok(())),
                Outcome::Failed(cause) => Some(Err(cause.what)),
                Outcome::Refused(cause) if result.is_err() => Some(Err(cause.what)),
                Outcome::Cancelled => None,
                _ => continue, // it was not dialled
            };
            let (name, started, took) = (candidate.key.into(), candidate.started, candidate.took);
            let hop = Hop { name, address, outcome, detail: None, started, took };
            let apart = hop.is_apart_from(&candidate.hops);
            for hop in candidate.hops.into_iter().chain(apart.then_some(hop)) {
                self.add_hop(hop, began);
            }
        }
        result.map_err(|error| {
            let kind = error.kind();
            let error = ConnectError::new(kind, "the hop before could not be connected").with_source(error);
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        })
    }

    fn now(&self) -> Option<Instant> {
        self.runtime().map(|runtime| runtime.now())
    }
}

impl fmt::Debug for ConnectCx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectCx").field("deadline", &self.deadline()).finish_non_exhaustive()
    }
}

/// Where `ctx` leads, as far as that is a host and a port.
fn destination(ctx: &Context) -> String {
    match (plain(ctx, &HOST), plain(ctx, &PORT)) {
        (Ok(Some(host)), Ok(Some(port))) if host.contains(':') => alloc::format!("[{host}]:{port}"),
        (Ok(Some(host)), Ok(Some(port))) => alloc::format!("{host}:{port}"),
        _ => String::new(),
    }
}

/// The newest value of `key` in `ctx`, which must not be a derivation.
pub(crate) fn plain<T: Clone + 'static>(
    ctx: &Context,
    key: &'static Key<T>,
) -> Result<Option<T>, ConnectError> {
    match ctx.plain(key.erase()) {
        Plain::Absent => Ok(None),
        Plain::Value(value) => Ok(value.downcast_ref::<T>().cloned()),
        Plain::Derived(at) => Err(ConnectError::new(
            ConnectErrorKind::Misuse,
            alloc::format!("`{}` is derived at {at}, but is read where no derivation can run", key.name()),
        )
        .with_hint("bind it to a value")),
    }
}
