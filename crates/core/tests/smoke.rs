//! smoke
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Waker};
use tuyau_core::*;

struct Null;
impl RawFlow for Null {
    fn poll_read(&mut self, _: &mut Cx<'_>, _: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_write(&mut self, _: &mut Cx<'_>, b: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        Poll::Ready(Ok(b.iter().map(|b| b.len()).sum()))
    }
    fn poll_flush(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }
    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }
}
#[derive(Clone, Debug)]
struct Ep(u32, Arc<Mutex<Vec<u32>>>);
struct P;
impl Protocol for P {
    type Endpoint = Ep;
    type Flow = Flow;
    async fn connect(&self, e: Ep, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        e.1.lock().unwrap().push(e.0);
        if e.0 >= 100 {
            Ok(Flow::new(Null))
        } else {
            Err(ConnectError::new(ConnectErrorKind::Refused, "connect").with_hint("start it"))
        }
    }
}
static A: Endpoint<P> = Endpoint::new("a", &P);
static IP: Key<u32> = Key::new("ip").shown();
static SLOW: Key<u32> = Key::new("slow").shown();
static X: Key<u32> = Key::new("x");
static Y: Key<u32> = Key::new("y");

fn block_on<F: Future>(f: F) -> F::Output {
    let mut f = std::pin::pin!(f);
    loop {
        if let Poll::Ready(x) = f.as_mut().poll(&mut Cx::from_waker(Waker::noop())) {
            return x;
        }
    }
}
#[test]
fn third_ip() {
    let log = Arc::new(Mutex::new(vec![]));
    let l = log.clone();
    let runs = Arc::new(Mutex::new(0));
    let r = runs.clone();
    let ctx = Context::new()
        .derive_many(&IP, (), |()| async { Ok(vec![1, 2, 100]) })
        .derive(&SLOW, (), move |()| {
            *r.lock().unwrap() += 1;
            async { Ok(7) }
        })
        .derive(&A, (req(&IP), req(&SLOW)), move |(ip, _)| {
            let l = l.clone();
            async move { Ok(Ep(ip, l)) }
        })
        .offer(&A);
    println!("{}", ctx.plan());
    let r = block_on(ctx.resolve()).unwrap();
    println!("{:#}", r.report());
    println!("{:?} {:?}", r.get(&IP), r.reads());
    assert_eq!(*log.lock().unwrap(), [1, 2, 100]);
    assert_eq!(*runs.lock().unwrap(), 1);
    assert_eq!(r.get(&IP), Some(100));
}
#[test]
fn cycle() {
    let ctx =
        Context::new().derive(&X, opt(&Y), |_| async { Ok(1) }).derive(&Y, opt(&X), |_| async { Ok(1) });
    println!("{}", block_on(ctx.get(&X)).unwrap_err());
    println!("{:#}", block_on(ctx.get(&Y)).unwrap_err());
    println!("{}", block_on(ctx.resolve()).unwrap_err());
}
#[test]
fn all_fail() {
    let log = Arc::new(Mutex::new(vec![]));
    let l = log.clone();
    let ctx = Context::new()
        .with(&A, Ep(1, log.clone()))
        .with(&A, Ep(2, log.clone()))
        .derive(&A, (req(&X),), move |(x,)| {
            let l = l.clone();
            async move { Ok(Ep(x, l)) }
        })
        .derive(&X, (req(&Y),), |(_,)| async move {
            "zz".parse::<u32>()?;
            Ok(1)
        })
        .offer(&A);
    println!("{}", block_on(ctx.resolve()).unwrap_err());
    println!("{:#}", block_on(ctx.clone().with(&Y, 1).resolve()).unwrap_err());
    assert_eq!(*log.lock().unwrap(), [2, 1, 2, 1]);
}
