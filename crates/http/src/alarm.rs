//! One clock for all of HTTP's limits, outside of the runtimes that connections run in.
//!
//! A runtime that has a timer set asks the kernel for one each time it waits for its sockets, and gives it back when
//! it is woken. Limits are far away and nearly always moved before they come: a thread that waits for the next of
//! them all takes that from every wait.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant as Real;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::incoming::FOR_EVER;

/// Wakes a task when a time has come.
#[derive(Default)]
pub(crate) enum Alarm {
    #[default]
    Unset,
    Thread(Entry),
    /// Where tokio's clock is not the real one: paused, as in tests. And where no thread could be started.
    Runtime(Pin<Box<Sleep>>, Waker),
}

impl Alarm {
    /// Ready once `until` has come; until then, whoever asks is woken when it may have. To ask again for a later time
    /// takes neither a lock nor a look at the clock.
    pub(crate) fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.will_wake(until, cx.waker()) {
            return Poll::Pending;
        }
        let (before, now, after) = (Real::now(), Instant::now(), Real::now());
        if until <= now {
            return Poll::Ready(());
        }
        let at = until.min(now + FOR_EVER);
        let is_real = (before..=after).contains(&now.into_std());
        *self = match THREAD.as_ref().filter(|_| is_real) {
            Some(clock) => Self::Thread(clock.set(at.into_std(), cx.waker())),
            None => {
                let mut sleep = Box::pin(sleep_until(at));
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                Self::Runtime(sleep, cx.waker().clone())
            }
        };
        Poll::Pending
    }

    /// Whether it is going to wake this one by `until`; one that is set can be made to.
    fn will_wake(&mut self, until: Instant, waker: &Waker) -> bool {
        match self {
            Self::Unset => false,
            Self::Thread(entry) => entry.place.0 <= until.into_std() && entry.will_wake(waker),
            Self::Runtime(sleep, who) => {
                sleep.deadline() <= until && who.will_wake(waker) && !sleep.is_elapsed()
            }
        }
    }
}

/// One time that the thread waits for; dropped, it no longer does.
pub(crate) struct Entry {
    place: Place,
    bell: Arc<Bell>,
    /// The bell's, to be looked at without a lock.
    waker: Waker,
}

impl Entry {
    /// Whether it wakes this one, from now on if it did not, and has not rung.
    fn will_wake(&mut self, waker: &Waker) -> bool {
        if !self.waker.will_wake(waker) {
            self.waker.clone_from(waker);
            let _before = std::mem::replace(&mut *self.bell.waker(), waker.clone());
        }
        // After that: who rings sets it before it looks whom to wake.
        !self.bell.has_rung.load(Ordering::SeqCst)
    }
}

/// When; the number tells apart what is due at the same time.
type Place = (Real, u64);

struct Bell {
    waker: Mutex<Waker>,
    has_rung: AtomicBool,
}

impl Bell {
    fn waker(&self) -> MutexGuard<'_, Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.has_rung.store(true, Ordering::SeqCst);
        let waker = self.waker().clone();
        waker.wake();
    }
}

/// The thread's; `None` if it could not be started.
static THREAD: LazyLock<Option<&'static Clock>> = LazyLock::new(|| {
    let clock: &'static Clock = Box::leak(Box::default());
    let thread = thread::Builder::new().name("tuyau-alarm".into()).spawn(|| clock.run());
    thread.is_ok().then_some(clock)
});

#[derive(Default)]
struct Clock {
    set: Mutex<Set>,
    sooner: Condvar,
}

#[derive(Default)]
struct Set {
    bells: BTreeMap<Place, Arc<Bell>>,
    last: u64,
    /// When the thread wakes by itself.
    wakes: Option<Real>,
}

