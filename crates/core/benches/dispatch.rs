//! What resolving costs, and what a flow costs on top of what it carries. Medians of many samples,
//! nothing warmed that a user's request would not find warm: overlays are rebuilt in each iteration.

use std::any::Any;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Dial, Endpoint, Flow, FlowError, Key, Protocol,
    RawFlow, ReadBuf, decline, dial, forward, is, opt, or, req,
};

fn main() {
    println!("{:58} {:>12}", "what", "median");
    one_value();
    tutorial();
    chain(1_000, 300);
    chain(100_000, 9);
    diamond();
    many_protocols();
    unrelated();
    flow_calls();
}

fn one_value() {
    let base = Context::new().offer(&TCP);
    report(
        "one value, one protocol",
        median(|| {
            let ctx = base.clone().with(&TCP, 7);
            block_on(ctx.resolve()).expect("connects")
        }),
    );
    let ctx = base.with(&TCP, 7);
    report("  of which resolve", median(|| block_on(ctx.resolve()).expect("connects")));
}

fn tutorial() {
    let names = Context::new().with(&STACK, Stack(Arc::new(()))).derive(&IP, req(&HOST), |host| async move {
        if &*host == "localhost" { Ok(0x7f00_0001) } else { Err(decline("no such name")) }
    });
    let flat = names
        .clone()
        .derive(
            &TLS,
            (is(&SCHEME, "tls"), req(&STACK), opt(&TLS_CONFIG), opt(&HOST), req(&IP), or(&PORT, 4343)),
            |((), _stack, _config, _host, ip, port)| async move { Ok((ip, port)) },
        )
        .derive(
            &PLAIN,
            (is(&SCHEME, "tcp"), req(&STACK), req(&IP), or(&PORT, 8080)),
            |((), _stack, ip, port)| async move { Ok((ip, port)) },
        )
        .offer(&TLS)
        .offer(&PLAIN);
    let host: Arc<str> = "localhost".into();
    let request =
        |base: &Context| base.clone().with(&SCHEME, "tls").with(&PORT, 4343).with(&HOST, host.clone());
    report(
        "tutorial's TLS context, three values per request",
        median(|| block_on(request(&flat).resolve()).expect("connects")),
    );
    report("  of which the three values", median(|| request(&flat)));
    let layered = names
        .derive(&PLAIN, (req(&STACK), req(&IP), or(&PORT, 4343)), |(_stack, ip, port)| async move {
            Ok((ip, port))
        })
        .derive(
            &OVER,
            (is(&SCHEME, "tls"), opt(&TLS_CONFIG), opt(&HOST), dial(&PLAIN)),
            |((), _config, _host, dial)| async move { Ok(dial) },
        )
        .offer(&OVER);
    report(
        "the same with TLS dialling TCP",
        median(|| block_on(request(&layered).resolve()).expect("connects")),
    );
}

fn chain(length: usize, samples: usize) {
    let mut keys: Vec<Option<&'static Key<u64>>> = vec![None; length];
    // In an order that has nothing to do with the chain's.
    let mut place = 0;
    for _ in 0..length {
        place = (place + 617) % length;
        while keys[place].is_some() {
            place = (place + 1) % length;
        }
        keys[place] = Some(Key::leak("link"));
    }
    let keys: Vec<_> = keys.into_iter().map(|key| key.expect("all are made")).collect();
    let mut ctx = Context::new().with(keys[0], 1);
    for pair in keys.windows(2) {
        ctx = ctx.derive(pair[1], req(pair[0]), |value| async move { Ok(value + 1) });
    }
    let base = ctx.derive(&TCP, req(keys[length - 1]), |value| async move { Ok(value as u32) }).offer(&TCP);
    report(
        &format!("chain of {length}"),
        median_of(samples, 1, || block_on(base.resolve()).expect("connects")),
    );
}

fn diamond() {
    let keys: Vec<&'static Key<u64>> = (0..=20).map(|_| Key::leak("level")).collect();
    let mut ctx = Context::new().derive(keys[0], (), |()| async { Err(decline("not me")) });
    for pair in keys.windows(2) {
        ctx = ctx.derive(
            pair[1],
            (opt(pair[0]), opt(pair[0])),
            |(a, b): (Option<u64>, Option<u64>)| async move {
                if a.is_none() && b.is_none() { Err(decline("nothing below")) } else { Ok(0) }
            },
        );
    }
    let ctx = ctx.derive(&TCP, opt(keys[20]), |_| async { Ok(7) }).offer(&TCP);
    report(
        "diamond of 20 levels, bottom declines, opt",
        median(|| block_on(ctx.resolve()).expect("connects")),
    );
}

fn many_protocols() {
    let mut ctx = Context::new();
    for i in 0..1000 {
        let endpoint: &'static Endpoint<Fails> = Box::leak(Box::new(Endpoint::new("many", &Fails)));
        // The oldest binding is tried last.
        ctx = ctx.with(endpoint, if i == 0 { 1 } else { 0 }).offer(endpoint);
    }
    report(
        "1000 offered protocols, all fail but the last",
        median(|| block_on(ctx.resolve()).expect("connects")),
    );
}

