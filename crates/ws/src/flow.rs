//! Bytes in binary frames.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tuyau_core::{Ask, Flow, FlowError, FlowErrorKind, RawFlow, ReadBuf, Role, SharedRuntime};

use crate::config::{Random, Settings};
use crate::error::WsError;
use crate::keepalive::{Due, Keepalive};
use crate::layer::NEGOTIATED_SUBPROTOCOL;
use crate::wakers::Wakers;

/// Holds the longest header and control frame many times over; payload is read past it.
const INPUT: usize = 4096;
/// RFC 6455 section 5.5.
const MAX_CONTROL: u64 = 125;

/// A flow in WebSocket frames.
pub(crate) struct WsFlow {
    lower: Flow,
    role: Role,
    subprotocol: Option<Arc<str>>,
    random: Random,
    max_frame: usize,
    keepalive: Option<Keepalive>,
    wakers: Arc<Wakers>,

    /// What was read and not yet looked at: `input[start..end]`.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    /// The data frame that is being read.
    payload: Payload,
    /// Whether a message has begun and its last frame has not.
    in_message: bool,
    /// The peer's Close has come.
    ended: bool,
    failed: Option<WsError>,

    /// Frames that are on their way: `output[sent..]`.
    output: Vec<u8>,
    sent: usize,
    /// What the peer's latest ping is to be answered with.
    pong: Option<Vec<u8>>,
    /// Whether what the lower flow took is yet to be flushed.
    unflushed: bool,
    close_sent: bool,
}

#[derive(Default)]
struct Payload {
    left: u64,
    mask: Option<[u8; 4]>,
    /// Where in the mask the next byte is.
    phase: usize,
}

impl Payload {
    fn unmask(&mut self, bytes: &mut [u8]) {
        self.left -= bytes.len() as u64;
        if let Some(mask) = self.mask {
            apply_mask(bytes, mask, self.phase);
            self.phase = (self.phase + bytes.len()) % 4;
        }
    }
}

fn apply_mask(bytes: &mut [u8], mut mask: [u8; 4], phase: usize) {
    mask.rotate_left(phase);
    let mask = u32::from_ne_bytes(mask);
    let wide = u64::from(mask) << 32 | u64::from(mask);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.to_ne_bytes().into_iter().cycle()) {
        *byte ^= mask;
    }
}

impl WsFlow {
    pub(crate) fn new(
        lower: Flow,
        role: Role,
        settings: &Settings,
        subprotocol: Option<Arc<str>>,
        runtime: Option<(Duration, SharedRuntime)>,
    ) -> Self {
        Self {
            lower,
            role,
            subprotocol,
            random: settings.random.clone(),
            max_frame: settings.max_frame,
            keepalive: runtime.map(|(interval, runtime)| Keepalive::new(interval, runtime)),
            wakers: Arc::default(),
            input: vec![0; INPUT].into(),
            start: 0,
            end: 0,
            payload: Payload::default(),
            in_message: false,
            ended: false,
            failed: None,
            output: Vec::new(),
            sent: 0,
            pong: None,
            unflushed: false,
            close_sent: false,
        }
    }

    /// Takes a header, and what is behind it if that is a control frame, off the input. `None` if there is
    /// more to read first.
    fn take_header(&mut self) -> Result<Option<()>, WsError> {
        let mut cursor = Cursor::new(&self.input[self.start..self.end]);
        let header = FrameHeader::parse(&mut cursor).map_err(|error| WsError::Protocol(error.to_string()))?;
        let Some((header, length)) = header else { return Ok(None) };
        let body = self.start + cursor.position() as usize;
        self.check(&header, length)?;
        let FrameHeader { is_final, opcode, mask, .. } = header;
        let opcode = match opcode {
            OpCode::Data(data) => {
                match data {
                    Data::Binary | Data::Continue => {}
                    Data::Text => return Err(WsError::Text),
                    Data::Reserved(code) => {
                        return Err(WsError::Protocol(format!("a frame of the unknown type {code}")));
                    }
                }
                self.in_message = !is_final;
                self.payload = Payload { left: length, mask, phase: 0 };
                self.start = body;
                return Ok(Some(()));
            }
            OpCode::Control(control) => control,
        };
        let end = body + length as usize;
        if end > self.end {
            return Ok(None);
        }
        let mut content = self.input[body..end].to_vec();
        if let Some(mask) = mask {
            apply_mask(&mut content, mask, 0);
        }
        self.start = end;
        match opcode {
            // The latest is enough (RFC 6455 section 5.5.3).
            Control::Ping => self.pong = Some(content),
            Control::Pong => {}
            Control::Close => self.closed_by_peer(&content)?,
            Control::Reserved(code) => {
                return Err(WsError::Protocol(format!("a frame of the unknown type {code}")));
            }
        }
        Ok(Some(()))
    }

