//! Links in memory: a wire with two ends, or a switch with many, as good or as bad as one wants.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tuyau_core::{BoxFuture, Instant, SharedRuntime};

use crate::device::{Device, Medium};

/// What happens to packets on the way, in each direction alike.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Conditions {
    loss: f64,
    duplication: f64,
    corruption: f64,
    reordering: f64,
    delay: Duration,
    jitter: Duration,
    bandwidth: Option<u64>,
    queue: usize,
}

impl Conditions {
    /// Each packet arrives, at once, in order, and whole.
    pub fn new() -> Self {
        Self {
            loss: 0.0,
            duplication: 0.0,
            corruption: 0.0,
            reordering: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            queue: 1000,
        }
    }

    /// The share of packets that get lost, from 0 to 1.
    pub fn loss(mut self, share: f64) -> Self {
        self.loss = share;
        self
    }

    /// The share of packets that arrive twice.
    pub fn duplication(mut self, share: f64) -> Self {
        self.duplication = share;
        self
    }

    /// The share of packets with one bit that is wrong.
    pub fn corruption(mut self, share: f64) -> Self {
        self.corruption = share;
        self
    }

    /// The share of packets that others overtake: they take twice as long as the rest, and a millisecond more.
    pub fn reordering(mut self, share: f64) -> Self {
        self.reordering = share;
        self
    }

    /// How long packets are on the way, one way.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How much longer they are at most, at random: this reorders them too.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.jitter = jitter;
        self
    }

    /// How many bytes a second pass towards each end.
    pub fn bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.bandwidth = Some(bytes_per_second.max(1));
        self
    }

    /// How many packets wait on the way to each end, at most; what comes then is lost. 1000 by default.
    pub fn queue(mut self, packets: usize) -> Self {
        self.queue = packets;
        self
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self::new()
    }
}

/// A link in memory. This is its control: the [`Port`]s are the devices. Cheap to clone.
///
/// What happens on it follows from the seed, and from the order in which packets are sent; when, from the clock of the
/// runtime alone, so that with a virtual clock no time passes.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    runtime: SharedRuntime,
    state: Mutex<State>,
}

struct State {
    conditions: Conditions,
    cut: bool,
    random: fastrand::Rng,
    /// Where packets arrive.
    ends: Vec<End>,
    /// Which end of a switch has which address: what a frame came from.
    learned: HashMap<[u8; 6], usize>,
    /// Memory to use again.
    spare: Vec<Vec<u8>>,
    sent: u64,
}

#[derive(Default)]
struct End {
    /// What has arrived.
    arrived: VecDeque<Vec<u8>>,
    /// What is on the way, next first.
    coming: BinaryHeap<Reverse<Coming>>,
    /// Until when the packets before keep the wire busy.
    busy: Instant,
    waker: Option<Waker>,
    unplugged: bool,
}

struct Coming {
    at: Instant,
    order: u64,
    packet: Vec<u8>,
}

impl Link {
    /// A link whose chances are those of `seed`.
    pub fn new(runtime: SharedRuntime, conditions: Conditions, seed: u64) -> Self {
        let state = State {
            conditions,
            cut: false,
            random: fastrand::Rng::with_seed(seed),
            ends: Vec::new(),
            learned: HashMap::new(),
            spare: Vec::new(),
            sent: 0,
        };
        Self(Arc::new(Shared { runtime, state: Mutex::new(state) }))
    }

    /// Two new ends of a wire that carries IP packets; what goes into one comes out of the other.
    pub fn ends(&self) -> (Port, Port) {
        (self.port(Medium::Ip), self.port(Medium::Ip))
    }

    /// A new end of a switch that carries Ethernet frames to whom they are addressed, or to all if it does not know him.
    pub fn plug(&self) -> Port {
        let state = self.0.lock();
        let [.., a, b] = (state.ends.len() as u64 + 1).to_be_bytes();
        drop(state);
        // A locally administered address.
        self.port(Medium::Ethernet { address: [2, 0, 0, 0, a, b] })
    }

    fn port(&self, medium: Medium) -> Port {
        let mut state = self.0.lock();
        state.ends.push(End::default());
        Port { link: self.0.clone(), end: state.ends.len() - 1, medium, mtu: 1500, timer: None }
    }

    /// From now on packets fare like this; those on the way are not touched.
    pub fn set(&self, conditions: Conditions) {
        self.0.lock().conditions = conditions;
    }

    /// From now on, and for what is on the way, nothing arrives any more.
    pub fn cut(&self) {
        let mut state = self.0.lock();
        state.cut = true;
        for end in &mut state.ends {
            end.coming.clear();
            end.arrived.clear();
        }
    }

    /// After a [`cut`](Self::cut), packets pass again.
    pub fn mend(&self) {
        self.0.lock().cut = false;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Link")
            .field("conditions", &state.conditions)
            .field("ends", &state.ends.len())
            .finish()
    }
}

/// One end of a [`Link`]: a [`Device`]. Dropping it unplugs it.
pub struct Port {
    link: Arc<Shared>,
    end: usize,
    medium: Medium,
    mtu: usize,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
}