fn unrelated() {
    let with = |extra: usize| {
        let mut ctx = Context::new();
        for i in 0..extra {
            let key: &'static Key<u64> = Key::leak("unrelated");
            ctx = if i % 2 == 0 { ctx.with(key, 1) } else { ctx.derive(key, (), |()| async { Ok(1) }) };
        }
        ctx.offer(&TCP)
    };
    let (small, large) = (with(0), with(1000));
    let resolve = |base: &Context| {
        let ctx = base.clone().with(&TCP, 7);
        block_on(ctx.resolve()).expect("connects")
    };
    let (a, b) = alternate(|| resolve(&small), || resolve(&large));
    report("1000 unrelated bindings in the base: without", a);
    report("1000 unrelated bindings in the base: with", b);
    let mut full = large;
    for _ in 0..16 {
        full = full.with(Key::<u64>::leak("overlay"), 1);
    }
    report("one more `with` on a full overlay", median(|| full.clone().with(&TCP, 7)));
    let defaults = Context::new().with(&PORT, 80).with(&SCHEME, "tcp");
    report("defaults put `under` it", median(|| full.clone().under(defaults.clone())));
}

fn flow_calls() {
    let mut cx = TaskContext::from_waker(Waker::noop());
    for layers in [0, 1, 5] {
        let mut flow = Flow::new(Null);
        for _ in 0..layers {
            flow = Flow::new(Wrapper(flow));
        }
        let mut bytes = [0; 64];
        let read = median_of(200, 10_000, || {
            let mut buf = ReadBuf::new(&mut bytes);
            black_box(&mut flow).poll_read(&mut cx, &mut buf).is_ready()
        });
        let write = median_of(200, 10_000, || black_box(&mut flow).poll_write(&mut cx, &[&bytes]).is_ready());
        report(&format!("read through a flow of {layers} wrappers"), read);
        report(&format!("write through a flow of {layers} wrappers"), write);
    }
    let mut raw = Null;
    let mut bytes = [0; 64];
    let read = median_of(200, 10_000, || {
        let mut buf = ReadBuf::new(&mut bytes);
        black_box(&mut raw).poll_read(&mut cx, &mut buf).is_ready()
    });
    report("read of what it carries, direct", read);
}

fn report(what: &str, time: Duration) {
    let ns = time.as_nanos() as f64 / 1000.0;
    let figure = match ns {
        ..1e3 => format!("{ns:.1} ns"),
        ..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    };
    println!("{what:58} {figure:>12}");
}

/// The median time of one call, times 1000 for the sake of fractions of a nanosecond.
fn median<R>(f: impl FnMut() -> R) -> Duration {
    median_of(500, 500, f)
}

fn median_of<R>(samples: usize, calls: u32, mut f: impl FnMut() -> R) -> Duration {
    let mut times: Vec<Duration> = (0..samples).map(|_| sample(calls, &mut f)).collect();
    times.sort_unstable();
    times[samples / 2]
}

fn sample<R>(calls: u32, f: &mut impl FnMut() -> R) -> Duration {
    let began = Instant::now();
    for _ in 0..calls {
        black_box(f());
    }
    began.elapsed() * 1000 / calls
}

/// The medians of two functions whose samples alternate.
fn alternate<A, B>(mut a: impl FnMut() -> A, mut b: impl FnMut() -> B) -> (Duration, Duration) {
    let (mut of_a, mut of_b): (Vec<_>, Vec<_>) =
        (0..500).map(|_| (sample(500, &mut a), sample(500, &mut b))).unzip();
    of_a.sort_unstable();
    of_b.sort_unstable();
    (of_a[250], of_b[250])
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = TaskContext::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
}

static SCHEME: Key<&'static str> = Key::new("scheme");
static HOST: Key<Arc<str>> = Key::new("host");
static PORT: Key<u16> = Key::new("port");
static IP: Key<u32> = Key::new("ip");
static STACK: Key<Stack> = Key::new("stack");
static TLS_CONFIG: Key<u8> = Key::new("tls-config");
static TCP: Endpoint<Opens<u32>> = Endpoint::new("tcp", &Opens(std::marker::PhantomData));
static PLAIN: Endpoint<Opens<(u32, u16)>> = Endpoint::new("tcp", &Opens(std::marker::PhantomData));
static TLS: Endpoint<Opens<(u32, u16)>> = Endpoint::new("tls", &Opens(std::marker::PhantomData)).priority(10);
static OVER: Endpoint<Layered> = Endpoint::new("tls", &Layered).priority(10);

#[derive(Clone)]
struct Stack(#[allow(dead_code)] Arc<()>);

struct Opens<E>(std::marker::PhantomData<fn() -> E>);

impl<E: Clone + std::fmt::Debug + Send + Sync + 'static> Protocol for Opens<E> {
    type Endpoint = E;
    type Flow = Null;
    async fn connect(&self, endpoint: E, _cx: &ConnectCx<'_>) -> Result<Null, ConnectError> {
        black_box(endpoint);
        Ok(Null)
    }
}

struct Layered;

impl Protocol for Layered {
    type Endpoint = Dial;
    type Flow = Wrapper;
    async fn connect(&self, dial: Dial, cx: &ConnectCx<'_>) -> Result<Wrapper, ConnectError> {
        Ok(Wrapper(dial.open(cx).await?))
    }
}

struct Fails;

impl Protocol for Fails {
    type Endpoint = u32;
    type Flow = Null;
    async fn connect(&self, endpoint: u32, _cx: &ConnectCx<'_>) -> Result<Null, ConnectError> {
        if endpoint == 1 { Ok(Null) } else { Err(ConnectError::new(ConnectErrorKind::Refused, "connect")) }
    }
}

struct Null;

impl RawFlow for Null {
    #[inline(never)]
    fn poll_read(&mut self, _: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        buf.advance(1);
        Poll::Ready(Ok(()))
    }
    #[inline(never)]
    fn poll_write(&mut self, _: &mut TaskContext<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), FlowError>> {
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

struct Wrapper(Flow);

impl RawFlow for Wrapper {
    forward!(0: read write itself lower unwrap);
}
