//! Resolving: from a context to a flow, by the fifteen rules.
//!
//! `direct` is what most resolutions come to. The rest is for what goes further, and for reports: `walk` has
//! values from derivations and `memo` remembers them, `candidate` says what can be tried, `session` gives
//! candidates their turns and connects them, `record` makes the report of it and `why` finds the causes,
//! `reads` tells what it read, `outcome` is what callers get.

mod candidate;
mod direct;
mod memo;
mod outcome;
mod reads;
mod record;
mod session;
mod walk;
mod why;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::{self, Poll};
use core::time::Duration;

pub use outcome::{Error, Resolved, Unfolded, UnfoldedEndpoint};
pub use reads::Reads;
pub(crate) use why::cause;

use crate::connect::{Frame, Trace, plain};
use crate::names::{
    ALLOW_DOWNGRADE, ATTEMPT_DELAY, ATTEMPT_TIMEOUT, DEADLINE, FIRST_GROUP_COUNT, HEAD_START, POLICY, RUNTIME,
};
use crate::protocol::Value;
use crate::race::{DEFAULT_DELAY, MIN_DELAY, RaceConfig};
use crate::report::Report;
use crate::runtime::{earlier, until};
use crate::{
    ConnectError, ConnectErrorKind, Context, Instant, Key, KeyRef, Policy, Protection, SharedRuntime,
};
use direct::Last;
pub(crate) use direct::Ran;
use memo::{Found, Memo};
use record::Record;
use session::{Mode, Session};
use walk::Walk;

pub(crate) async fn resolve(ctx: &Context) -> Result<Resolved, Error> {
    if ctx.has_control() {
        return Box::pin(resolve_controlled(ctx)).await;
    }
    let mut frame = Frame::new(ctx, Inherited::default());
    let (mut last, mut failed) = (None, None);
    let mut connected = None;
    if let Some(connecting) = poll_fn(|cx| Poll::Ready(direct::connect(&frame, &mut last, cx))).await {
        // Nothing could join it before it ends, for there is no clock.
        match connecting.await {
            Ok(flow) => connected = Some(flow),
            Err(error) => failed = Some(error),
        }
    }
    if let Some(flow) = connected {
        return Ok(Resolved::direct(flow, ctx.clone(), frame.last_trace()));
    }
    Box::pin(go_on(&frame, last, failed)).await
}

async fn resolve_controlled(ctx: &Context) -> Result<Resolved, Error> {
    let inherited = Inherited::of(ctx).map_err(|error| Error::setup(ctx, error))?;
    resolve_inherited(ctx, inherited).await
}

/// Resolves a hop, under what the one that goes through it passes on.
pub(crate) async fn resolve_inherited(ctx: &Context, inherited: Inherited) -> Result<Resolved, Error> {
    go_on(&Frame::new(ctx, inherited), None, None).await
}

/// Goes on from where the direct way ended, with what the first attempt failed with.
async fn go_on(frame: &Frame<'_>, last: Last, failed: Option<ConnectError>) -> Result<Resolved, Error> {
    let ctx = frame.ctx();
    let settings = Settings::of(ctx, &frame.inherited).map_err(|error| Error::setup(ctx, error))?;
    let mut session = Session::new(frame, settings, Mode::Connect).after(last, failed);
    let end = session.run().await;
    session.resolved(end)
}

/// What the direct way through `ctx` did, which left this `trace` and ended with a connection.
fn retrace(ctx: &Context, trace: Option<Box<Trace>>) -> Box<Record> {
    let frame = Frame::new(ctx, Inherited::default());
    frame.set_trace(trace);
    Session::new(&frame, Settings::default(), Mode::Plan).retraced()
}

pub(crate) async fn unfold(ctx: &Context) -> Result<Unfolded, Error> {
    let (inherited, settings) = setup(ctx).map_err(|error| Error::setup(ctx, error))?;
    let frame = Frame::new(ctx, inherited);
    let mut session = Session::new(&frame, settings, Mode::Unfold);
    let end = session.run().await;
    session.unfolded(end)
}

pub(crate) async fn get(ctx: &Context, key: KeyRef) -> Result<Option<Value>, Error> {
    let Inherited { deadline, runtime, .. } = Inherited::of(ctx).map_err(|error| Error::setup(ctx, error))?;
    let mut memo = Memo::new(ctx, runtime.as_ref(), false);
    let mut walk = Walk::of_key(0, key);
    let walking = poll_fn(|cx| {
        memo.poll(cx);
        walk.poll(&mut memo, cx)
    });
    if until(runtime.as_ref().zip(deadline), walking).await.is_none() {
        let late = alloc::format!("the deadline passed before `{key}` was had");
        return Err(Error::setup(ctx, ConnectError::new(ConnectErrorKind::TimedOut, late)));
    }
    match walk.root.found {
        Found::Failed(..) => Err(Error::of_get(memo.record, &walk.root)),
        found => Ok(memo.record.known.value(found).cloned()),
    }
}

pub(crate) fn plan(ctx: &Context) -> Report {
    let (inherited, settings) = match setup(ctx) {
        Ok(setup) => setup,
        Err(error) => return Record::setup(ctx, error).report(),
    };
    let frame = Frame::new(ctx, inherited);
    let session = Session::new(&frame, settings, Mode::Plan);
    session.plan(&mut task::Context::from_waker(task::Waker::noop()))
}

