//! What the server sent on one channel, and nobody has read yet.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use russh::ChannelId;
use tokio::sync::Notify;
use tuyau_core::Instant;

use crate::exec::Exit;

/// How much may wait on one channel before the whole connection waits for its reader. russh widens
/// the window of a channel as data arrive, not as they are read, so that the server can't be told to
/// stop sending on one channel alone.
pub(crate) const LIMIT: usize = 8 * 1024 * 1024;
/// Small packets must not cost nothing.
const PER_PACKET: usize = 64;
/// How much of what a command says on its standard error is kept, for the error if it fails.
const LAST_WORDS: usize = 4096;

/// Gets what a command writes to its standard error.
pub(crate) type ErrorSink = Arc<dyn Fn(&[u8]) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Inbox(Mutex<State>);

#[derive(Default)]
struct State {
    data: VecDeque<Bytes>,
    unread: usize,
    /// How many bytes the reader has had.
    taken: u64,
    /// When something came or was written last.
    active: Instant,
    end: bool,
    closed: bool,
    /// Why the connection has ended, if it has.
    died: Option<Arc<str>>,
    /// Nobody reads any more.
    abandoned: bool,
    /// Its reader kept others waiting.
    given_up: bool,
    reply: Option<bool>,
    exit: Option<Exit>,
    sink: Option<ErrorSink>,
    last_words: Vec<u8>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    connection: Option<Waker>,
}

