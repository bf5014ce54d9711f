//! The flow below hyper: sees what goes by, and closes what hyper leaves open.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tuyau_core::{Flow, FlowError, FlowErrorKind, RawFlow, ReadBuf, forward};

use super::frames::{Bucket, CONTINUATION, DATA, Frame, HEADERS, PREFACE, RST_STREAM, Scanner};
use super::watch::{Kind, Watch};
use crate::error::{Limit, ServeError};
use crate::limits::Patience;

/// Makes the bytes of the response to a request that hyper can't parse, from those that hyper would
/// answer it with.
pub(crate) type Replace = Arc<dyn Fn(&[u8]) -> BytesMut + Send + Sync>;

pub(crate) struct Guard {
    flow: Flow,
    /// Read by whoever looked which version it is.
    unread: Bytes,
    /// Goes out before anything else, at the next flush at the latest.
    waiting: BytesMut,
    watch: Arc<Watch>,
    patience: Patience,
    shut: bool,
    spoken: Spoken,
}

enum Spoken {
    H1(H1),
    H2(Box<H2>),
}

struct H1 {
    replace: Option<Replace>,
    /// How many requests there had been when all that was to be written was; what is written next, though no
    /// further one came, answers what hyper could not parse.
    answered: Option<u64>,
    /// What hyper would answer, until something else is answered in its place.
    taken: Option<Vec<u8>>,
    /// The client has ended its side, of which hyper is not told before all that was asked for is answered.
    ended: bool,
}

struct H2 {
    read: Scanner,
    written: Scanner,
    resets: Bucket,
    control: Bucket,
    last_stream: u32,
    /// Of the body that goes out, since it was last taken for activity.
    moved: u32,
    /// What is still read of a client that is to hang up.
    rest: usize,
}

/// So much a client may still say after the last word, before it is reset for it.
const REST: usize = 128 * 1024;

/// What is not longer is put together before it is written: to copy it takes less time than the kernel takes to
/// look at several pieces.
const SMALL: usize = 4096;

/// So much of HTTP/2 is put together before it is written, which h2 would write by single frames: a piece of 64 KiB,
/// as bodies often come, with the heads of its frames.
const TOGETHER: usize = 65 * 1024;

/// So much of a body must go out to be taken for activity: a window that is opened by single bytes is not.
const MOVED: u32 = 1024;

impl Guard {
    pub(crate) fn new(flow: Flow, unread: Bytes, watch: &Arc<Watch>, replace: Option<Replace>) -> Self {
        let limits = &watch.limits;
        let spoken = match watch.kind {
            Kind::H1 => Spoken::H1(H1 { replace, answered: Some(0), taken: None, ended: false }),
            Kind::H2 => Spoken::H2(Box::new(H2 {
                read: Scanner::new(PREFACE.len()),
                written: Scanner::new(0),
                resets: Bucket::new(limits.h2_resets),
                control: Bucket::new(limits.h2_control_frames),
                last_stream: 0,
                moved: 0,
                rest: REST,
            })),
        };
        let patience = Patience::new(limits.write_idle, limits.min_rate);
        let (waiting, watch) = (BytesMut::new(), watch.clone());
        let mut guard = Self { flow, unread, waiting, watch, patience, shut: false, spoken };
        let unread = guard.unread.clone();
        if !unread.is_empty() {
            guard.has_read(&unread);
        }
        guard
    }

    /// The flow below, and what of it is still to be read.
    pub(crate) fn into_parts(self) -> (Flow, Bytes) {
        (self.flow, self.unread)
    }

    fn has_read(&mut self, bytes: &[u8]) -> bool {
        match &mut self.spoken {
            Spoken::H1(_) => {
                if self.watch.is_idle() {
                    self.watch.head(true);
                }
                true
            }
            Spoken::H2(h2) => h2.has_read(bytes, &self.watch),
        }
    }

