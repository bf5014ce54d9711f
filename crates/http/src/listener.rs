//! Flows of listeners that are known by more than themselves.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tuyau_core::{AcceptError, Accepted, BoxFuture, Flow, Listener, RawFlow, RawListener, Target, forward};

/// A flow and what is known of it. It is taken off before anything is read.
pub(crate) struct Tagged<T> {
    tag: T,
    flow: Flow,
}

impl<T: Send + Sync + 'static> Tagged<T> {
    pub(crate) fn take(flow: Flow) -> (Option<T>, Flow) {
        match flow.into_inner::<Self>() {
            Ok(Self { tag, flow }) => (Some(tag), flow),
            Err(flow) => (None, flow),
        }
    }
}

/// `accepted`, whose flow is tagged.
fn tagged<T: Send + Sync + 'static>(tag: T, accepted: Accepted) -> Accepted {
    let finish = |handshake: Accepted, tag| -> BoxFuture<'static, _> {
        Box::pin(async move { Ok(Flow::new(Tagged { tag, flow: handshake.finish().await? })) })
    };
    match accepted {
        Accepted::Flow(flow) => Accepted::Flow(Flow::new(Tagged { tag, flow })),
        handshake => match handshake.peer() {
            Some(peer) => Accepted::HandshakeWith(peer, finish(handshake, tag)),
            None => Accepted::Handshake(finish(handshake, tag)),
        },
    }
}

/// The name of a listener.
pub(crate) type Name = Arc<str>;

pub(crate) fn named(name: &str, listener: Listener) -> Listener {
    Listener::new(NamedListener { name: name.into(), listener })
}

struct NamedListener {
    name: Name,
    listener: Listener,
}

impl RawListener for NamedListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let name = self.name.clone();
        self.listener.poll_accept(cx).map_ok(|accepted| tagged(name, accepted))
    }

    fn local(&self) -> Target {
        self.listener.local()
    }

    fn locals(&self) -> Vec<Target> {
        self.listener.locals()
    }
}

/// Asks `admit` of each peer as soon as it is known, before any handshake: who is admitted has its place as a tag, who is
/// not is closed.
pub(crate) fn admitting<P, F>(listener: Listener, admit: F) -> Listener
where
    P: Send + Sync + 'static,
    F: Fn(Target) -> Option<P> + Send + Sync + 'static,
{
    Listener::new(Admitting { listener, admit })
}

struct Admitting<F> {
    listener: Listener,
    admit: F,
}

/// So many are turned away in a row before others have their turn.
const TURNED_AWAY: usize = 64;

impl<P, F> RawListener for Admitting<F>
where
    P: Send + Sync + 'static,
    F: Fn(Target) -> Option<P> + Send + Sync + 'static,
{
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        for _ in 0..TURNED_AWAY {
            let accepted = ready!(self.listener.poll_accept(cx))?;
            match accepted.peer().map(&self.admit) {
                None => return Poll::Ready(Ok(accepted)),
                Some(Some(place)) => return Poll::Ready(Ok(tagged(place, accepted))),
                Some(None) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local(&self) -> Target {
        self.listener.local()
    }

    fn locals(&self) -> Vec<Target> {
        self.listener.locals()
    }
}

impl<T: Send + Sync + 'static> RawFlow for Tagged<T> {
    forward!(flow: read write itself lower unwrap);
}