fn setup(ctx: &Context) -> Result<(Inherited, Settings), ConnectError> {
    let inherited = Inherited::of(ctx)?;
    let settings = Settings::of(ctx, &inherited)?;
    Ok((inherited, settings))
}

/// What a hop passes on to the next.
#[derive(Clone, Default)]
pub(crate) struct Inherited {
    pub(crate) deadline: Option<Instant>,
    /// When the attempt that this is a hop of has had its time, and drops it.
    pub(crate) expires: Option<Instant>,
    pub(crate) runtime: Option<SharedRuntime>,
    policy: Option<Arc<Policy>>,
}

/// What a policy forbids if there is none.
static NO_POLICY: Policy = Policy::none();

impl Inherited {
    pub(crate) fn of(ctx: &Context) -> Result<Self, ConnectError> {
        if !ctx.has_control() {
            return Ok(Self::default());
        }
        let runtime = plain(ctx, &RUNTIME)?;
        let deadline = timed(ctx, &DEADLINE, runtime.is_some())?
            .zip(runtime.as_ref())
            .map(|(allowed, runtime)| runtime.now() + allowed);
        Ok(Self { deadline, expires: None, runtime, policy: plain(ctx, &POLICY)?.map(Arc::new) })
    }

    /// Of an attempt that begins now, outside a resolution.
    pub(crate) fn of_attempt(ctx: &Context) -> Result<Self, ConnectError> {
        let its = Self::of(ctx)?;
        let allowed = timed(ctx, &ATTEMPT_TIMEOUT, its.runtime.is_some())?;
        let expires = allowed.zip(its.runtime.as_ref()).map(|(allowed, runtime)| runtime.now() + allowed);
        Ok(Self { expires, ..its })
    }

    /// For `outer`, the context that a hop is dialled in, which protects what it sends there as far as
    /// `own` says: the nearer deadline of both, and both policies. It is dropped when it `expires`.
    pub(crate) fn for_hop(
        &self,
        outer: &Context,
        own: Protection,
        expires: Option<Instant>,
    ) -> Result<Self, ConnectError> {
        let its = Self::of(outer)?;
        let deadline = earlier(self.deadline, its.deadline);
        let runtime = self.runtime.clone().or(its.runtime);
        let policy = match (&self.policy, its.policy) {
            (Some(policy), None) => Some(Arc::new(policy.for_hop(own))),
            (Some(policy), Some(its)) => Some(Arc::new(policy.for_hop(own).and(&its))),
            (None, its) => its,
        };
        Ok(Self { deadline, expires, runtime, policy })
    }

    pub(crate) fn policy(&self) -> &Policy {
        self.policy.as_deref().unwrap_or(&NO_POLICY)
    }
}

/// What the context says about how to resolve it.
struct Settings {
    race: RaceConfig,
    first_group_count: u32,
    allow_downgrade: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let race = RaceConfig { delay: None, head_start: None, attempt_timeout: None, deadline: None };
        Self { race, first_group_count: 1, allow_downgrade: false }
    }
}

impl Settings {
    fn of(ctx: &Context, inherited: &Inherited) -> Result<Self, ConnectError> {
        let clock = inherited.runtime.is_some();
        let mut settings = Self::default();
        settings.race.delay = clock.then_some(DEFAULT_DELAY);
        // A hop ends with what it is a hop of: itself, so that it can tell what it was doing.
        settings.race.deadline = earlier(inherited.deadline, inherited.expires);
        if ctx.has_control() {
            if let Some(delay) = timed(ctx, &ATTEMPT_DELAY, clock)? {
                settings.race.delay = Some(delay.max(MIN_DELAY));
            }
            settings.race.head_start = timed(ctx, &HEAD_START, clock)?;
            settings.race.attempt_timeout = timed(ctx, &ATTEMPT_TIMEOUT, clock)?;
            settings.first_group_count = plain(ctx, &FIRST_GROUP_COUNT)?.unwrap_or(1);
            settings.allow_downgrade = plain(ctx, &ALLOW_DOWNGRADE)?.unwrap_or(false);
        }
        Ok(settings)
    }
}

/// A duration, which nobody could keep without a clock.
fn timed(ctx: &Context, key: &'static Key<Duration>, clock: bool) -> Result<Option<Duration>, ConnectError> {
    match plain(ctx, key)? {
        Some(_) if !clock => Err(ConnectError::new(
            ConnectErrorKind::Misuse,
            alloc::format!("`{}` is set, but the context has no runtime to tell the time", key.name()),
        )
        .with_hint("bind `names::RUNTIME`")),
        duration => Ok(duration),
    }
}

/// The keys that the resolver itself reads; but the deadline, which makes no connection another one.
fn control_keys() -> [KeyRef; 7] {
    [
        RUNTIME.erase(),
        POLICY.erase(),
        ATTEMPT_TIMEOUT.erase(),
        ATTEMPT_DELAY.erase(),
        FIRST_GROUP_COUNT.erase(),
        HEAD_START.erase(),
        ALLOW_DOWNGRADE.erase(),
    ]
}