    /// Whether hyper is not told yet that the client has ended its side. It would take it for gone, which looks the
    /// same, and answer nothing any more.
    #[cold]
    fn keeps_the_end(&mut self) -> bool {
        let Self { watch, spoken: Spoken::H1(h1), .. } = self else { return false };
        let answered = watch.is_idle() && h1.answered == Some(watch.requests());
        if answered || watch.is_upgraded() || watch.limits.half_closed.is_zero() {
            return false;
        }
        if !h1.ended {
            h1.ended = true;
            watch.has_ended();
        }
        true
    }

    /// Ends the connection, telling the client why if that can be done at once.
    fn breach(&mut self, cx: &mut Context<'_>) -> FlowError {
        if let Spoken::H2(h2) = &self.spoken
            && h2.written.at_boundary()
        {
            const ENHANCE_YOUR_CALM: u32 = 0xb;
            let [a, b, c, d] = h2.last_stream.to_be_bytes();
            let [.., code] = ENHANCE_YOUR_CALM.to_be_bytes();
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, code];
            self.waiting.extend_from_slice(&goaway);
            // Who floods may well not read either: no waiting.
            let _ = self.poll_flush(cx);
        }
        let limit = self.watch.breached().unwrap_or(Limit::H2ControlFrames);
        FlowError::with_source(FlowErrorKind::InvalidData, ServeError::limit(limit))
    }

    /// Notes whether the flow takes bytes.
    fn progress<T>(&mut self, poll: Poll<T>, bytes: impl FnOnce(&T) -> usize) -> Poll<T> {
        match &poll {
            Poll::Pending => self.watch.blocked(self.patience.left()),
            Poll::Ready(done) => {
                if self.watch.is_blocked() {
                    self.patience.waited(self.watch.unblocked());
                }
                self.patience.earned(bytes(done));
            }
        }
        poll
    }

    /// Writes what waits.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        while !self.waiting.is_empty() {
            let poll = self.flow.poll_write(cx, &[&self.waiting]);
            match ready!(self.progress(poll, |written| *written.as_ref().unwrap_or(&0)))? {
                0 => return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into())),
                n if n == self.waiting.len() => self.waiting = BytesMut::new(),
                n => self.waiting.advance(n),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl H2 {
    /// False if that was too much.
    fn has_read(&mut self, bytes: &[u8], watch: &Watch) -> bool {
        let Self { read, resets, control, last_stream, .. } = self;
        let mut breached = None;
        read.feed(bytes, |frame| {
            let Frame { kind, len, stream, .. } = frame;
            *last_stream = stream.max(*last_stream);
            match kind {
                HEADERS => {
                    watch.active();
                    control.give(2.0);
                }
                DATA if len > 0 || frame.ends_stream() => {
                    watch.active();
                    control.give(2.0);
                }
                CONTINUATION if len > 0 => {}
                RST_STREAM if !resets.take(watch.now()) => breached = Some(Limit::H2Resets),
                RST_STREAM => {}
                _ if !control.take(watch.now()) => breached = Some(Limit::H2ControlFrames),
                _ => {}
            }
        });
        if read.has_begun() {
            watch.preface_came();
        }
        watch.head(read.in_header_block());
        if let Some(limit) = breached {
            watch.breach(limit);
        }
        breached.is_none()
    }

    fn has_written(&mut self, bytes: &[u8], watch: &Watch) {
        let Self { written, control, moved, .. } = self;
        let mut active = false;
        written.feed(bytes, |frame| {
            if matches!(frame.kind, DATA | HEADERS) {
                // What answers them: windows that are opened, of the stream and of the connection.
                control.give(3.0);
                *moved = moved.saturating_add(frame.len);
                active |= frame.kind == HEADERS || frame.ends_stream() || *moved >= MOVED;
            }
        });
        if active {
            *moved = 0;
            watch.active();
        }
    }
}

