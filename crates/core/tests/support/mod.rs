//! What stories about resolutions are told with: scripted endpoints that log what is dialled, a
//! clock that only tests move, and a driver that polls a future only when something woke it.
#![allow(dead_code, unreachable_pub)] // each test binary uses a part, and shares the rest

use std::any::Any;
use std::fmt;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Wake, Waker};
use std::time::Duration;

use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, FlowError, Instant, Key,
    Protection, Protocol, RawFlow, ReadBuf, Runtime, SharedRuntime, names,
};

// ---- a future and who wakes it ---------------------------------------------------------------

/// A future that is polled only when it was woken, as every executor does.
pub struct Task<T> {
    future: Option<BoxFuture<'static, T>>,
    flag: Arc<Flag>,
    pub polls: usize,
}

#[derive(Default)]
struct Flag {
    woken: AtomicUsize,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Task<T> {
    pub fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        let flag = Arc::new(Flag { woken: AtomicUsize::new(1) });
        Self { future: Some(Box::pin(future)), flag, polls: 0 }
    }

    /// Polls as long as it was woken.
    pub fn run(&mut self) -> Poll<T> {
        while self.flag.woken.swap(0, Ordering::SeqCst) > 0 {
            let future = self.future.as_mut().expect("polled after it ended");
            self.polls += 1;
            assert!(self.polls < 100_000, "it spins");
            let waker = Waker::from(self.flag.clone());
            if let Poll::Ready(value) = future.as_mut().poll(&mut Cx::from_waker(&waker)) {
                self.future = None;
                return Poll::Ready(value);
            }
        }
        Poll::Pending
    }

    /// The end of it; time goes on whenever nothing else does.
    pub fn finish(&mut self, clock: &Clock) -> T {
        loop {
            if let Poll::Ready(value) = self.run() {
                return value;
            }
            assert!(clock.step(), "it hangs: nothing will ever wake it");
        }
    }
}

/// Runs a future that needs no time.
pub fn block_on<T>(future: impl Future<Output = T> + Send + 'static) -> T {
    Task::new(future).finish(&Clock::default())
}

/// Resolves `ctx` without a clock.
pub fn resolve(ctx: &Context) -> Result<tuyau_core::Resolved, tuyau_core::Error> {
    let ctx = ctx.clone();
    block_on(async move { ctx.resolve().await })
}

pub fn get<T: Clone + Send + 'static>(
    ctx: &Context,
    key: &'static Key<T>,
) -> Result<Option<T>, tuyau_core::Error> {
    let ctx = ctx.clone();
    block_on(async move { ctx.get(key).await })
}

/// A task that resolves `ctx`.
pub fn resolving(ctx: &Context) -> Task<Result<tuyau_core::Resolved, tuyau_core::Error>> {
    let ctx = ctx.clone();
    Task::new(async move { ctx.resolve().await })
}

