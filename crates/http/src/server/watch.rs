//! What is known of one connection while it is served: who waits for whom, and since when.
//!
//! The parts of a connection (the flow below hyper, the service and the bodies above it) note here
//! what they see; the driver asks when it would be too late. Times are nanoseconds since the
//! connection began, never 0, which says "not".

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Limit;
use crate::limits::Limits;

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    H1,
    H2,
}

/// What is to be done when something is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The client is cut off.
    Late(Limit),
    /// It has nothing more to ask: the connection ends by the rules.
    Idle,
    /// It does not hang up, though all is said.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) kind: Kind,
    pub(crate) limits: Arc<Limits>,
    origin: Instant,
    /// Requests whose response is not yet wholly in hyper's hands. Over HTTP/1 there is one at most, and this is what it
    /// has come to: [`ASKED`] or [`ANSWERED`].
    in_flight: AtomicU32,
    requests: AtomicU64,
    /// Since when there is none in flight, or what serves one was last seen.
    idle_since: AtomicU64,
    /// Since when the head of a request is on its way.
    head_since: AtomicU64,
    /// Since when the flow takes no bytes.
    blocked_since: AtomicU64,
    /// How long it may do so from then on.
    write_patience: AtomicU64,
    /// Since when the connection only has to end.
    closing_since: AtomicU64,
    /// Since when the client of HTTP/1, who has ended its side, is told nothing.
    ended_since: AtomicU64,
    /// Whoever waits for the body of a request of HTTP/1.
    reader: Mutex<Option<Waker>>,
    /// The preface of HTTP/2 has come.
    preface: AtomicBool,
    /// Bytes of the client's may be left unread at the end.
    linger: AtomicBool,
    upgraded: AtomicBool,
    /// The limit that the flow below has found reached.
    breach: AtomicU8,
    /// Bodies that took too long, streams whose window stayed shut.
    late: AtomicU32,
}

/// "Since now": the clock is read once, when the driver asks what is due, and not at all if it is over by then.
const NOW: u64 = u64::MAX;

/// A request of HTTP/1 is in the service's hands.
const ASKED: u32 = 1;

/// Its response has begun.
const ANSWERED: u32 = 2;

/// How long a client may take to hang up, once it has all that it will get.
const LINGER: Duration = Duration::from_secs(2);

/// A connection of HTTP/1 over which something was said so recently may have the next request on its way when the
/// server ends: it is awaited for as long.
pub(super) const GRACE: Duration = Duration::from_millis(100);

/// How long the head of a request may still take when the server ends, if nothing else is under way: the rest of one that
/// was sent in one go is there by then, and who has stopped in its middle is told to ask again (408).
const HEAD_GRACE: Duration = Duration::from_secs(1);

