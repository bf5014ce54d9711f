//! Flows: connected, bidirectional byte streams of unknown make.

mod buf;
mod error;
mod forward;
mod prefixed;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::future::poll_fn;
use core::task::{Context, Poll, ready};

#[cfg(feature = "hyper")]
pub(crate) use buf::fill_hyper;
#[cfg(feature = "tokio")]
pub(crate) use buf::{fill_tokio, read_tokio};

pub use buf::ReadBuf;
pub use error::{FlowError, FlowErrorKind};
pub use prefixed::Prefixed;

use crate::{Key, KeyRef};

/// What a transport implements to be carried by a [`Flow`].
///
/// Four methods are required. A wrapper (a layer, a counter, a limiter) also implements
/// [`lower`](Self::lower) and [`into_lower`](Self::into_lower), and forwards
/// [`poll_fill`](Self::poll_fill) if bytes pass through it unchanged: [`forward!`](crate::forward) writes
/// what it does not change.
///
/// All poll methods follow the usual contract of `Future::poll`: on `Pending` the waker of the
/// latest call will be woken. Dropping the flow closes both directions.
pub trait RawFlow: Any + Send + Sync {
    /// Reads into `buf`. `Ready(Ok(()))` with nothing filled, though there was room, is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>>;

    /// Writes from the slices, in order, and says how many bytes it took. This is the only write,
    /// so that no wrapper can lose vectored writes. It takes at least one byte if any slice has
    /// one; bytes taken may wait in a buffer until [`poll_flush`](Self::poll_flush).
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>>;

    /// Hands everything written so far to the layer below.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>>;

    /// Flushes, then ends the write side, and only that: the peer reads the end, and can go on
    /// sending. Calling it again does nothing.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>>;

    /// The type that [`Flow::find`] looks for. An adapter returns what it adapts.
    fn as_any(&self) -> &dyn Any;

    /// Like [`as_any`](Self::as_any), to change it.
    fn as_any_mut(&mut self) -> &mut dyn Any;

    /// The flow below, if this one wraps another.
    fn lower(&self) -> Option<&Flow> {
        None
    }

    /// The flow below, to change it.
    fn lower_mut(&mut self) -> Option<&mut Flow> {
        None
    }

    /// Takes the wrapper off: the flow below, and bytes that were read from it but not yet handed
    /// on. A flow that wraps nothing, or whose state can't be left (TLS), refuses.
    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>>;

    /// Answers what is asked, if this flow knows it. What it doesn't answer, the flow below is asked.
    fn fact(&self, _ask: &mut Ask<'_>) {}

    /// Whether [`poll_fill`](Self::poll_fill) works.
    fn can_fill(&self) -> bool {
        false
    }

    /// Lends bytes that the driver has already, without a copy; empty is the end. They stay until
    /// [`consume`](Self::consume)d.
    fn poll_fill(&mut self, _cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        Poll::Ready(Err(FlowErrorKind::Unsupported.into()))
    }

    /// Counts `n` of the lent bytes as read.
    fn consume(&mut self, _n: usize) {}
}

/// A question to a flow: the value of one fact.
pub struct Ask<'a> {
    key: KeyRef,
    answer: &'a mut dyn Any,
    answered: bool,
}

impl Ask<'_> {
    /// Answers with `value()`, if `key` is what was asked for and nobody has answered yet.
    pub fn answer<T: 'static>(&mut self, key: &'static Key<T>, value: impl FnOnce() -> T) -> &mut Self {
        if !self.answered
            && self.key == key.erase()
            && let Some(slot) = self.answer.downcast_mut::<Option<T>>()
        {
            *slot = Some(value());
            self.answered = true;
        }
        self
    }

    /// Ends the question: no flow below is asked, for what it knows is about somebody else. (Through a
    /// proxy, the peer's certificate is not the proxy's.)
    pub fn stop(&mut self) {
        self.answered = true;
    }
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").field("key", &self.key).field("answered", &self.answered).finish()
    }
}