    /// RFC 6455 sections 5.1, 5.2, 5.4 and 5.5.
    fn check(&self, header: &FrameHeader, length: u64) -> Result<(), WsError> {
        let starts = matches!(header.opcode, OpCode::Data(Data::Binary | Data::Text));
        let control = matches!(header.opcode, OpCode::Control(_));
        let wrong = if header.rsv1 || header.rsv2 || header.rsv3 {
            "a frame of an extension that was not agreed on"
        } else if self.role == Role::Server && header.mask.is_none() {
            "the client sent an unmasked frame"
        } else if self.role == Role::Client && header.mask.is_some() {
            "the server sent a masked frame"
        } else if control && (!header.is_final || length > MAX_CONTROL) {
            "a control frame that is too long, or in pieces"
        } else if starts && self.in_message {
            "a message began in the middle of another"
        } else if header.opcode == OpCode::Data(Data::Continue) && !self.in_message {
            "a message went on that had not begun"
        } else {
            return Ok(());
        };
        Err(WsError::Protocol(wrong.into()))
    }

    fn closed_by_peer(&mut self, content: &[u8]) -> Result<(), WsError> {
        let (code, reason) = match content {
            [] => (1000, ""),
            [high, low, reason @ ..] => {
                let reason = std::str::from_utf8(reason)
                    .map_err(|_| WsError::Protocol("a Close whose reason is no text".into()))?;
                (u16::from_be_bytes([*high, *low]), reason)
            }
            [_] => return Err(WsError::Protocol("a Close with half a status code".into())),
        };
        self.ended = true;
        match code {
            1000 | 1001 => Ok(()),
            1002 | 1003 | 1007..=1014 | 3000..=4999 => Err(WsError::Closed { code, reason: reason.into() }),
            _ => Err(WsError::Protocol(format!("a Close with the status code {code}"))),
        }
    }

