//! Listening on the server's side (RFC 4254 section 7.1, and its like for Unix sockets).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tuyau_core::{AcceptError, AcceptErrorKind, Accepted, RawListener, Target};

use crate::channel::Channel;
use crate::session::Session;

/// How many connections may wait to be accepted; more are refused.
const BACKLOG: usize = 128;

type Forwarded = (Channel, Target);

/// Who listens where, on the server.
#[derive(Default)]
pub(crate) struct Forwards(Mutex<State>);

#[derive(Default)]
struct State {
    places: Vec<(Target, mpsc::Sender<Forwarded>)>,
    /// How many requests to listen are under way: what comes in meanwhile may be for one of them.
    asking: usize,
    unclaimed: Vec<(Target, Forwarded)>,
}

/// Where a connection that came in goes.
pub(crate) enum Place<'a> {
    Listener(mpsc::OwnedPermit<Forwarded>),
    Unclaimed(&'a Forwards, Target),
}

impl Place<'_> {
    pub(crate) fn put(self, channel: Channel, peer: Target) {
        match self {
            Self::Listener(permit) => drop(permit.send((channel, peer))),
            Self::Unclaimed(forwards, at) => forwards.put(at, (channel, peer)),
        }
    }
}

impl Forwards {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place for a connection that came in at `at`; none if nobody listens there, or is too slow.
    pub(crate) fn place(&self, at: &Target) -> Option<Place<'_>> {
        let state = self.state();
        if let Some(sender) = state.find(at) {
            return sender.try_reserve_owned().ok().map(Place::Listener);
        }
        (state.asking > 0 && state.unclaimed.len() < BACKLOG).then(|| Place::Unclaimed(self, at.clone()))
    }

    fn put(&self, at: Target, forwarded: Forwarded) {
        let mut state = self.state();
        let sender = state.find(&at);
        let (left, _outside_the_lock) = match sender {
            Some(sender) => (None, sender.try_send(forwarded).err()),
            None if state.asking > 0 => (Some((at, forwarded)), None),
            None => (None, Some(mpsc::error::TrySendError::Closed(forwarded))),
        };
        state.unclaimed.extend(left);
        drop(state);
    }

    /// Before a request to listen is sent.
    pub(crate) fn ask(&self) -> Asking<'_> {
        self.state().asking += 1;
        Asking(self)
    }

    pub(crate) fn close(&self) {
        let mut state = self.state();
        let gone = (std::mem::take(&mut state.places), std::mem::take(&mut state.unclaimed));
        drop(state);
        drop(gone);
    }

    fn remove(&self, at: &Target) {
        self.state().places.retain(|(place, _)| place != at);
    }
}

impl State {
    /// Who listens at `at`. Servers differ in how they call an address that they were asked for.
    fn find(&self, at: &Target) -> Option<mpsc::Sender<Forwarded>> {
        let exact = self.places.iter().find(|(place, _)| place == at);
        let same_port = || {
            let port = port(at)?;
            let mut all = self.places.iter().filter(|(place, _)| self::port(place) == Some(port));
            all.next().filter(|_| all.next().is_none())
        };
        exact.or_else(same_port).map(|(_, sender)| sender.clone())
    }
}

fn port(target: &Target) -> Option<u16> {
    match target {
        Target::Name { port, .. } => Some(*port),
        _ => None,
    }
}

/// A request to listen that is under way.
pub(crate) struct Asking<'a>(&'a Forwards);

impl Asking<'_> {
    /// The server listens at `at` now.
    pub(crate) fn listens(&self, at: Target) -> mpsc::Receiver<Forwarded> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let mut state = self.0.state();
        state.places.push((at, sender));
        let (mine, others) = std::mem::take(&mut state.unclaimed)
            .into_iter()
            .map(|(at, forwarded)| (state.find(&at), at, forwarded))
            .partition::<Vec<_>, _>(|(sender, ..)| sender.is_some());
        state.unclaimed = others.into_iter().map(|(_, at, forwarded)| (at, forwarded)).collect();
        drop(state);
        for (sender, _, forwarded) in mine {
            // As many as were unclaimed there is room for.
            let _ = sender.map(|sender| sender.try_send(forwarded));
        }
        receiver
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.asking -= 1;
        let nobodys = if state.asking == 0 { std::mem::take(&mut state.unclaimed) } else { Vec::new() };
        drop(state);
        drop(nobodys);
    }
}

/// Accepts what comes in on the server's side. Dropped, it asks the server to stop listening.
pub(crate) struct SshListener {
    incoming: mpsc::Receiver<Forwarded>,
    /// As it was asked for: the address as text, and the port that the server chose.
    at: Target,
    local: Target,
    session: Arc<Session>,
}

impl SshListener {
    pub(crate) fn new(
        incoming: mpsc::Receiver<Forwarded>,
        at: Target,
        local: Target,
        session: Arc<Session>,
    ) -> Self {
        Self { incoming, at, local, session }
    }
}

impl Drop for SshListener {
    fn drop(&mut self) {
        self.session.forwards().remove(&self.at);
        self.session.stop_listening(self.at.clone());
    }
}

/// The connection that was listened through is gone.
#[derive(Debug)]
struct Gone(String);

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Gone {}

impl RawListener for SshListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        let Some((channel, peer)) = ready!(self.incoming.poll_recv(cx)) else {
            let why = self.session.inboxes().died().unwrap_or_else(|| "it was closed".into());
            let gone = Gone(format!("the SSH connection to {} ended: {why}", self.session.server()));
            return Poll::Ready(Err(AcceptError::with_source(AcceptErrorKind::Closed, gone)));
        };
        Poll::Ready(Ok(Accepted::Flow(channel.into_flow(peer))))
    }

    fn local(&self) -> Target {
        self.local.clone()
    }
}
