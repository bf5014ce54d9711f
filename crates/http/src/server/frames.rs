//! The frames of HTTP/2 (RFC 9113 section 4) as they go by: their heads, and nothing else.

/// What a client of HTTP/2 sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const HEAD: usize = 9;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    fn is_of_headers(&self) -> bool {
        matches!(self.kind, HEADERS | CONTINUATION)
    }
}

/// Follows one direction.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// Of the preface, or of a frame's payload.
    skip: u32,
    head: [u8; HEAD],
    have: usize,
    last: Option<Frame>,
    begun: bool,
    /// Header blocks go on in CONTINUATION frames until one says that it is the last.
    in_headers: bool,
}

impl Scanner {
    /// `preface` bytes come before the first frame.
    pub(crate) fn new(preface: usize) -> Self {
        Self { skip: preface as u32, head: [0; HEAD], have: 0, last: None, begun: false, in_headers: false }
    }

    /// Calls `f` with the head of each frame that `bytes` complete.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut f: impl FnMut(Frame)) {
        loop {
            let skip = bytes.len().min(self.skip as usize);
            self.skip -= skip as u32;
            bytes = &bytes[skip..];
            if bytes.is_empty() {
                break;
            }
            let head = match bytes.split_first_chunk::<HEAD>() {
                // Mostly it is there as a whole.
                Some((head, rest)) if self.have == 0 => {
                    bytes = rest;
                    *head
                }
                _ => {
                    let take = bytes.len().min(HEAD - self.have);
                    self.head[self.have..self.have + take].copy_from_slice(&bytes[..take]);
                    self.have += take;
                    bytes = &bytes[take..];
                    if self.have < HEAD {
                        break;
                    }
                    self.have = 0;
                    self.head
                }
            };
            let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
            let frame = Frame {
                len: u32::from_be_bytes([0, l0, l1, l2]),
                kind,
                flags,
                stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
            };
            self.skip = frame.len;
            if frame.is_of_headers() {
                self.in_headers = frame.flags & END_HEADERS == 0;
            }
            self.begun |= self.last.is_some();
            self.last = Some(frame);
            f(frame);
        }
        self.begun |= self.last.is_some() && self.skip == 0;
    }

    /// Between two frames.
    pub(crate) fn at_boundary(&self) -> bool {
        self.skip == 0 && self.have == 0
    }

    /// Whether at least one whole frame has gone by.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether a header block has begun and not ended.
    pub(crate) fn in_header_block(&self) -> bool {
        self.in_headers || (self.skip > 0 && self.last.is_some_and(|frame| frame.is_of_headers()))
    }
}

/// So many things per second, and ten times as many at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: f64,
    rate: f64,
    last: u64,
}

impl Bucket {
    pub(crate) fn new(rate: u32) -> Self {
        let rate = f64::from(rate);
        Self { left: 10.0 * rate, rate, last: 0 }
    }

    /// Takes one, `now` in nanoseconds; false if there is none left.
    pub(crate) fn take(&mut self, now: u64) -> bool {
        let since = now.saturating_sub(self.last) as f64 / 1e9;
        self.last = now;
        self.give(since * self.rate);
        self.left -= 1.0;
        self.left >= 0.0
    }

    pub(crate) fn give(&mut self, n: f64) {
        self.left = (self.left + n).min(10.0 * self.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let bytes = [
            PREFACE.to_vec(),
            frame(4, 0, 0, &[0; 6]),
            frame(1, 4, 1, b"headers"),
            frame(0, 1, 1, &[7; 300]),
        ]
        .concat();
        for cut in 1..bytes.len() {
            let mut scanner = Scanner::new(PREFACE.len());
            let mut kinds = Vec::new();
            for piece in bytes.chunks(cut) {
                scanner.feed(piece, |frame| kinds.push((frame.kind, frame.stream, frame.len)));
            }
            assert_eq!(kinds, [(4, 0, 6), (1, 1, 7), (0, 1, 300)], "{cut}");
            assert!(scanner.at_boundary() && scanner.has_begun() && !scanner.in_header_block());
        }
    }

    #[test]
    fn a_header_block_ends_with_its_last_continuation() {
        let mut scanner = Scanner::new(0);
        scanner.feed(&frame(HEADERS, 0, 1, b"x"), |_| {});
        assert!(scanner.in_header_block());
        scanner.feed(&frame(CONTINUATION, END_HEADERS, 1, b"xy")[..HEAD + 1], |_| {});
        assert!(scanner.in_header_block(), "its payload is still on its way");
        scanner.feed(b"y", |_| {});
        assert!(!scanner.in_header_block());
    }

    #[test]
    fn a_bucket_fills_with_time() {
        let mut bucket = Bucket::new(2);
        assert!((0..20).all(|_| bucket.take(0)));
        assert!(!bucket.take(0));
        assert!(bucket.take(2_000_000_000));
    }
}
