//! The buffer that a flow reads into. One of the crate's two modules with `unsafe`: a read must not
//! first zero what the kernel is about to overwrite (5–10 % of bulk throughput).
#![allow(unsafe_code)]

use core::fmt;
use core::mem::MaybeUninit;

/// A buffer being filled by a read: bytes in front are filled, the rest may be uninitialised.
///
/// A transport appends with [`put_slice`](Self::put_slice), or fills
/// [`initialized_unfilled`](Self::initialized_unfilled) and calls [`advance`](Self::advance).
pub struct ReadBuf<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    filled: usize,
    // Invariant: filled <= initialized <= bytes.len(), and bytes[..initialized] is initialised.
    initialized: usize,
}

impl<'a> ReadBuf<'a> {
    /// A buffer over initialised memory, nothing of it filled yet.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let initialized = bytes.len();
        // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and this type never writes an
        // uninitialised byte into the slice, so the caller gets it back initialised.
        let bytes = unsafe { &mut *(bytes as *mut [u8] as *mut [MaybeUninit<u8>]) };
        Self { bytes, filled: 0, initialized }
    }

    /// A buffer over memory that may be uninitialised, nothing of it filled yet.
    pub fn uninit(bytes: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { bytes, filled: 0, initialized: 0 }
    }

    /// What has been filled so far.
    pub fn filled(&self) -> &[u8] {
        let filled = &self.bytes[..self.filled];
        // SAFETY: `filled <= initialized` (the invariant).
        unsafe { &*(filled as *const [MaybeUninit<u8>] as *const [u8]) }
    }

    /// How many more bytes fit.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.filled
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    /// If they don't fit.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        // SAFETY: `MaybeUninit<u8>` has the layout of `u8`; the view is only read.
        let source = unsafe { &*(bytes as *const [u8] as *const [MaybeUninit<u8>]) };
        let end = self.filled + source.len();
        self.bytes[self.filled..end].copy_from_slice(source);
        self.filled = end;
        self.initialized = self.initialized.max(end);
    }

    /// The unfilled part, zeroed where it was uninitialised (each byte once).
    pub fn initialized_unfilled(&mut self) -> &mut [u8] {
        self.bytes[self.initialized..].fill(MaybeUninit::new(0));
        self.initialized = self.bytes.len();
        let unfilled = &mut self.bytes[self.filled..];
        // SAFETY: all of `bytes` has just been initialised.
        unsafe { &mut *(unfilled as *mut [MaybeUninit<u8>] as *mut [u8]) }
    }

    /// Counts `n` more bytes as filled.
    ///
    /// # Panics
    /// If they were never initialised.
    pub fn advance(&mut self, n: usize) {
        let filled = self.filled + n;
        assert!(filled <= self.initialized, "advance past the initialised part");
        self.filled = filled;
    }

    /// The unfilled part as it is.
    ///
    /// # Safety
    /// The caller must not write uninitialised bytes where initialised ones were.
    pub unsafe fn unfilled_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.bytes[self.filled..]
    }

    /// Counts `n` more bytes as initialised and filled.
    ///
    /// # Safety
    /// The first `n` bytes of the unfilled part must be initialised.
    ///
    /// # Panics
    /// If they don't fit.
    pub unsafe fn assume_filled(&mut self, n: usize) {
        let filled = self.filled + n;
        assert!(filled <= self.bytes.len(), "filled past the end");
        self.filled = filled;
        self.initialized = self.initialized.max(filled);
    }
}

impl fmt::Debug for ReadBuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuf").field("filled", &self.filled).field("capacity", &self.bytes.len()).finish()
    }
}

/// Lets a tokio stream read into `buf`, without zeroing it.
#[cfg(feature = "tokio")]
pub(crate) fn read_tokio<S: tokio::io::AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut core::task::Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> core::task::Poll<std::io::Result<()>> {
    // SAFETY: tokio's `ReadBuf` never de-initialises; it is this module's contract as well.
    let mut theirs = tokio::io::ReadBuf::uninit(unsafe { buf.unfilled_mut() });
    let start = theirs.filled().as_ptr();
    let result = core::pin::Pin::new(stream).poll_read(cx, &mut theirs);
    let n = theirs.filled().len();
    assert!(core::ptr::eq(start, theirs.filled().as_ptr()), "the stream swapped the read buffer");
    // SAFETY: tokio guarantees that what it counts as filled is initialised, and it is our buffer
    // that it counted in.
    unsafe { buf.assume_filled(n) };
    result
}

/// Lets `read` fill a tokio buffer, without zeroing it.
#[cfg(feature = "tokio")]
pub(crate) fn fill_tokio<R>(
    theirs: &mut tokio::io::ReadBuf<'_>,
    read: impl FnOnce(&mut ReadBuf<'_>) -> R,
) -> R {
    // SAFETY: `ReadBuf` writes only initialised bytes.
    let mut ours = ReadBuf::uninit(unsafe { theirs.unfilled_mut() });
    let start = ours.filled().as_ptr();
    let result = read(&mut ours);
    let n = ours.filled;
    assert!(core::ptr::eq(start, ours.filled().as_ptr()), "the flow swapped the read buffer");
    // SAFETY: the first `n` bytes of their unfilled part are initialised (the invariant).
    unsafe { theirs.assume_init(n) };
    theirs.advance(n);
    result
}

/// Lets `read` fill a hyper buffer, without zeroing it.
#[cfg(feature = "hyper")]
pub(crate) fn fill_hyper<R>(
    theirs: &mut hyper::rt::ReadBufCursor<'_>,
    read: impl FnOnce(&mut ReadBuf<'_>) -> R,
) -> R {
    // SAFETY: `ReadBuf` writes only initialised bytes.
    let mut ours = ReadBuf::uninit(unsafe { theirs.as_mut() });
    let start = ours.filled().as_ptr();
    let result = read(&mut ours);
    let n = ours.filled;
    assert!(core::ptr::eq(start, ours.filled().as_ptr()), "the flow swapped the read buffer");
    // SAFETY: the first `n` bytes behind the cursor are initialised (the invariant).
    unsafe { theirs.advance(n) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_in_every_way_keeps_the_invariant() {
        let mut memory = [MaybeUninit::uninit(); 8];
        let mut buf = ReadBuf::uninit(&mut memory);
        buf.put_slice(b"ab");
        buf.initialized_unfilled()[..2].copy_from_slice(b"cd");
        buf.advance(2);
        assert_eq!(buf.filled(), b"abcd");
        assert_eq!(buf.remaining(), 4);
    }

    #[test]
    #[should_panic(expected = "advance past the initialised part")]
    fn uninitialised_bytes_are_never_counted_as_filled() {
        ReadBuf::uninit(&mut [MaybeUninit::uninit(); 2]).advance(1);
    }
}