impl Watch {
    pub(crate) fn new(kind: Kind, limits: &Arc<Limits>) -> Arc<Self> {
        let watch = Self {
            kind,
            limits: limits.clone(),
            origin: Instant::now(),
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            write_patience: AtomicU64::new(0),
            closing_since: AtomicU64::new(0),
            ended_since: AtomicU64::new(0),
            reader: Mutex::default(),
            preface: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            breach: AtomicU8::new(0),
            late: AtomicU32::new(0),
        };
        Arc::new(watch)
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.origin.elapsed()).max(1)
    }

    pub(crate) fn at(&self, nanos: u64) -> Instant {
        self.origin + Duration::from_nanos(nanos)
    }

    /// A request has come.
    pub(crate) fn begin(&self) {
        // Over HTTP/1, the connection's task alone does this: no need for what tasks that meet would need.
        match self.kind {
            Kind::H1 => {
                self.in_flight.store(ASKED, Relaxed);
                self.head_since.store(0, Relaxed);
            }
            // The next one's head may have begun.
            Kind::H2 => drop(self.in_flight.fetch_add(1, Relaxed)),
        }
        // The connection's task alone does this.
        self.requests.store(self.requests() + 1, Relaxed);
        // hyper has read what was left of the last one's body.
        self.linger.store(false, Relaxed);
    }

    /// The response of one is wholly in hyper's hands.
    pub(crate) fn end(&self) {
        match self.kind {
            Kind::H1 => {
                self.active();
                self.in_flight.store(0, Relaxed);
            }
            Kind::H2 => {
                // In other tasks than the driver's; as long as there are others, what they do is what counts.
                if self.in_flight.load(Relaxed) == 1 {
                    self.idle_since.store(self.now(), Relaxed);
                }
                self.in_flight.fetch_sub(1, Relaxed);
            }
        }
    }

    /// The response to the request of HTTP/1 begins.
    pub(crate) fn answer(&self) {
        self.in_flight.store(ANSWERED, Relaxed);
    }

    /// A stream of HTTP/2 is no longer HTTP's, as long as this lives.
    pub(crate) fn tunnel(self: &Arc<Self>) -> Tunnel {
        self.in_flight.fetch_add(1, Relaxed);
        Tunnel(self.clone())
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.load(Relaxed) == 0
    }

    /// Whether no request is under way, nor on its way.
    pub(crate) fn is_between(&self) -> bool {
        self.is_idle() && self.head_since.load(Relaxed) == 0
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// The connection's task sees something that serves a request.
    pub(crate) fn active(&self) {
        self.idle_since.store(NOW, Relaxed);
    }

    /// The head of a request is on its way, or has come.
    pub(crate) fn head(&self, on_its_way: bool) {
        let since = self.head_since.load(Relaxed);
        if on_its_way && since == 0 {
            self.head_since.store(NOW, Relaxed);
        } else if !on_its_way && since != 0 {
            self.head_since.store(0, Relaxed);
        }
    }

    /// The client of HTTP/1 has ended its side, and is told nothing from now on.
    pub(crate) fn has_ended(&self) {
        self.ended_since.store(self.now(), Release);
        // Nothing comes any more for whoever waits.
        if let Some(reader) = self.reader().take() {
            reader.wake();
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended_since.load(Acquire) != 0
    }

    /// Whoever waits for the body of a request is woken once no more of it can come.
    pub(crate) fn reads(&self, waker: &Waker) {
        let mut reader = self.reader();
        if reader.as_ref().is_none_or(|reader| !reader.will_wake(waker)) {
            *reader = Some(waker.clone());
        }
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn preface_came(&self) {
        self.preface.store(true, Relaxed);
    }

    /// The flow takes no bytes, for at most `patience`.
    pub(crate) fn blocked(&self, patience: Duration) {
        if !self.is_blocked() {
            self.write_patience.store(nanos(patience), Relaxed);
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked_since.load(Relaxed) != 0
    }

    /// It does again: for how long it did not.
    pub(crate) fn unblocked(&self) -> Duration {
        if self.kind == Kind::H1 {
            self.active();
        }
        match self.blocked_since.swap(0, Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(self.now().saturating_sub(since)),
        }
    }

    /// The connection only has to end from now on.
    pub(crate) fn closing(&self) {
        let _ = self.closing_since.compare_exchange(0, self.now(), Relaxed, Relaxed);
    }

    /// What is left is for the client to take, and to hang up. Over HTTP/2 it may still be talking of windows.
    pub(crate) fn said_all(&self) {
        self.closing();
        match self.kind {
            // What was no request is answered.
            Kind::H1 => self.head(false),
            Kind::H2 => {
                self.active();
                self.linger.store(true, Relaxed);
            }
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing_since.load(Relaxed) != 0
    }

    /// Until when a further request of HTTP/1 may come, though the connection only has to end: the response that is
    /// under way may have begun without saying that it is the last.
    pub(crate) fn may_still_ask(&self) -> Option<u64> {
        if self.kind == Kind::H2 || self.is_upgraded() {
            return None;
        }
        if !self.is_between() {
            return Some(u64::MAX);
        }
        let now = self.now();
        let _ = self.idle_since.compare_exchange(NOW, now, Relaxed, Relaxed);
        let until = after(self.idle_since.load(Relaxed), GRACE);
        (until > now).then_some(until)
    }

    /// Over HTTP/2, what is left of it is read as long as there is anything to say.
    pub(crate) fn body_was_dropped(&self) {
        self.linger.store(self.kind == Kind::H1, Relaxed);
    }

    pub(crate) fn body_was_late(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    /// How often a body or a stream took too long.
    pub(crate) fn late(&self) -> u32 {
        self.late.load(Relaxed)
    }

    pub(crate) fn must_linger(&self) -> bool {
        self.linger.load(Relaxed)
    }

    /// The connection is no longer HTTP's.
    pub(crate) fn upgrade(&self) {
        self.upgraded.store(true, Relaxed);
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    pub(crate) fn breach(&self, limit: Limit) {
        self.breach.store(if limit == Limit::H2Resets { 1 } else { 2 }, Relaxed);
    }

    pub(crate) fn breached(&self) -> Option<Limit> {
        match self.breach.load(Relaxed) {
            0 => None,
            1 => Some(Limit::H2Resets),
            _ => Some(Limit::H2ControlFrames),
        }
    }

    /// When something is due, and what, as things stand; or when to ask again.
    pub(crate) fn due(&self) -> (u64, Option<Due>) {
        match self.first_due() {
            Some((at, due)) => (at, Some(due)),
            None => {
                let limits = &self.limits;
                // No limit that may begin meanwhile is shorter.
                let time = match self.kind {
                    Kind::H1 => limits.keep_alive_idle,
                    Kind::H2 => limits.h2_idle.min(limits.header_time),
                };
                (self.now().saturating_add(nanos(time)), None)
            }
        }
    }

    fn first_due(&self) -> Option<(u64, Due)> {
        for since in [&self.idle_since, &self.head_since] {
            if since.load(Relaxed) == NOW {
                since.store(self.now(), Relaxed);
            }
        }
        let limits = &self.limits;
        let quiet = [&self.blocked_since, &self.head_since, &self.closing_since, &self.ended_since];
        if self.kind == Kind::H1
            && quiet.iter().all(|since| since.load(Relaxed) == 0)
            && self.is_idle()
            && self.requests() > 0
            && !self.is_upgraded()
        {
            // How it is nearly always.
            return Some((after(self.idle_since.load(Relaxed), limits.keep_alive_idle), Due::Idle));
        }
        let late = |since: &AtomicU64, time: u64, limit| match since.load(Relaxed) {
            0 => None,
            since => Some((since.saturating_add(time), Due::Late(limit))),
        };
        let write = late(&self.blocked_since, self.write_patience.load(Relaxed), Limit::WriteIdle);
        if self.is_upgraded() {
            return write;
        }
        let closing_since = self.closing_since.load(Relaxed);
        let head_time = match closing_since {
            1.. if self.is_idle() && write.is_none() => {
                let before = closing_since.saturating_sub(self.head_since.load(Relaxed));
                before.saturating_add(nanos(HEAD_GRACE)).min(nanos(limits.header_time))
            }
            _ => nanos(limits.header_time),
        };
        let head = late(&self.head_since, head_time, Limit::HeaderTime);
        let ended = match self.in_flight.load(Relaxed) {
            ASKED => late(&self.ended_since, nanos(limits.half_closed), Limit::HalfClosed),
            ANSWERED if write.is_none() => {
                late(&self.ended_since, nanos(limits.keep_alive_idle), Limit::HalfClosed)
            }
            _ => None,
        };
        let idle_since = self.idle_since.load(Relaxed);
        let idle = match (self.kind, closing_since) {
            (Kind::H2, _) if !self.preface.load(Relaxed) => {
                return Some((after(1, limits.h2_preface), Due::Late(Limit::H2Preface)));
            }
            _ if !self.is_idle() => None,
            // The response is wholly in hyper's hands, and on its way.
            (Kind::H1, _) if write.is_some() => None,
            (_, closing @ 1..) => {
                let time = if self.must_linger() { LINGER } else { limits.write_idle };
                Some((after(closing.max(idle_since), time), Due::Gone))
            }
            (Kind::H1, _) if head.is_some() => None,
            (Kind::H1, _) if self.requests() == 0 => {
                Some((after(1, limits.first_byte), Due::Late(Limit::FirstByte)))
            }
            (Kind::H1, _) => Some((after(idle_since, limits.keep_alive_idle), Due::Idle)),
            (Kind::H2, _) => Some((after(idle_since, limits.h2_idle), Due::Idle)),
        };
        [write, head, ended, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// See [`Watch::tunnel`].
pub(crate) struct Tunnel(Arc<Watch>);

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn after(since: u64, limit: Duration) -> u64 {
    since.saturating_add(nanos(limit))
}

/// What does not fit is for ever.
fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}
