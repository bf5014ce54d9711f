//! What a hop dials in a context of its own shows in the report of what goes through it.

use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use tuyau_core::{ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, Protocol};

struct Refusing;

impl Protocol for Refusing {
    type Endpoint = u8;
    type Flow = Flow;

    async fn connect(&self, _endpoint: u8, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Err(ConnectError::new(ConnectErrorKind::Refused, "connect"))
    }
}

static REFUSING: Endpoint<Refusing> = Endpoint::new("refusing", &Refusing);

/// Connects in the context that is its endpoint.
struct Through;

impl Protocol for Through {
    type Endpoint = Context;
    type Flow = Flow;

    async fn connect(&self, outer: Context, cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        Ok(cx.resolve(&outer).await?.into_flow())
    }
}

static THROUGH: Endpoint<Through> = Endpoint::new("through", &Through);

#[test]
fn what_was_dialled_on_the_way_shows_nearest_first() {
    let first = Context::new().with(&REFUSING, 1).with(&REFUSING, 2).offer(&REFUSING);
    let second = Context::new().with(&THROUGH, first).offer(&THROUGH);
    let ctx = Context::new().with(&THROUGH, second).offer(&THROUGH);
    let explaining = pin!(ctx.explain());
    let Poll::Ready(report) = explaining.poll(&mut TaskContext::from_waker(Waker::noop())) else {
        panic!("nothing waits")
    };
    let hops: Vec<_> =
        report.candidates[0].hops.iter().map(|hop| (hop.name.as_str(), &hop.outcome)).collect();
    let [("through", Some(Err(why))), ("refusing", Some(Err(_))), ("refusing", Some(Err(_)))] = &hops[..]
    else {
        panic!("{hops:?}")
    };
    assert!(why.contains("the hop before"), "{why}");
    let addresses: Vec<_> = report.candidates[0].hops[1..].iter().map(|hop| hop.address.as_str()).collect();
    assert_eq!(addresses, ["2", "1"]);
}
