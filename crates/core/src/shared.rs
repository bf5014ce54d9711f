//! Derivations whose outcome lives with the binding: made once, shared by all resolutions.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::task::Wake;
use alloc::vec::Vec;
use core::mem;
use core::task::{Context as TaskContext, Poll, Waker};

use crate::BoxFuture;
use crate::context::Context;
use crate::derive::{Halt, Yielded};
use crate::lock::Lock;
use crate::protocol::Value;
use crate::resolve::Reads;

/// What a shared derivation keeps. Clones are the same.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Kept>);

struct Kept {
    healthy: Box<dyn Fn(&Value) -> bool + Send + Sync>,
    /// One for each origin: overlays may differ, and choices do.
    entries: Lock<Vec<Entry>>,
}

struct Entry {
    origin: Origin,
    state: EntryState,
}

/// What an outcome was made from.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    pub(crate) reads: Reads,
    /// The many-valued derivations among them, and which of their values, in order.
    pub(crate) choices: Vec<(usize, u32)>,
}

enum EntryState {
    Done(Value),
    /// Being made, as long as somebody waits for it.
    Running(Weak<Flight>),
}

/// What `Shared::find` found.
pub(crate) enum Ticket {
    Done(Value),
    Running(Joined),
}

/// One who waits for a shared derivation. Whoever waits drives it; dropping one who waits does not
/// stop it for the others, dropping the last does.
pub(crate) struct Joined(Arc<Flight>);

/// A shared derivation that runs.
struct Flight {
    kept: Weak<Kept>,
    state: Lock<FlightState>,
    waiting: Arc<Waiting>,
}

/// Who waits for a flight. Apart from it, because what its future waits for holds this as a waker,
/// and must not keep the future alive.
struct Waiting(Lock<Vec<Waker>>);

struct FlightState {
    /// Away while somebody polls it.
    future: Option<BoxFuture<'static, Result<Yielded, Halt>>>,
    result: Option<Landed>,
    /// Somebody came while it was away.
    missed: bool,
}

#[derive(Clone)]
enum Landed {
    Value(Value),
    Decline(alloc::borrow::Cow<'static, str>),
    Fail(Arc<dyn core::error::Error + Send + Sync>),
}

impl Shared {
    pub(crate) fn new<T: 'static>(healthy: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        let healthy = Box::new(move |value: &Value| value.downcast_ref().is_some_and(&healthy));
        Self(Arc::new(Kept { healthy, entries: Lock::new(Vec::new()) }))
    }

    /// The outcome that was made from what `ctx` binds, of whichever choices, unless it is among
    /// `but`; or is being made of these choices. And its origin.
    pub(crate) fn find(
        &self,
        ctx: &Context,
        choices: &[(usize, u32)],
        but: &[Value],
    ) -> Option<(Ticket, Origin)> {
        // What is dropped is dropped outside the lock: it is user code.
        let dead: Vec<Entry> = self.0.entries.with(|entries| {
            if entries.iter().all(Entry::is_alive) {
                return Vec::new();
            }
            let (alive, dead) = mem::take(entries).into_iter().partition(Entry::is_alive);
            *entries = alive;
            dead
        });
        drop(dead);
        let (ticket, origin) = self.0.entries.with(|entries| {
            entries.iter().filter(|entry| entry.origin.reads.matches(ctx)).find_map(|entry| {
                let ticket = match &entry.state {
                    EntryState::Done(value) if !but.iter().any(|other| Arc::ptr_eq(other, value)) => {
                        Ticket::Done(value.clone())
                    }
                    EntryState::Running(flight) if entry.origin.choices == choices => {
                        Ticket::Running(Joined(flight.upgrade()?))
                    }
                    _ => return None,
                };
                Some((ticket, entry.origin.clone()))
            })
        })?;
        match &ticket {
            // Asked outside the lock: it is user code.
            Ticket::Done(value) if !(self.0.healthy)(value) => {
                let sick = |entry: &Entry| matches!(&entry.state, EntryState::Done(other) if Arc::ptr_eq(other, value));
                let dropped: Vec<Entry> = self.0.entries.with(|entries| {
                    let (sick, well) = mem::take(entries).into_iter().partition(sick);
                    *entries = well;
                    sick
                });
                drop(dropped);
                None
            }
            _ => Some((ticket, origin)),
        }
    }

    /// Makes it, from what `origin` says.
    pub(crate) fn begin(&self, future: BoxFuture<'static, Result<Yielded, Halt>>, origin: Origin) -> Joined {
        let state = FlightState { future: Some(future), result: None, missed: false };
        let flight = Arc::new(Flight {
            kept: Arc::downgrade(&self.0),
            state: Lock::new(state),
            waiting: Arc::new(Waiting(Lock::new(Vec::new()))),
        });
        let entry = Entry { origin, state: EntryState::Running(Arc::downgrade(&flight)) };
        self.0.entries.with(|entries| entries.push(entry));
        Joined(flight)
    }
}

impl Entry {
    fn is_alive(&self) -> bool {
        self.origin.reads.is_alive()
            && match &self.state {
                EntryState::Done(_) => true,
                EntryState::Running(flight) => flight.strong_count() > 0,
            }
    }

    fn is_of(&self, flight: &Arc<Flight>) -> bool {
        matches!(&self.state, EntryState::Running(other) if core::ptr::eq(other.as_ptr(), Arc::as_ptr(flight)))
    }
}

