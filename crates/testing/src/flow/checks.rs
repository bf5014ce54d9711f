//! The checks. Each gets a fresh pair, and is run both ways.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{Flow, FlowError, FlowErrorKind, ReadBuf};

use super::{Abilities, Pair};

/// More than any transport buffers on the way.
const FLOOD: usize = 32 * 1024 * 1024;

/// Megabytes both ways at once, each flow read and written by one task; all arrive, in order.
pub async fn large_transfers_both_ways(pair: Pair, Abilities { large, .. }: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let there =
        tokio::spawn(async move { exchange(&mut a, Bytes::new(1, large), Bytes::new(2, large + 7)).await });
    let back =
        tokio::spawn(async move { exchange(&mut b, Bytes::new(2, large + 7), Bytes::new(1, large)).await });
    there.await.expect("a");
    back.await.expect("b");
}

/// A byte at a time.
pub async fn tiny_reads_and_writes(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let sent = Bytes::new(3, 2000).take(2000);
    let expected = sent.clone();
    let writing = async move {
        for byte in sent {
            a.write_all(&[byte]).await.expect("write");
        }
        a
    };
    let reading = async {
        for byte in expected {
            let mut got = [0];
            assert_eq!(b.read(&mut got).await.expect("read"), 1);
            assert_eq!(got[0], byte);
        }
    };
    tokio::join!(writing, reading);
}

/// The write side ends alone: the peer reads the end, and can go on sending.
pub async fn half_close(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    a.write_all(b"question").await.expect("write");
    a.shutdown().await.expect("shutdown");
    a.shutdown().await.expect("a second shutdown does nothing");
    assert_eq!(read_to_end(&mut b).await.expect("read"), b"question");
    b.write_all(b"answer").await.expect("write after the peer's end");
    let mut answer = [0; 6];
    a.read_exact(&mut answer).await.expect("read after one's own shutdown");
    assert_eq!(&answer, b"answer");
    b.shutdown().await.expect("shutdown");
    assert_eq!(read_to_end(&mut a).await.expect("read"), b"");
}

/// Reading after the end gives the end again.
pub async fn the_end_stays(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    a.shutdown().await.expect("shutdown");
    for _ in 0..3 {
        assert_eq!(b.read(&mut [0; 8]).await.expect("read"), 0);
    }
    b.shutdown().await.expect("shutdown");
    assert_eq!(a.read(&mut [0; 8]).await.expect("read"), 0);
}

/// A peer that goes away with bytes unread is no clean end.
pub async fn reset_by_peer(pair: Pair, abilities: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    a.write_all(&[7; 1000]).await.expect("write");
    // So that it is known to have arrived.
    assert_eq!(b.read(&mut [0; 1]).await.expect("read"), 1);
    drop(b);
    let end = a.read(&mut [0; 8]).await.map_err(|error| error.kind());
    match end {
        Err(FlowErrorKind::Reset) => {}
        Ok(0) | Err(FlowErrorKind::UnexpectedEof) => assert!(!abilities.reset, "a reset passes for an end"),
        other => panic!("read {other:?} from a peer that has gone"),
    }
    let gone = write_until_error(&mut a, abilities).await;
    assert!(gone.is_none_or(is_gone), "{gone:?}");
}

/// Writing to a peer that has gone fails, sooner or later.
pub async fn writes_to_nobody_fail(pair: Pair, abilities: Abilities) {
    let Pair { mut a, b, keep: _keep } = pair;
    drop(b);
    match write_until_error(&mut a, abilities).await {
        Some(kind) => assert!(is_gone(kind), "{kind:?}"),
        None => assert!(!abilities.broken_pipe, "writes to nobody succeed"),
    }
}

/// Writing after one's own shutdown is an error; reading goes on.
pub async fn write_after_shutdown(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    a.shutdown().await.expect("shutdown");
    let error = a.write_all(b"more").await.expect_err("written after shutdown");
    assert!(
        matches!(error.kind(), FlowErrorKind::WriteAfterShutdown | FlowErrorKind::BrokenPipe),
        "{error:?}"
    );
    b.write_all(b"ok").await.expect("write");
    let mut got = [0; 2];
    a.read_exact(&mut got).await.expect("read");
    assert_eq!(read_to_end(&mut b).await.expect("read"), b"", "the bytes were sent all the same");
}