/// What there is to be read.
pub(crate) enum Next {
    Data(Bytes),
    End,
    /// The server closed the channel, which it had not ended.
    Closed,
    Died(Arc<str>),
    GivenUp,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let wakers = [state.reader.take(), state.writer.take(), state.connection.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Data that arrived. Says whether there is too much now.
    pub(crate) fn put(&self, data: &[u8], now: Instant) -> bool {
        let mut state = self.state();
        if state.abandoned {
            return false;
        }
        state.active = now;
        state.data.push_back(Bytes::copy_from_slice(data));
        state.unread += data.len() + PER_PACKET;
        let (full, reader) = (state.unread > LIMIT, state.reader.take());
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        full
    }

    /// Is ready when there is room again.
    pub(crate) async fn room(&self) {
        poll_fn(|cx| {
            let mut state = self.state();
            if state.unread <= LIMIT / 2 || state.abandoned {
                return Poll::Ready(());
            }
            state.connection = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Something is written.
    pub(crate) fn touch(&self, now: Instant) {
        self.state().active = now;
    }

    pub(crate) fn taken(&self) -> u64 {
        self.state().taken
    }

    /// What waits is thrown away, and the reader told so.
    fn give_up(&self) {
        self.change(|state| {
            state.abandoned = true;
            state.given_up = true;
            state.closed = true;
            state.data.clear();
            state.unread = 0;
        });
    }

    pub(crate) fn put_error(&self, data: &[u8]) {
        let mut state = self.state();
        if let Some(sink) = state.sink.clone() {
            drop(state);
            sink(data);
            return;
        }
        state.last_words.extend_from_slice(data);
        let excess = state.last_words.len().saturating_sub(LAST_WORDS);
        state.last_words.drain(..excess);
    }

    pub(crate) fn set_sink(&self, sink: Option<ErrorSink>) {
        self.state().sink = sink;
    }

    pub(crate) fn end(&self) {
        self.change(|state| state.end = true);
    }

    /// Whether the server has sent the end.
    pub(crate) fn has_ended(&self) -> bool {
        self.state().end
    }

    fn die(&self, why: &Arc<str>) {
        self.change(|state| state.died = Some(why.clone()));
    }

    pub(crate) fn reply(&self, success: bool) {
        self.change(|state| state.reply = Some(success));
    }

    pub(crate) fn exit(&self, exit: Exit) {
        self.change(|state| state.exit = Some(exit));
    }

    /// Nobody will read: what waits is thrown away.
    pub(crate) fn abandon(&self) {
        self.change(|state| {
            state.abandoned = true;
            state.data.clear();
            state.unread = 0;
            state.sink = None;
        });
    }

    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.state();
        if let Some(data) = state.data.pop_front() {
            state.unread -= data.len() + PER_PACKET;
            state.taken += data.len() as u64;
            let connection = if state.unread <= LIMIT / 2 { state.connection.take() } else { None };
            drop(state);
            if let Some(connection) = connection {
                connection.wake();
            }
            return Poll::Ready(Next::Data(data));
        }
        if state.given_up {
            return Poll::Ready(Next::GivenUp);
        }
        if state.end {
            return Poll::Ready(Next::End);
        }
        if let Some(why) = &state.died {
            return Poll::Ready(Next::Died(why.clone()));
        }
        if state.closed {
            return Poll::Ready(Next::Closed);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the server no longer takes data; if it does, who writes is woken when that changes.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Option<Arc<str>>> {
        let mut state = self.state();
        if state.closed || state.died.is_some() {
            return Poll::Ready(state.died.clone());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits for the answer to a request; `None` if there will be none.
    pub(crate) async fn replied(&self) -> Option<bool> {
        poll_fn(|cx| {
            let mut state = self.state();
            if let Some(reply) = state.reply.take() {
                return Poll::Ready(Some(reply));
            }
            if state.closed || state.died.is_some() {
                return Poll::Ready(None);
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until it is known how the command ended; `None` if that never will be.
    pub(crate) fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<Option<Exit>> {
        let mut state = self.state();
        if state.exit.is_some() || state.closed || state.died.is_some() {
            return Poll::Ready(state.exit.clone());
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn last_words(&self) -> String {
        String::from_utf8_lossy(&self.state().last_words).trim_end().to_owned()
    }
}

/// The inboxes of all channels of a connection.
#[derive(Default)]
pub(crate) struct Inboxes {
    boxes: Mutex<Boxes>,
    /// Told when the last channel is closed.
    empty: Notify,
}

#[derive(Default)]
struct Boxes {
    of: HashMap<ChannelId, Arc<Inbox>>,
    died: Option<Arc<str>>,
}

impl Inboxes {
    fn boxes(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a channel that is open now. Both who opened it and what it sends may come first.
    pub(crate) fn open(&self, id: ChannelId) -> Arc<Inbox> {
        let mut boxes = self.boxes();
        let inbox = boxes.of.entry(id).or_default().clone();
        let died = boxes.died.clone();
        drop(boxes);
        if let Some(why) = died {
            inbox.die(&why);
        }
        inbox
    }

    /// For what arrives on a channel; none if it is for nobody any more.
    pub(crate) fn of(&self, id: ChannelId) -> Option<Arc<Inbox>> {
        self.boxes().of.get(&id).cloned()
    }

    /// The server closed a channel, or we do.
    pub(crate) fn close(&self, id: ChannelId) {
        let mut boxes = self.boxes();
        let inbox = boxes.of.remove(&id);
        let empty = boxes.of.is_empty();
        drop(boxes);
        if let Some(inbox) = inbox {
            inbox.change(|state| state.closed = true);
        }
        if empty {
            self.empty.notify_waiters();
        }
    }

    /// Whether somebody waits for what comes on another channel than this, where something came or was written since
    /// `began`, or not long before.
    pub(crate) fn others_wait(&self, id: ChannelId, began: Instant, not_long: Duration) -> bool {
        self.boxes().of.iter().filter(|(other, _)| **other != id).any(|(_, inbox)| {
            let state = inbox.state();
            state.reader.is_some() && state.active + not_long >= began
        })
    }

    /// Gives up what waits on a channel, and all that still comes on it.
    pub(crate) fn give_up(&self, id: ChannelId) {
        let inbox = self.of(id);
        self.close(id);
        if let Some(inbox) = inbox {
            inbox.give_up();
        }
    }

    /// Waits until no channel is open.
    pub(crate) async fn all_closed(&self) {
        loop {
            let empty = self.empty.notified();
            if self.boxes().of.is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// Nothing more arrives at all. The first reason counts.
    pub(crate) fn die(&self, why: impl Into<Arc<str>>) {
        let mut boxes = self.boxes();
        if boxes.died.is_some() {
            return;
        }
        let why = why.into();
        boxes.died = Some(why.clone());
        let all = std::mem::take(&mut boxes.of);
        drop(boxes);
        all.values().for_each(|inbox| inbox.die(&why));
        self.empty.notify_waiters();
    }

    /// Why nothing arrives any more, if so.
    pub(crate) fn died(&self) -> Option<Arc<str>> {
        self.boxes().died.clone()
    }
}