impl Joined {
    pub(crate) fn poll(&self, cx: &mut TaskContext<'_>) -> Poll<Result<Yielded, Halt>> {
        let flight = &self.0;
        // Before the look at the state, so that what lands in between wakes.
        flight.waiting.add(cx.waker());
        let future = flight.state.with(|state| {
            if let Some(result) = &state.result {
                return Err(result.clone());
            }
            let future = state.future.take();
            state.missed |= future.is_none();
            Ok(future)
        });
        let future = match future {
            Err(landed) => return Poll::Ready(landed.into()),
            // Somebody else is polling it, and wakes us when it lands.
            Ok(None) => return Poll::Pending,
            Ok(Some(future)) => future,
        };
        let mut polling = Polling { flight, future, panicked: true };
        let waker = Waker::from(flight.waiting.clone());
        let poll = polling.future.as_mut().poll(&mut TaskContext::from_waker(&waker));
        polling.panicked = false;
        drop(polling);
        let Poll::Ready(result) = poll else { return Poll::Pending };
        let landed = Landed::from(result);
        flight.land(landed.clone());
        Poll::Ready(landed.into())
    }
}

/// Puts the future back. If polling it panicked, all who wait are woken, to run into the same
/// panic rather than hang; likewise if somebody came meanwhile: a wake may have gone by, and whoever
/// polled may be dropped before it polls again.
struct Polling<'a> {
    flight: &'a Arc<Flight>,
    future: BoxFuture<'static, Result<Yielded, Halt>>,
    panicked: bool,
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        let future = mem::replace(&mut self.future, Box::pin(core::future::pending()));
        let missed = self.flight.state.with(|state| {
            state.future = Some(future);
            mem::take(&mut state.missed)
        });
        if self.panicked || missed {
            self.flight.waiting.wake_by_ref();
        }
    }
}

impl Flight {
    /// Keeps the outcome if it is a value, and tells all who wait.
    fn land(self: &Arc<Self>, landed: Landed) {
        if let Some(kept) = self.kept.upgrade() {
            kept.entries.with(|entries| {
                let Some(i) = entries.iter().position(|entry| entry.is_of(self)) else { return };
                match &landed {
                    Landed::Value(value) => entries[i].state = EntryState::Done(value.clone()),
                    _ => drop(entries.swap_remove(i)),
                }
            });
        }
        let done = self.state.with(|state| {
            state.result = Some(landed);
            state.future.take()
        });
        drop(done);
        self.waiting.wake_by_ref();
    }
}

impl Waiting {
    fn add(&self, waker: &Waker) {
        self.0.with(|waiting| {
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
        });
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let waiting = self.0.with(mem::take);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl From<Result<Yielded, Halt>> for Landed {
    fn from(result: Result<Yielded, Halt>) -> Self {
        match result {
            Ok(Yielded::One(value)) => Self::Value(value),
            Ok(_) => unreachable!("shared derivations give one value"),
            Err(Halt::Decline(why)) => Self::Decline(why),
            Err(Halt::Fail(error)) => Self::Fail(error),
        }
    }
}

impl From<Landed> for Result<Yielded, Halt> {
    fn from(landed: Landed) -> Self {
        match landed {
            Landed::Value(value) => Ok(Yielded::One(value)),
            Landed::Decline(why) => Err(Halt::Decline(why)),
            Landed::Fail(error) => Err(Halt::Fail(error)),
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use core::future::poll_fn;

    use loom::future::{AtomicWaker, block_on};
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::thread;

    use super::*;

    /// A flight that lands once the event has come, those who wait for it, and the event.
    fn flight() -> (impl Fn() -> Joined, impl FnOnce()) {
        let event = loom::sync::Arc::new((AtomicBool::new(false), AtomicWaker::new()));
        let its = event.clone();
        let future = poll_fn(move |cx| {
            its.1.register_by_ref(cx.waker());
            match its.0.load(Ordering::Acquire) {
                true => Poll::Ready(Err(Halt::Decline("landed".into()))),
                false => Poll::Pending,
            }
        });
        let shared = Shared::new(|_: &()| true);
        let Joined(flight) = shared.begin(Box::pin(future), Origin::default());
        let join = move || {
            // Whoever shares it is there as long as somebody waits.
            let _ = &shared;
            Joined(flight.clone())
        };
        (join, move || {
            event.0.store(true, Ordering::Release);
            event.1.wake();
        })
    }

    /// What can go wrong by at most three preemptions: all of them take hours.
    fn explore(scene: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(scene);
    }

    fn is_landed(result: Result<Yielded, Halt>) {
        assert!(matches!(result, Err(Halt::Decline(why)) if why == "landed"));
    }

    #[test]
    fn whoever_waits_for_a_flight_is_woken_when_it_lands() {
        explore(|| {
            let (join, come) = flight();
            let (mine, theirs) = (join(), join());
            let other = thread::spawn(move || {
                come();
                is_landed(block_on(poll_fn(|cx| theirs.poll(cx))));
            });
            is_landed(block_on(poll_fn(|cx| mine.poll(cx))));
            other.join().unwrap();
        });
    }

    #[test]
    fn one_who_leaves_does_not_take_the_wake_along() {
        explore(|| {
            let (join, come) = flight();
            let (mine, theirs) = (join(), join());
            let leaving = thread::spawn(move || {
                let _ = theirs.poll(&mut TaskContext::from_waker(Waker::noop()));
            });
            come();
            is_landed(block_on(poll_fn(|cx| mine.poll(cx))));
            leaving.join().unwrap();
        });
    }
}