/// Many slices, some empty, some large: whatever part a write takes, the content is intact.
pub async fn vectored_writes(pair: Pair, abilities: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let n = poll_fn(|cx| a.poll_write(cx, &[b"one", b"", b"two", b"three"])).await.expect("write");
    assert!((1..=11).contains(&n), "{n} bytes of 11 taken");
    if abilities.vectored {
        assert_eq!(n, 11, "one write took a part of a few bytes: vectored writes are lost");
    }
    a.flush().await.expect("flush");
    let mut got = vec![0; n];
    b.read_exact(&mut got).await.expect("read");
    assert_eq!(got, b"onetwothree"[..n]);

    let mut bytes = Bytes::new(4, usize::MAX);
    let sizes = [0, 1, 70_000, 3, 0, 0, 8192, 17, 200_000, 1, 1, 1, 0];
    let owned: Vec<Vec<u8>> = sizes.iter().map(|size| bytes.take(*size)).collect();
    let all = owned.concat();
    let writing = async {
        let mut written = 0;
        while written < all.len() {
            let rest = after(&owned, written);
            let n = poll_fn(|cx| a.poll_write(cx, &rest)).await.expect("write");
            assert!(n > 0 && written + n <= all.len(), "{n} bytes taken of {}", all.len() - written);
            written += n;
        }
        a.shutdown().await.expect("shutdown");
    };
    let (got, ()) = tokio::join!(read_to_end(&mut b), writing);
    assert!(got.expect("read") == all, "the bytes differ");
}

/// A read that is dropped while it waits has read nothing.
pub async fn cancelled_reads(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let mut expected = Bytes::new(5, usize::MAX);
    for round in 0..200 {
        let sent = Bytes::skip_to(5, round * 10, 10);
        a.write_all(&sent).await.expect("write");
        let mut got = Vec::new();
        while got.len() < 10 {
            let mut part = [0; 3];
            // Each read is cancelled a few times before it may end.
            let mut patience = round % 4;
            let n = loop {
                tokio::select! {
                    biased;
                    n = b.read(&mut part) => break n.expect("read"),
                    () = tokio::task::yield_now(), if patience > 0 => patience -= 1,
                }
            };
            assert!(n > 0, "ended early");
            got.extend_from_slice(&part[..n]);
        }
        assert_eq!(got, expected.take(got.len()), "round {round}");
        assert_eq!(got.len(), 10, "bytes doubled");
        assert!(poll_once(b.read(&mut [0; 8])).is_none(), "more bytes than were sent");
    }
}

