//! The task that moves packets between the device and the sockets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use smoltcp::iface::PollResult;
use smoltcp::phy::Device as _;
use smoltcp::socket::tcp::State as TcpState;
use smoltcp::time::Instant as SmolInstant;
use tuyau_core::{BoxFuture, Instant};

use crate::core::{Core, Fate, State};
use crate::device::Phy;
use crate::error;
use crate::inspect::{Seen, inspect};

/// How many packets are taken in before others get their turn.
const BUDGET: usize = 256;
/// The shortest wait for a timer: finer than those of TCP.
const TICK: Duration = Duration::from_millis(1);

/// Ends when nobody owns the stack any more and all has been said, or when the device fails.
pub(crate) struct Driver {
    core: Arc<Core>,
    phy: Phy,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, phy: Phy) -> Self {
        Self { core, phy, timer: None }
    }

    /// Takes in what has come, sends what is to be sent. How many packets came, and whether any went.
    fn turn(&mut self, state: &mut State, now: Instant) -> io::Result<(usize, bool)> {
        let sent = self.phy.sent;
        let medium = self.phy.medium();
        let mut came = 0;
        while came < BUDGET {
            let seen = match self.phy.poll_receive() {
                Poll::Ready(packet) => {
                    let packet = packet?;
                    inspect(medium, packet)
                }
                Poll::Pending => break,
            };
            came += 1;
            self.take_in(state, seen, now);
        }
        self.core.settle_all(state);
        let at = smol(now);
        // It sends one packet of each socket at a time.
        while state.egress(at, &mut self.phy) == PollResult::SocketStateChanged {}
        self.core.settle_all(state);
        Ok((came, self.phy.sent != sent))
    }

    fn take_in(&mut self, state: &mut State, seen: Seen, now: Instant) {
        let core = &self.core;
        match seen {
            Seen::Other => state.ingress(smol(now), &mut self.phy),
            Seen::Syn(ends) => match core.welcome(state, ends) {
                Ok(None) => state.ingress(smol(now), &mut self.phy),
                Ok(Some(connection)) => {
                    state.ingress(smol(now), &mut self.phy);
                    core.welcomed(state, connection);
                }
                // Dropped: the peer will ask again.
                Err(_full) => drop(self.phy.receive(smol(now))),
            },
            Seen::Fin(ends) => {
                state.ingress(smol(now), &mut self.phy);
                core.finished(state, ends);
            }
            Seen::Rst(ends) => {
                let known = state.known(ends);
                let was = known.and_then(|connection| state.tcp(connection));
                state.ingress(smol(now), &mut self.phy);
                if let Some(connection) = known
                    && was != Some(TcpState::Closed)
                    && state.tcp(connection) == Some(TcpState::Closed)
                {
                    state.set_fate(connection, Fate::Reset);
                }
            }
            Seen::Unreachable(ends) => {
                // Later it may be a passing trouble, or a forgery (RFC 5927): only what is not connected yet fails.
                if let Some(connection) = state.owned_by_flow(ends)
                    && state.tcp(connection) == Some(TcpState::SynSent)
                {
                    state.set_fate(connection, Fate::Unreachable);
                    state.abort(connection);
                }
                state.ingress(smol(now), &mut self.phy);
            }
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let core = this.core.clone();
        this.phy.wake_by(cx);
        let next = {
            let mut state = core.lock();
            let state = &mut *state;
            state.driver_runs(cx);
            let mut budget = BUDGET;
            loop {
                let now = core.runtime.now();
                let deadline = core.expire(state, now);
                let (came, went) = match this.turn(state, now) {
                    Ok(moved) => moved,
                    Err(error) => break Err(error),
                };
                state.trouble = this.phy.trouble.take().map(Into::into);
                budget = budget.saturating_sub(came.max(1));
                if came == 0 && !went {
                    if core.is_over(state) {
                        return Poll::Ready(());
                    }
                    // A device without room wakes us itself.
                    let next = if this.phy.is_blocked() { None } else { state.next(now) };
                    break Ok(earlier(deadline, next.map(|next| next.max(now + TICK))));
                }
                if budget == 0 {
                    cx.waker().wake_by_ref();
                    break Ok(None);
                }
            }
        };
        match next {
            Ok(next) => this.sleep_until(next, cx),
            Err(error) => {
                core.die(error);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Driver {
    /// Has the task woken at `next`, or before.
    fn sleep_until(&mut self, next: Option<Instant>, cx: &mut Context<'_>) {
        let Some(next) = next else { return };
        // One that comes too early costs less than a new one for each packet.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > next || *at <= self.core.runtime.now()) {
            self.timer = Some((next, self.core.runtime.sleep_until(next)));
        }
        if let Some((_, timer)) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            self.timer = None;
            cx.waker().wake_by_ref();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.core.die(error::ended());
    }
}

impl State {
    fn ingress(&mut self, now: SmolInstant, phy: &mut Phy) {
        self.iface.poll_ingress_single(now, phy, &mut self.sockets);
    }

    fn egress(&mut self, now: SmolInstant, phy: &mut Phy) -> PollResult {
        self.iface.poll_egress(now, phy, &mut self.sockets)
    }

    /// When smoltcp wants to run next.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.iface.poll_at(smol(now), &self.sockets)?;
        let micros = u64::try_from(next.total_micros()).unwrap_or(0);
        Some(Instant::new(Duration::from_micros(micros)))
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}

pub(crate) fn smol(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.since_origin().as_micros()).unwrap_or(i64::MAX))
}