impl Clock {
    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, at: Real, waker: &Waker) -> Entry {
        let bell = Arc::new(Bell { waker: Mutex::new(waker.clone()), has_rung: AtomicBool::new(false) });
        let mut set = self.lock();
        set.last += 1;
        let place = (at, set.last);
        set.bells.insert(place, bell.clone());
        if set.wakes.is_none_or(|wakes| at < wakes) {
            set.wakes = Some(at);
            self.sooner.notify_one();
        }
        Entry { place, bell, waker: waker.clone() }
    }

    fn run(&self) {
        let mut set = self.lock();
        loop {
            let now = Real::now();
            let later = set.bells.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut set.bells, later);
            if !due.is_empty() {
                drop(set);
                for bell in due.into_values() {
                    // Whatever an executor does with a waker, the limits of others hold.
                    let _ = catch_unwind(AssertUnwindSafe(|| bell.ring()));
                }
                set = self.lock();
                continue;
            }
            set.wakes = set.bells.keys().next().map(|(at, _)| *at);
            set = match set.wakes {
                Some(at) => {
                    let waited = self.sooner.wait_timeout(set, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.sooner.wait(set).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // There is one, or this would not be. The lock is not held when the bell goes: a waker's end is not known here.
        let _bell = THREAD.as_ref().and_then(|clock| clock.lock().bells.remove(&self.place));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn wait(alarm: &mut Alarm, until: Instant) {
        poll_fn(|cx| alarm.poll_until(until, cx)).await;
    }

    const HOUR: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(5);

    #[tokio::test]
    async fn it_rings_and_can_be_set_sooner_and_again() {
        let mut alarm = Alarm::default();
        let far = Instant::now() + HOUR;
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll_until(far, cx))).await.is_pending());
        assert!(matches!(alarm, Alarm::Thread(_)));
        for _ in 0..3 {
            let soon = Instant::now() + SOON;
            wait(&mut alarm, soon).await;
            assert!(Instant::now() >= soon);
        }
    }

    #[tokio::test]
    async fn one_that_is_set_for_earlier_is_left_so() {
        let mut alarm = Alarm::default();
        let place = |alarm: &Alarm| match alarm {
            Alarm::Thread(entry) => entry.place,
            _ => panic!("the clock is real"),
        };
        let mut set = async |at| {
            assert!(poll_fn(|cx| Poll::Ready(alarm.poll_until(at, cx))).await.is_pending());
            place(&alarm)
        };
        let now = Instant::now();
        let first = set(now + HOUR).await;
        assert_eq!(set(now + 2 * HOUR).await, first);
        assert_ne!(set(now + HOUR / 2).await, first);
    }

    #[tokio::test]
    async fn one_that_is_set_wakes_whoever_asked_last() {
        let mut alarm = Alarm::default();
        let soon = Instant::now() + SOON;
        let mut never = Context::from_waker(Waker::noop());
        assert!(alarm.poll_until(soon, &mut never).is_pending());
        let Alarm::Thread(entry) = &alarm else { panic!("the clock is real") };
        let bell = entry.bell.clone();
        tokio::spawn(async move { wait(&mut alarm, soon).await }).await.expect("no panic");
        assert!(bell.has_rung.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn nothing_is_left_of_one_that_is_dropped() {
        let mut alarm = Alarm::default();
        let far = Instant::now() + HOUR;
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll_until(far, cx))).await.is_pending());
        let Alarm::Thread(entry) = &alarm else { panic!("the clock is real") };
        let (place, bell) = (entry.place, Arc::downgrade(&entry.bell));
        let clock = THREAD.expect("a thread");
        assert!(clock.lock().bells.contains_key(&place));
        drop(alarm);
        assert!(!clock.lock().bells.contains_key(&place) && bell.upgrade().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_on_by_it() {
        let mut alarm = Alarm::default();
        let began = Real::now();
        let until = Instant::now() + HOUR;
        wait(&mut alarm, until).await;
        assert!(Instant::now() >= until && began.elapsed() < HOUR);
    }
}