/// Is pending once, and wakes at once.
pub async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Something that a test opens by hand.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub fn open(&self) {
        let wakers = {
            let mut gate = self.0.lock().unwrap();
            gate.0 = true;
            std::mem::take(&mut gate.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub fn poll(&self, cx: &mut Cx<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap();
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1.push(cx.waker().clone());
        Poll::Pending
    }

    pub fn passed(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = self.clone();
        poll_fn(move |cx| gate.poll(cx))
    }
}

// ---- time --------------------------------------------------------------------------------------

/// A clock that stands still until a test moves it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Time>>);

#[derive(Debug, Default)]
struct Time {
    now: Duration,
    timers: Vec<(u64, Duration, Option<Waker>)>,
    made: u64,
    cut: bool,
}

struct Timer {
    time: Arc<Mutex<Time>>,
    number: u64,
    until: Duration,
}

impl Clock {
    pub fn runtime(&self) -> SharedRuntime {
        Arc::new(self.clone())
    }

    pub fn advance(&self, by: Duration) {
        let due = {
            let mut time = self.0.lock().unwrap();
            time.now += by;
            let now = time.now;
            let due = time.timers.iter_mut().filter(|timer| timer.1 <= now);
            due.filter_map(|timer| timer.2.take()).collect::<Vec<_>>()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// Goes on to the next timer that somebody waits for; whether there was one.
    pub fn step(&self) -> bool {
        let next = {
            let time = self.0.lock().unwrap();
            let waited_for = time.timers.iter().filter(|timer| timer.2.is_some());
            waited_for.map(|timer| timer.1).min().map(|next| next.saturating_sub(time.now))
        };
        if let Some(by) = next {
            self.advance(by);
        }
        next.is_some()
    }

    pub fn millis(&self) -> u64 {
        self.0.lock().unwrap().now.as_millis() as u64
    }

    /// Gives up: wakes all who sleep, none of whom is ready.
    pub fn cut(&self) {
        let asleep: Vec<_> = {
            let mut time = self.0.lock().unwrap();
            time.cut = true;
            time.timers.iter_mut().filter_map(|timer| timer.2.take()).collect()
        };
        asleep.into_iter().for_each(Waker::wake);
    }

    /// How many timers exist.
    pub fn timers(&self) -> usize {
        self.0.lock().unwrap().timers.len()
    }
}

impl Runtime for Clock {
    fn now(&self) -> Instant {
        let time = self.0.lock().unwrap();
        let now = Instant::new(time.now);
        if time.cut { now.after_cut() } else { now }
    }

    fn sleep_until(&self, until: Instant) -> BoxFuture<'static, ()> {
        let mut time = self.0.lock().unwrap();
        time.made += 1;
        let number = time.made;
        time.timers.push((number, until.since_origin(), None));
        Box::pin(Timer { time: self.0.clone(), number, until: until.since_origin() })
    }

    fn spawn(&self, _task: BoxFuture<'static, ()>) {
        panic!("a resolution spawns nothing");
    }
}

impl Future for Timer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        let mut time = self.time.lock().unwrap();
        if time.now >= self.until {
            return Poll::Ready(());
        }
        let timer = time.timers.iter_mut().find(|timer| timer.0 == self.number).unwrap();
        timer.2 = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.time.lock().unwrap().timers.retain(|timer| timer.0 != self.number);
    }
}

// ---- a world of endpoints ----------------------------------------------------------------------

/// Where all that happens is written down.
#[derive(Clone, Default)]
pub struct World {
    pub clock: Clock,
    log: Arc<Mutex<Vec<(u64, String)>>>,
    /// Connects, derivations and flows that exist now.
    pub alive: Arc<AtomicUsize>,
}

/// Counts what exists: made when something begins, dropped with it.
pub struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    pub fn log(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push((self.clock.millis(), what.into()));
    }

    /// What was dialled or run, in order; forgotten now.
    pub fn dialled(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap()).into_iter().map(|(_, what)| what).collect()
    }

    /// The same, with the time in milliseconds.
    pub fn timeline(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    pub fn alive(&self) -> Alive {
        self.alive.fetch_add(1, Ordering::SeqCst);
        Alive(self.alive.clone())
    }

    pub fn count(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    /// An endpoint that connects at once, unless told otherwise.
    pub fn at(&self, name: impl Into<String>) -> At {
        At {
            name: name.into(),
            how: How::Connects,
            after: Duration::ZERO,
            group: None,
            gate: None,
            world: self.clone(),
        }
    }

    /// A context with the world's clock.
    pub fn timed(&self) -> Context {
        Context::new().with(&names::RUNTIME, self.clock.runtime())
    }
}

/// An endpoint, and what becomes of whoever connects to it.
#[derive(Clone)]
pub struct At {
    pub name: String,
    how: How,
    after: Duration,
    group: Option<u32>,
    gate: Option<Gate>,
    world: World,
}

#[derive(Clone, Copy)]
enum How {
    Connects,
    Fails(ConnectErrorKind),
    Hangs,
}

impl At {
    pub fn refuses(self) -> Self {
        self.fails(ConnectErrorKind::Refused)
    }

    pub fn fails(self, kind: ConnectErrorKind) -> Self {
        Self { how: How::Fails(kind), ..self }
    }

    pub fn hangs(self) -> Self {
        Self { how: How::Hangs, ..self }
    }

    pub fn after(self, millis: u64) -> Self {
        Self { after: ms(millis), ..self }
    }

    pub fn behind(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub fn group(self, group: u32) -> Self {
        Self { group: Some(group), ..self }
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Connects to scripted endpoints.
pub struct Scripted;

impl Protocol for Scripted {
    type Endpoint = At;
    type Flow = Flow;

    async fn connect(&self, at: At, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        at.world.log(at.name.clone());
        let alive = at.world.alive();
        if let Some(gate) = &at.gate {
            gate.passed().await;
        }
        if !at.after.is_zero() {
            let runtime = cx.runtime().expect("the test gives a clock");
            runtime.sleep_until(runtime.now() + at.after).await;
        }
        match at.how {
            How::Connects => Ok(Flow::new(Named { name: at.name, _alive: alive })),
            How::Fails(kind) => Err(ConnectError::new(kind, format!("{} said no", at.name))),
            How::Hangs => pending().await,
        }
    }

    fn group(&self, at: &At) -> Option<u32> {
        at.group
    }
}

/// A flow that does nothing but exist.
pub struct Named {
    pub name: String,
    _alive: Alive,
}

impl RawFlow for Named {
    fn poll_read(&mut self, _: &mut Cx<'_>, _: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, _: &mut Cx<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        Poll::Ready(Ok(bytes.iter().map(|bytes| bytes.len()).sum()))
    }

    fn poll_flush(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }
}

/// What a resolution connected to.
pub fn winner(resolved: &tuyau_core::Resolved) -> &str {
    &resolved.find::<Named>().expect("all flows here are named").name
}

pub static A: Endpoint<Scripted> = Endpoint::new("a", &Scripted);
pub static B: Endpoint<Scripted> = Endpoint::new("b", &Scripted);
pub static C: Endpoint<Scripted> = Endpoint::new("c", &Scripted);
pub static ENCRYPTED: Endpoint<Scripted> =
    Endpoint::new("encrypted", &Scripted).protection(Protection::Encrypted);
pub static TLS: Endpoint<Scripted> = Endpoint::new("tls", &Scripted).protection(Protection::Authenticated);
pub static SECRET: Endpoint<Scripted> = Endpoint::new("secret", &Scripted).sensitive();

pub static X: Key<u32> = Key::new("x").shown();
pub static Y: Key<u32> = Key::new("y").shown();
pub static Z: Key<u32> = Key::new("z").shown();
pub static IP: Key<u32> = Key::new("ip").shown();
