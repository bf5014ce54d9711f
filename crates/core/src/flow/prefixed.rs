//! A flow with bytes put back in front.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::task::{Context, Poll};

use super::{Flow, FlowError, RawFlow, ReadBuf};

/// Bytes that were read from a flow and put back: they are read again first.
#[derive(Debug)]
pub struct Prefixed {
    bytes: Vec<u8>,
    read: usize,
    lower: Flow,
}

impl Prefixed {
    pub(super) fn new(bytes: Vec<u8>, lower: Flow) -> Self {
        Self { bytes, read: 0, lower }
    }

    pub(crate) fn below(&self) -> &Flow {
        &self.lower
    }

    /// What was put back and is not yet read again.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }
}

impl RawFlow for Prefixed {
    crate::forward!(lower: write itself lower);

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        let n = self.unread().len().min(buf.remaining());
        if n == 0 {
            return self.lower.poll_read(cx, buf);
        }
        buf.put_slice(&self.bytes[self.read..self.read + n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }

    fn into_lower(mut self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        self.bytes.drain(..self.read);
        Ok((self.lower, self.bytes))
    }

    fn can_fill(&self) -> bool {
        !self.unread().is_empty() || self.lower.can_fill()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        if self.read == self.bytes.len() {
            return self.lower.poll_fill(cx);
        }
        Poll::Ready(Ok(&self.bytes[self.read..]))
    }

    fn consume(&mut self, n: usize) {
        if self.read == self.bytes.len() {
            return self.lower.consume(n);
        }
        self.read += n;
        if self.read == self.bytes.len() {
            (self.bytes, self.read) = (Vec::new(), 0);
        }
    }
}