    /// Appends a frame to the output. `slices` are its payload.
    fn put(&mut self, opcode: OpCode, slices: &[&[u8]]) {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let mask = (self.role == Role::Client).then(|| self.random.bytes());
        let header = FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask };
        self.output.reserve(header.len(length as u64) + length);
        // Writing to memory does not fail.
        let _ = header.format(length as u64, &mut self.output);
        let start = self.output.len();
        slices.iter().for_each(|slice| self.output.extend_from_slice(slice));
        if let Some(mask) = mask {
            apply_mask(&mut self.output[start..], mask, 0);
        }
        self.unflushed = true;
    }

    fn put_close(&mut self, code: u16) {
        if !self.close_sent {
            self.put(OpCode::Control(Control::Close), &[&code.to_be_bytes()]);
            self.close_sent = true;
        }
    }

    /// Hands the output to the lower flow.
    fn poll_drain(&mut self) -> Poll<Result<(), FlowError>> {
        let waker = Waker::from(self.wakers.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            while self.sent < self.output.len() {
                match ready!(self.lower.poll_write(&mut cx, &[&self.output[self.sent..]]))? {
                    0 => return Poll::Ready(Err(FlowErrorKind::BrokenPipe.into())),
                    n => self.sent += n,
                }
            }
            self.output.clear();
            self.sent = 0;
            match self.pong.take() {
                Some(pong) if !self.close_sent => self.put(OpCode::Control(Control::Pong), &[&pong]),
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_flush_all(&mut self) -> Poll<Result<(), FlowError>> {
        ready!(self.poll_drain())?;
        let waker = Waker::from(self.wakers.clone());
        ready!(self.lower.poll_flush(&mut Context::from_waker(&waker)))?;
        self.unflushed = false;
        // A flow that is idle holds no memory for what it sent.
        self.output = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Sends what a reader owes the peer, as far as that goes now; a write that fails shows when somebody
    /// writes, or when the peer has nothing more to say.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if self.unflushed || self.pong.is_some() {
            self.wakers.reads(cx.waker());
            let _ = self.poll_flush_all();
        }
    }

    fn fail(&mut self, error: WsError, cx: &mut Context<'_>) {
        match &error {
            WsError::Text => self.put_close(1003),
            WsError::Protocol(_) => self.put_close(1002),
            WsError::Closed { .. } => self.put_close(1000),
            WsError::Truncated | WsError::Silent => {}
        }
        self.failed = Some(error);
        self.answer(cx);
    }

    /// While there is nothing to read: the peer is asked whether it is there.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        match ready!(keepalive.poll(cx)) {
            Due::Ping => {
                if !self.close_sent {
                    self.put(OpCode::Control(Control::Ping), &[]);
                }
                self.answer(cx);
                // So that the timer knows whom to wake.
                self.poll_idle(cx)
            }
            Due::GiveUp => {
                self.fail(WsError::Silent, cx);
                Poll::Ready(Ok(()))
            }
        }
    }

    fn heard(&mut self) {
        if let Some(keepalive) = &mut self.keepalive {
            keepalive.heard();
        }
    }

    /// Reads something to look at.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let mut buf = ReadBuf::new(&mut self.input[self.end..]);
        match self.lower.poll_read(cx, &mut buf)? {
            Poll::Ready(()) => {
                let n = buf.filled().len();
                self.end += n;
                self.heard();
                if n == 0 {
                    self.fail(WsError::Truncated, cx);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }

    /// Reads payload of the current frame; at least one byte, unless it failed.
    fn poll_payload(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        let wanted = usize::try_from(self.payload.left).unwrap_or(usize::MAX).min(buf.remaining());
        let here = wanted.min(self.end - self.start);
        if here > 0 {
            let bytes = &mut self.input[self.start..self.start + here];
            self.payload.unmask(bytes);
            buf.put_slice(bytes);
            self.start += here;
            return Poll::Ready(Ok(()));
        }
        // A few bytes: with them come the next frames.
        if wanted < INPUT {
            return self.poll_input(cx);
        }
        let space = &mut buf.initialized_unfilled()[..wanted];
        let mut part = ReadBuf::new(space);
        match self.lower.poll_read(cx, &mut part)? {
            Poll::Ready(()) => {
                let n = part.filled().len();
                self.heard();
                if n == 0 {
                    self.fail(WsError::Truncated, cx);
                }
                self.payload.unmask(&mut space[..n]);
                buf.advance(n);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }
}

impl RawFlow for WsFlow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        self.answer(cx);
        let before = buf.filled().len();
        while buf.remaining() > 0 && buf.filled().len() == before {
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(error.clone().into_flow()));
            }
            if self.ended {
                break;
            }
            if self.payload.left > 0 {
                ready!(self.poll_payload(cx, buf))?;
                continue;
            }
            match self.take_header() {
                Ok(Some(())) => self.answer(cx),
                Ok(None) => ready!(self.poll_input(cx))?,
                Err(error) => self.fail(error, cx),
            }
            if self.ended && self.close_sent && self.failed.is_none() {
                // Both sides have said all: nothing more is to come from us.
                let _ = self.poll_shutdown(cx);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.close_sent {
            let kind = match self.failed {
                None => FlowErrorKind::WriteAfterShutdown,
                Some(_) => FlowErrorKind::BrokenPipe,
            };
            return Poll::Ready(Err(kind.into()));
        }
        self.wakers.writes(cx.waker());
        ready!(self.poll_drain())?;
        let mut left = self.max_frame;
        let parts: Vec<&[u8]> = bytes
            .iter()
            .map(|bytes| {
                let part = &bytes[..bytes.len().min(left)];
                left -= part.len();
                part
            })
            .collect();
        let taken = self.max_frame - left;
        if taken == 0 {
            return Poll::Ready(Ok(0));
        }
        self.put(OpCode::Data(Data::Binary), &parts);
        // All of it in one write below. What does not fit waits.
        match self.poll_drain() {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.wakers.writes(cx.waker());
        self.poll_flush_all()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        self.wakers.writes(cx.waker());
        self.put_close(1000);
        ready!(self.poll_flush_all())?;
        if self.ended {
            let waker = Waker::from(self.wakers.clone());
            return self.lower.poll_shutdown(&mut Context::from_waker(&waker));
        }
        Poll::Ready(Ok(()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn lower(&self) -> Option<&Flow> {
        Some(&self.lower)
    }

    fn lower_mut(&mut self) -> Option<&mut Flow> {
        Some(&mut self.lower)
    }

    /// Refuses: the peer would go on in frames.
    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        if let Some(subprotocol) = &self.subprotocol {
            ask.answer(&NEGOTIATED_SUBPROTOCOL, || subprotocol.clone());
        }
    }
}

/// The peer's Close is answered (RFC 6455 section 5.5.1), if that goes at once. A flow that is dropped before
/// that says nothing: it is no clean end.
impl Drop for WsFlow {
    fn drop(&mut self) {
        if self.ended && !self.close_sent {
            self.put_close(1000);
            let _ = self.poll_flush_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_go_on_where_they_stopped() {
        let plain: Vec<u8> = (0..100).collect();
        let mask = [1, 2, 3, 4];
        let expected: Vec<u8> =
            plain.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        for cut in 0..100 {
            let mut bytes = plain.clone();
            let mut payload = Payload { left: 100, mask: Some(mask), phase: 0 };
            let (front, back) = bytes.split_at_mut(cut);
            payload.unmask(front);
            payload.unmask(back);
            assert_eq!(bytes, expected, "cut at {cut}");
            assert_eq!(payload.left, 0);
        }
    }
}