/// A write that is dropped while it waits has written nothing; whoever goes on with the same bytes
/// loses and doubles none.
pub async fn cancelled_writes(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let all = Bytes::new(6, FLOOD).take(FLOOD);
    let mut written = 0;
    // Each write is dropped if it is not done at once.
    let mut blocked = 0;
    while written < all.len() && blocked < 20 {
        let end = all.len().min(written + 64 * 1024);
        match poll_once(poll_fn(|cx| a.poll_write(cx, &[&all[written..end]]))) {
            Some(n) => written += n.expect("write"),
            None => {
                blocked += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(blocked > 0, "{FLOOD} bytes are taken without a reader: no backpressure");
    let sent = all.clone();
    let writing = tokio::spawn(async move {
        a.write_all(&sent[written..(written + 1024 * 1024).min(sent.len())]).await.expect("write");
        a.shutdown().await.expect("shutdown");
        a
    });
    let got = read_to_end(&mut b).await.expect("read");
    assert!(got[..] == all[..got.len()], "the bytes differ");
    assert_eq!(got.len(), (written + 1024 * 1024).min(all.len()));
    drop(writing.await.expect("writer"));
}

/// A shutdown, and a flush, that were dropped while they waited can be called again.
pub async fn cancelled_shutdown(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    poll_fn(|cx| a.poll_write(cx, &[b"last words"])).await.expect("write");
    let _ = poll_once(a.flush());
    let _ = poll_once(a.shutdown());
    a.shutdown().await.expect("shutdown");
    assert_eq!(read_to_end(&mut b).await.expect("read"), b"last words");
}

/// A read that waits does not keep the same task from writing, and is woken by what the peer answers.
pub async fn a_pending_read_does_not_stop_writes(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let echo = tokio::spawn(async move {
        let mut byte = [0];
        for _ in 0..100 {
            b.read_exact(&mut byte).await.expect("read");
            b.write_all(&byte).await.expect("write");
        }
        b
    });
    for round in 0..100 {
        let mut asked = false;
        let got = poll_fn(|cx| {
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            match a.poll_read(cx, &mut buf) {
                Poll::Ready(read) => return Poll::Ready(read.map(|()| buf.filled().to_vec())),
                Poll::Pending if asked => return Poll::Pending,
                Poll::Pending => {}
            }
            asked = a.poll_write(cx, &[&[round]])?.is_ready();
            if asked && a.poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
            Poll::Pending
        });
        assert_eq!(got.await.expect("read"), [round]);
    }
    drop(echo.await.expect("echo"));
}

/// What was written before a drop arrives, and then the end, or the news that there was none.
pub async fn drop_without_close(pair: Pair, abilities: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    let sent = Bytes::new(8, 30_000).take(30_000);
    a.write_all(&sent).await.expect("write");
    drop(a);
    let mut got = vec![0; sent.len()];
    let delivered = b.read_exact(&mut got).await;
    if abilities.drop_delivers {
        delivered.expect("read");
        assert!(got == sent, "bytes are lost");
        match b.read(&mut [0; 8]).await.map_err(|error| error.kind()) {
            Ok(0) => assert!(abilities.drop_ends, "a drop passes for an end"),
            // Reset: what the layer itself was sent was unread.
            Err(FlowErrorKind::UnexpectedEof | FlowErrorKind::Reset) => {
                assert!(!abilities.drop_ends, "a drop is no end")
            }
            other => panic!("read {other:?} behind all that was sent"),
        }
    }
}

/// A driver that lends its buffer lends the same bytes that a read would give; others say that they don't.
pub async fn lending(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    if !b.can_fill() {
        let error = poll_fn(|cx| b.poll_fill(cx).map_ok(<[u8]>::len)).await.expect_err("lends all the same");
        assert_eq!(error.kind(), FlowErrorKind::Unsupported);
        return;
    }
    let all = Bytes::new(9, 300_000).take(300_000);
    let sent = all.clone();
    let writing = tokio::spawn(async move {
        a.write_all(&sent).await.expect("write");
        a.shutdown().await.expect("shutdown");
        a
    });
    let mut got: Vec<u8> = Vec::new();
    loop {
        let lent = poll_fn(|cx| b.poll_fill(cx).map_ok(<[u8]>::to_vec)).await.expect("fill");
        if lent.is_empty() {
            break;
        }
        let part = lent.len().div_ceil(2);
        b.consume(part);
        got.extend_from_slice(&lent[..part]);
        // Reads and loans can take turns.
        let mut byte = [0; 5];
        let n = if lent.len() > part { b.read(&mut byte).await.expect("read") } else { 0 };
        got.extend_from_slice(&byte[..n]);
    }
    assert!(got == all, "the bytes differ");
    assert!(poll_fn(|cx| b.poll_fill(cx).map_ok(<[u8]>::is_empty)).await.expect("fill"), "the end stays");
    drop(writing.await.expect("writer"));
}

/// Nothing to read into, nothing to write: ready at once, and nothing happens.
pub async fn empty_reads_and_writes(pair: Pair, _: Abilities) {
    let Pair { mut a, mut b, keep: _keep } = pair;
    assert_eq!(poll_once(b.read(&mut [])).expect("ready").expect("read"), 0);
    assert_eq!(poll_fn(|cx| a.poll_write(cx, &[])).await.expect("write"), 0);
    assert_eq!(poll_fn(|cx| a.poll_write(cx, &[b""])).await.expect("write"), 0);
    a.write_all(b"x").await.expect("write");
    let mut got = [0; 4];
    assert_eq!(b.read(&mut got).await.expect("read"), 1);
    assert_eq!(poll_once(b.read(&mut [])).expect("ready").expect("read"), 0);
}

/// Both ends can be named.
pub async fn facts(pair: Pair, _: Abilities) {
    let Pair { a, b, keep: _keep } = pair;
    for flow in [&a, &b] {
        for key in [&PEER, &LOCAL] {
            let target = flow.fact(key).unwrap_or_else(|| panic!("`{}` is not known", key.name()));
            assert!(!target.to_string().is_empty());
        }
    }
}

/// Sends and receives at once, in one task, in pieces of all sizes, and then ends.
async fn exchange(flow: &mut Flow, mut send: Bytes, mut expect: Bytes) {
    let mut outgoing = Vec::new();
    let mut sent = 0;
    let mut shut = false;
    let mut ended = false;
    let mut memory = vec![0; 50_000];
    let mut size = 1;
    poll_fn(|cx| {
        loop {
            let mut progress = false;
            if !shut {
                if sent == outgoing.len() {
                    size = size * 7 % 65_521;
                    outgoing = send.take(size);
                    sent = 0;
                }
                if outgoing.is_empty() {
                    if flow.poll_shutdown(cx)?.is_ready() {
                        (shut, progress) = (true, true);
                    }
                } else if let Poll::Ready(n) = flow.poll_write(cx, &[&outgoing[sent..]])? {
                    assert!(n > 0, "a write took nothing");
                    (sent, progress) = (sent + n, true);
                }
            }
            if !ended {
                let mut buf = ReadBuf::new(&mut memory);
                if flow.poll_read(cx, &mut buf)?.is_ready() {
                    let got = buf.filled();
                    assert!(got == expect.take(got.len()), "the bytes differ");
                    (ended, progress) = (got.is_empty(), true);
                }
            }
            if shut && ended {
                return Poll::Ready(Ok::<_, FlowError>(()));
            }
            if !progress {
                return Poll::Pending;
            }
        }
    })
    .await
    .expect("exchange");
    assert_eq!(expect.left, 0, "bytes are missing");
}

async fn read_to_end(flow: &mut Flow) -> Result<Vec<u8>, FlowError> {
    let mut all = Vec::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        match flow.read(&mut part).await? {
            0 => return Ok(all),
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

async fn write_until_error(flow: &mut Flow, abilities: Abilities) -> Option<FlowErrorKind> {
    // The news that the peer has gone may take a while; a flood of bytes takes longer.
    let mut written = 0;
    while written < FLOOD {
        let part = [0; 4096];
        match poll_fn(|cx| flow.poll_write(cx, &[&part])).await {
            Ok(n) => written += n,
            Err(error) => return Some(error.kind()),
        }
        if let Err(error) = flow.flush().await {
            return Some(error.kind());
        }
        tokio::task::yield_now().await;
        if !abilities.broken_pipe {
            return None;
        }
    }
    None
}

fn is_gone(kind: FlowErrorKind) -> bool {
    matches!(kind, FlowErrorKind::BrokenPipe | FlowErrorKind::Reset | FlowErrorKind::Aborted)
}

/// Polls once, then drops: `None` if it was still waiting.
fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// What is left of the slices after `written` bytes.
fn after(slices: &[Vec<u8>], mut written: usize) -> Vec<&[u8]> {
    let mut rest = Vec::new();
    for slice in slices {
        let skip = written.min(slice.len());
        written -= skip;
        rest.push(&slice[skip..]);
    }
    rest
}

/// Bytes that don't repeat for long: lost, doubled or swapped ones show.
struct Bytes {
    state: u64,
    left: usize,
    /// The rest of the last word.
    ahead: Vec<u8>,
}

impl Bytes {
    fn new(seed: u64, left: usize) -> Self {
        Self { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, left, ahead: Vec::new() }
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let n = n.min(self.left);
        self.left -= n;
        let mut bytes = std::mem::take(&mut self.ahead);
        while bytes.len() < n {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        self.ahead = bytes.split_off(n);
        bytes
    }

    /// `n` bytes of the stream of `seed`, from `start`.
    fn skip_to(seed: u64, start: usize, n: usize) -> Vec<u8> {
        let mut bytes = Self::new(seed, usize::MAX);
        bytes.take(start);
        bytes.take(n)
    }

    fn next(&mut self) -> u64 {
        // xorshift64
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}
