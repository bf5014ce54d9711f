//! Resolving: from a context to a flow, by the fifteen rules.
//!
//! `walk` has values from derivations and `memo` remembers them, `candidate` says what can be tried,
//! `session` gives candidates their turns and connects them, `record` makes the report of it and `why`
//! finds the causes, `reads` tells what it read, `outcome` is what callers get.

mod candidate;
mod memo;
mod outcome;
mod reads;
mod record;
mod session;
mod walk;
mod why;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::any::Any;
use core::future::poll_fn;
use core::task::{self, Poll};
use core::time::Duration;

pub use outcome::{Error, Resolved, Unfolded, UnfoldedEndpoint};
pub use reads::Reads;

use crate::connect::{Frame, plain};
use crate::context::Binding;
use crate::names::{
    ALLOW_DOWNGRADE, ATTEMPT_DELAY, ATTEMPT_TIMEOUT, DEADLINE, FIRST_GROUP_COUNT, HEAD_START, POLICY, RUNTIME,
};
use crate::protocol::{AnyEndpoint, Value};
use crate::race::{DEFAULT_DELAY, MIN_DELAY, RaceConfig};
use crate::report::Report;
use crate::{
    ConnectError, ConnectErrorKind, Context, Instant, Key, KeyRef, Policy, Protection, SharedRuntime,
};
use candidate::AttemptState;
use memo::{Found, Memo};
use record::Record;
use session::{Mode, Session};
use walk::Walk;

pub(crate) async fn resolve(ctx: &Context) -> Result<Resolved, Error> {
    if let Some((endpoint, value)) = lone_candidate(ctx) {
        let frame = Frame::new(ctx, Inherited::default());
        let Some(connecting) = endpoint.connect(value, frame.cx(0)) else {
            unreachable!("an endpoint key binds endpoints of its protocol")
        };
        let result = connecting.await;
        let trace = frame.into_trace();
        return match result {
            Ok(flow) => Ok(Resolved::lone(flow, ctx.clone(), trace)),
            Err(error) => {
                let record = Record::lone(ctx, trace, AttemptState::Failed(error));
                Err(Error::new(Box::new(record)))
            }
        };
    }
    let inherited = Inherited::of(ctx).map_err(|error| Error::setup(ctx, error))?;
    resolve_inherited(ctx, inherited).await
}

/// The endpoint of `ctx`, if it offers one key and binds it to one value, and nothing else has a
/// say: there is nothing to derive, race, time or forbid. (The commonest context; the short cut
/// makes it several times as fast.)
fn lone_candidate(ctx: &Context) -> Option<(&'static dyn AnyEndpoint, &dyn Any)> {
    let [offer] = ctx.offers() else { return None };
    if ctx.has_control() {
        return None;
    }
    let mut bindings = ctx.bindings(offer.key());
    let Binding::Value(value) = &bindings.next()?.1.binding else { return None };
    bindings.next().is_none().then(|| (offer.endpoint, &**value as _))
}

/// Resolves a hop, under what the one that goes through it passes on.
pub(crate) async fn resolve_inherited(ctx: &Context, inherited: Inherited) -> Result<Resolved, Error> {
    let settings = Settings::of(ctx, &inherited).map_err(|error| Error::setup(ctx, error))?;
    let frame = Frame::new(ctx, inherited);
    let mut session = Session::new(&frame, settings, Mode::Connect);
    let end = session.run().await;
    session.resolved(end)
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
    let mut timer = deadline.zip(runtime.as_ref()).map(|(deadline, runtime)| runtime.sleep_until(deadline));
    let mut memo = Memo::new(ctx, runtime.as_ref(), false);
    let mut walk = Walk::of_key(0, key);
    let in_time = poll_fn(|cx| {
        memo.poll(cx);
        if walk.poll(&mut memo, cx).is_ready() {
            return Poll::Ready(true);
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(cx).map(|()| false),
            None => Poll::Pending,
        }
    })
    .await;
    if !in_time {
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
        Ok(Self { deadline, runtime, policy: plain(ctx, &POLICY)?.map(Arc::new) })
    }

    /// For `outer`, the context that a hop is dialled in, which protects what it sends there as far as
    /// `own` says: the nearer deadline of both, and both policies.
    pub(crate) fn for_hop(&self, outer: &Context, own: Protection) -> Result<Self, ConnectError> {
        let its = Self::of(outer)?;
        let deadline = [self.deadline, its.deadline].into_iter().flatten().min();
        let runtime = self.runtime.clone().or(its.runtime);
        let policy = match (&self.policy, its.policy) {
            (Some(policy), None) => Some(Arc::new(policy.for_hop(own))),
            (Some(policy), Some(its)) => Some(Arc::new(policy.for_hop(own).and(&its))),
            (None, its) => its,
        };
        Ok(Self { deadline, runtime, policy })
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

impl Settings {
    fn of(ctx: &Context, inherited: &Inherited) -> Result<Self, ConnectError> {
        let clock = inherited.runtime.is_some();
        let mut settings = Self {
            race: RaceConfig {
                delay: clock.then_some(DEFAULT_DELAY),
                head_start: None,
                attempt_timeout: None,
                deadline: inherited.deadline,
            },
            first_group_count: 1,
            allow_downgrade: false,
        };
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

/// The keys that the resolver itself reads.
fn control_keys() -> [KeyRef; 8] {
    [
        RUNTIME.erase(),
        POLICY.erase(),
        DEADLINE.erase(),
        ATTEMPT_TIMEOUT.erase(),
        ATTEMPT_DELAY.erase(),
        FIRST_GROUP_COUNT.erase(),
        HEAD_START.erase(),
        ALLOW_DOWNGRADE.erase(),
    ]
}