impl Port {
    /// Takes IP packets of up to `mtu` bytes; 1500 by default. All ends of a link should take the same.
    #[must_use]
    pub fn with_mtu(mut self, mtu: usize) -> Self {
        self.mtu = mtu;
        self
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("end", &self.end).field("medium", &self.medium).finish_non_exhaustive()
    }
}

impl Device for Port {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { link, end, timer, .. } = self;
        loop {
            let next = {
                let mut state = link.lock();
                let State { ends, spare, .. } = &mut *state;
                let end = &mut ends[*end];
                let due = |coming: &Reverse<Coming>| coming.0.at <= link.runtime.now();
                let next = match end.arrived.pop_front() {
                    Some(arrived) => Some(arrived),
                    None if end.coming.peek().is_some_and(due) => end.coming.pop().map(|next| next.0.packet),
                    None => None,
                };
                if let Some(next) = next {
                    let length = put(&next, packet);
                    if spare.len() < SPARE {
                        spare.push(next);
                    }
                    return Poll::Ready(Ok(length));
                }
                match &mut end.waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => end.waker = Some(cx.waker().clone()),
                }
                end.coming.peek().map(|next| next.0.at)
            };
            let Some(at) = next else { return Poll::Pending };
            if timer.as_ref().is_none_or(|(until, _)| *until != at) {
                *timer = Some((at, link.runtime.sleep_until(at)));
            }
            if let Some((_, sleep)) = timer
                && sleep.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            *timer = None;
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        let now = self.link.runtime.now();
        let mut state = self.link.lock();
        let state = &mut *state;
        match self.medium {
            Medium::Ip => {
                // Of a pair, the other one.
                state.deliver(self.end ^ 1, packet, now);
            }
            Medium::Ethernet { .. } => {
                let (Some(to), Some(from)) = (mac(packet, 0), mac(packet, 6)) else { return Ok(()) };
                state.learned.insert(from, self.end);
                match state.learned.get(&to) {
                    Some(&end) => state.deliver(end, packet, now),
                    None => {
                        (0..state.ends.len())
                            .filter(|end| *end != self.end)
                            .for_each(|end| state.deliver(end, packet, now));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        let end = &mut state.ends[self.end];
        *end = End { unplugged: true, ..End::default() };
        state.learned.retain(|_, end| *end != self.end);
    }
}

/// How many buffers are kept.
const SPARE: usize = 64;

impl Shared {
    /// Nothing panics while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn chance(&mut self, share: f64) -> bool {
        // Without a share no number is used up: what else happens stays the same.
        share > 0.0 && self.random.f64() < share
    }

    /// Sends a packet on its way to `end`, under the conditions.
    fn deliver(&mut self, end: usize, packet: &[u8], now: Instant) {
        let Conditions { loss, duplication, corruption, reordering, delay, jitter, bandwidth, queue } =
            self.conditions;
        if self.cut || self.ends.get(end).is_none_or(|end| end.unplugged) || self.chance(loss) {
            return;
        }
        let copies = if self.chance(duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let waiting = &self.ends[end];
            if waiting.coming.len() + waiting.arrived.len() >= queue {
                return;
            }
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.clear();
            bytes.extend_from_slice(packet);
            if self.chance(corruption) && !bytes.is_empty() {
                let at = self.random.usize(..bytes.len());
                bytes[at] ^= 1 << self.random.u32(..8);
            }
            let mut at = now;
            if let Some(bandwidth) = bandwidth {
                let took = Duration::from_secs_f64(bytes.len() as f64 / bandwidth as f64);
                at = self.ends[end].busy.max(now) + took;
                self.ends[end].busy = at;
            }
            at = at + delay;
            if !jitter.is_zero() {
                at = at + jitter.mul_f64(self.random.f64());
            }
            if self.chance(reordering) {
                at = at + delay + Duration::from_millis(1);
            }
            self.sent += 1;
            let order = self.sent;
            let end = &mut self.ends[end];
            if at == now && end.coming.is_empty() {
                end.arrived.push_back(bytes);
            } else {
                end.coming.push(Reverse(Coming { at, order, packet: bytes }));
            }
            if let Some(waker) = end.waker.take() {
                waker.wake();
            }
        }
    }
}

impl PartialEq for Coming {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Coming {}

impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Coming {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

fn mac(frame: &[u8], at: usize) -> Option<[u8; 6]> {
    frame.get(at..at + 6)?.try_into().ok()
}

/// Of a packet that is larger than it should be, the front, which is no packet.
fn put(packet: &[u8], room: &mut [u8]) -> usize {
    let length = packet.len().min(room.len());
    room[..length].copy_from_slice(&packet[..length]);
    length
}

/// What a stack says to itself.
#[derive(Default)]
pub(crate) struct Loopback(VecDeque<Vec<u8>>);

impl Device for Loopback {
    fn medium(&self) -> Medium {
        Medium::Ip
    }

    fn mtu(&self) -> usize {
        16 << 10
    }

    fn poll_receive(&mut self, _cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        // Nobody else sends: who would have to be woken is awake.
        match self.0.pop_front() {
            Some(next) => Poll::Ready(Ok(put(&next, packet))),
            None => Poll::Pending,
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.0.push_back(packet.to_vec());
        Ok(())
    }
}