impl H1 {
    /// Whether what is about to be written answers what hyper could not parse.
    fn is_refusal(&self, watch: &Watch) -> bool {
        !watch.is_upgraded() && watch.is_idle() && self.answered == Some(watch.requests())
    }
}

impl RawFlow for Guard {
    forward!(flow: itself lower);

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if !self.unread.is_empty() {
            let n = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread[..n]);
            self.unread.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(self.flow.poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if bytes.is_empty() {
            return if buf.remaining() > 0 && self.keeps_the_end() {
                Poll::Pending
            } else {
                Poll::Ready(Ok(()))
            };
        }
        if !self.has_read(bytes) {
            return Poll::Ready(Err(self.breach(cx)));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if let Spoken::H1(h1) = &mut self.spoken {
            if h1.ended {
                self.watch.has_ended();
            }
            if h1.is_refusal(&self.watch) {
                // The client may still be sending what is not going to be read.
                self.watch.body_was_dropped();
                if h1.replace.is_some() {
                    let whole = bytes.concat();
                    h1.taken.get_or_insert_default().extend_from_slice(&whole);
                    return Poll::Ready(Ok(whole.len()));
                }
            }
        }
        let len = bytes.iter().map(|bytes| bytes.len()).sum();
        if let Spoken::H2(_) = self.spoken
            && self.waiting.len() + len > TOGETHER
        {
            ready!(self.poll_waiting(cx))?;
        }
        if let Spoken::H2(h2) = &mut self.spoken
            && len <= TOGETHER
        {
            self.waiting.reserve(if len > SMALL { TOGETHER - self.waiting.len() } else { len });
            for bytes in bytes {
                self.waiting.extend_from_slice(bytes);
                h2.has_written(bytes, &self.watch);
            }
            return Poll::Ready(Ok(len));
        }
        let poll = match len {
            1..=SMALL if bytes.len() > 1 => {
                let mut room = [const { MaybeUninit::uninit() }; SMALL];
                let mut whole = ReadBuf::uninit(&mut room);
                bytes.iter().for_each(|bytes| whole.put_slice(bytes));
                self.flow.poll_write(cx, &[whole.filled()])
            }
            _ => self.flow.poll_write(cx, bytes),
        };
        let poll = self.progress(poll, |written| *written.as_ref().unwrap_or(&0));
        if let (Poll::Ready(Ok(written)), Spoken::H2(h2)) = (&poll, &mut self.spoken) {
            let mut left = *written;
            for bytes in bytes {
                let n = left.min(bytes.len());
                h2.has_written(&bytes[..n], &self.watch);
                left -= n;
            }
        }
        poll
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if let Spoken::H1(H1 { replace: Some(replace), taken, .. }) = &mut self.spoken
            && let Some(taken) = taken.take()
        {
            self.waiting = replace(&taken);
        }
        ready!(self.poll_waiting(cx))?;
        let poll = self.flow.poll_flush(cx);
        ready!(self.progress(poll, |_| 0))?;
        if let Spoken::H1(h1) = &mut self.spoken {
            let answered = self.watch.is_idle().then(|| self.watch.requests());
            if h1.ended && h1.answered != answered {
                // Now hyper may have it.
                cx.waker().wake_by_ref();
            }
            h1.answered = answered;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if !self.shut {
            ready!(self.poll_flush(cx))?;
            let poll = self.flow.poll_shutdown(cx);
            ready!(self.progress(poll, |_| 0))?;
            self.shut = true;
            self.watch.said_all();
        }
        // A socket that is closed with bytes unread resets the connection, and the response with it.
        while self.watch.must_linger() && !self.watch.is_upgraded() {
            let mut bytes = [0; 4096];
            let mut buf = ReadBuf::new(&mut bytes);
            match ready!(self.flow.poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => break,
            }
            if let Spoken::H2(h2) = &mut self.spoken {
                h2.rest = h2.rest.saturating_sub(buf.filled().len());
                if h2.rest == 0 {
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Ok((self.flow, self.unread.to_vec()))
    }
}