/// A connected, bidirectional byte stream of unknown make.
///
/// Build one from any transport in one line: [`Flow::new`] for a [`RawFlow`], `Flow::from_tokio`
/// and `Flow::from_futures_io` for what has those traits. With the features of those names, a
/// `Flow` implements the traits itself.
///
/// Dropping a flow closes it in both directions without waiting; [`shutdown`](Self::shutdown)
/// first, where the peer must see a clean end.
pub struct Flow(pub(crate) Box<dyn RawFlow>);

impl Flow {
    /// A flow over `raw`.
    pub fn new(raw: impl RawFlow) -> Self {
        Self(Box::new(raw))
    }

    /// Reads some bytes; 0 is the end (or an empty `buf`).
    ///
    /// Cancel safe: if dropped before it is ready, nothing was read.
    pub async fn read(&mut self, buf: &mut [u8]) -> Result<usize, FlowError> {
        // Transports differ in whether they wait for bytes first.
        if buf.is_empty() {
            return Ok(0);
        }
        let mut buf = ReadBuf::new(buf);
        poll_fn(|cx| self.poll_read(cx, &mut buf)).await?;
        Ok(buf.filled().len())
    }

    /// Fills `buf`, or fails with [`FlowErrorKind::UnexpectedEof`].
    ///
    /// Not cancel safe: bytes read so far are in `buf`, but not counted.
    pub async fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), FlowError> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..]).await? {
                0 => return Err(FlowErrorKind::UnexpectedEof.into()),
                n => filled += n,
            }
        }
        Ok(())
    }

    /// Writes all of `bytes`, and flushes.
    ///
    /// Not cancel safe: if dropped, an unknown part was written.
    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), FlowError> {
        let mut written = 0;
        while written < bytes.len() {
            match poll_fn(|cx| self.poll_write(cx, &[&bytes[written..]])).await? {
                0 => return Err(FlowErrorKind::BrokenPipe.into()),
                n => written += n,
            }
        }
        self.flush().await
    }

    /// Hands everything written so far to the transport. Cancel safe.
    pub async fn flush(&mut self) -> Result<(), FlowError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Flushes and ends the write side; reading goes on. Cancel safe: call it again to go on.
    pub async fn shutdown(&mut self) -> Result<(), FlowError> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// See [`RawFlow::poll_read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        self.0.poll_read(cx, buf)
    }

    /// See [`RawFlow::poll_write`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        self.0.poll_write(cx, bytes)
    }

    /// See [`RawFlow::poll_flush`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.0.poll_flush(cx)
    }

    /// See [`RawFlow::poll_shutdown`].
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.0.poll_shutdown(cx)
    }

    /// Whether the driver lends its own buffer: see [`poll_fill`](Self::poll_fill).
    pub fn can_fill(&self) -> bool {
        self.0.can_fill()
    }

    /// Lends bytes that the driver has, without a copy; empty is the end. Fails with
    /// [`FlowErrorKind::Unsupported`] unless [`can_fill`](Self::can_fill).
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        self.0.poll_fill(cx)
    }

    /// Counts `n` of the bytes that [`poll_fill`](Self::poll_fill) lent as read.
    pub fn consume(&mut self, n: usize) {
        self.0.consume(n);
    }

    /// This flow, or the nearest one below it, that is a `T`.
    pub fn find<T: 'static>(&self) -> Option<&T> {
        let mut flow = self;
        loop {
            match flow.0.as_any().downcast_ref() {
                Some(found) => return Some(found),
                None => flow = flow.0.lower()?,
            }
        }
    }

    /// This flow itself, if it is a `T`: nothing lies over it.
    pub fn outermost<T: 'static>(&self) -> Option<&T> {
        self.0.as_any().downcast_ref()
    }

    /// Like [`find`](Self::find), to change it.
    pub fn find_mut<T: 'static>(&mut self) -> Option<&mut T> {
        let mut flow = self;
        while !flow.0.as_any().is::<T>() {
            flow = flow.0.lower_mut()?;
        }
        flow.0.as_any_mut().downcast_mut()
    }

    /// Takes the outermost wrapper off: the flow below it, and the bytes that the wrapper had read
    /// from it but not yet handed on. Where that can't be, the flow comes back as it was.
    pub fn into_lower(self) -> Result<(Flow, Vec<u8>), Flow> {
        self.0.into_lower().map_err(Flow)
    }

    /// The flow as the `T` that it was built from. It refuses, and gives the flow back, if the
    /// outermost flow is no `T`: unwrap with [`into_lower`](Self::into_lower) first.
    pub fn into_inner<T: RawFlow>(self) -> Result<T, Flow> {
        if !(&*self.0 as &dyn Any).is::<T>() {
            return Err(self);
        }
        match (self.0 as Box<dyn Any>).downcast::<T>() {
            Ok(raw) => Ok(*raw),
            Err(_) => unreachable!("the type was checked above"),
        }
    }

    /// What this flow, or the nearest one below that knows, says about `key`.
    pub fn fact<T: 'static>(&self, key: &'static Key<T>) -> Option<T> {
        let mut answer: Option<T> = None;
        let mut ask = Ask { key: key.erase(), answer: &mut answer, answered: false };
        let mut flow = Some(self);
        while let Some(this) = flow {
            this.0.fact(&mut ask);
            if ask.answered {
                break;
            }
            flow = this.0.lower();
        }
        answer
    }

    /// Puts bytes back in front of what will be read next.
    pub fn with_unread(self, bytes: Vec<u8>) -> Self {
        if bytes.is_empty() { self } else { Flow::new(Prefixed::new(bytes, self)) }
    }
}

impl<R: RawFlow> From<R> for Flow {
    fn from(raw: R) -> Self {
        Self::new(raw)
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Flow").field(&self.fact(&crate::names::PEER)).finish()
    }
}

/// Copies both ways until both sides have ended, half-closing each when the other ends. The bytes
/// that went from `a` to `b`, and from `b` to `a`.
///
/// Not cancel safe. Fails with the first error of either direction.
pub async fn copy_bidirectional(a: &mut Flow, b: &mut Flow) -> Result<(u64, u64), FlowError> {
    let mut there = Pump::new();
    let mut back = Pump::new();
    poll_fn(|cx| {
        let there_done = there.poll(cx, a, b)?.is_ready();
        let back_done = back.poll(cx, b, a)?.is_ready();
        if there_done && back_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
    .map(|()| (there.moved, back.moved))
}

/// One direction of a copy.
struct Pump {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    moved: u64,
    state: PumpState,
}

#[derive(PartialEq)]
enum PumpState {
    Copying,
    Ending,
    Done,
}

impl Pump {
    fn new() -> Self {
        let buffer = alloc::vec![0; 64 * 1024].into_boxed_slice();
        Self { buffer, start: 0, end: 0, moved: 0, state: PumpState::Copying }
    }

    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Flow, to: &mut Flow) -> Poll<Result<(), FlowError>> {
        while self.state == PumpState::Copying {
            if self.start == self.end {
                let mut buf = ReadBuf::new(&mut self.buffer);
                match from.poll_read(cx, &mut buf)? {
                    Poll::Ready(()) => (self.start, self.end) = (0, buf.filled().len()),
                    Poll::Pending => {
                        ready!(to.poll_flush(cx))?;
                        return Poll::Pending;
                    }
                }
                if self.end == 0 {
                    self.state = PumpState::Ending;
                    break;
                }
            }
            match ready!(to.poll_write(cx, &[&self.buffer[self.start..self.end]]))? {
                0 => return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into())),
                n => {
                    self.start += n;
                    self.moved += n as u64;
                }
            }
        }
        if self.state == PumpState::Ending {
            ready!(to.poll_shutdown(cx))?;
            self.state = PumpState::Done;
        }
        Poll::Ready(Ok(()))
    }
}
