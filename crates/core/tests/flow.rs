//! Flows: what is found in them, what is taken out of them, and what no wrapper may lose.

#[path = "support/mod.rs"]
mod support;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context as Cx, Poll, Waker};

use support::block_on;
use tuyau_core::{
    Ask, BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, FlowError, FlowErrorKind, Key,
    Layer, Prefixed, Protection, RawFlow, Role, SharedLayer, Target, copy_bidirectional, forward, names,
};

/// What a test sees of a stream that was given away.
#[derive(Clone, Default)]
struct Seen {
    written: Arc<Mutex<Vec<u8>>>,
    /// How many calls wrote, and the most slices that one was given.
    writes: Arc<AtomicUsize>,
    slices: Arc<AtomicUsize>,
    shutdowns: Arc<AtomicUsize>,
}

/// A stream of tokio's, of futures-io's and a raw flow: reads `input`, and counts what is written.
#[derive(Default)]
struct Stream {
    input: io::Cursor<Vec<u8>>,
    seen: Seen,
}

impl Stream {
    fn of(input: &[u8]) -> (Self, Seen) {
        let stream = Self { input: io::Cursor::new(input.to_vec()), seen: Seen::default() };
        let seen = stream.seen.clone();
        (stream, seen)
    }

    fn take<'a>(&self, slices: impl Iterator<Item = &'a [u8]>) -> usize {
        let (mut count, mut taken) = (0, 0);
        let mut written = self.seen.written.lock().unwrap();
        for slice in slices {
            written.extend_from_slice(slice);
            (count, taken) = (count + 1, taken + slice.len());
        }
        self.seen.writes.fetch_add(1, Ordering::SeqCst);
        self.seen.slices.fetch_max(count, Ordering::SeqCst);
        taken
    }

    fn give(&mut self, bytes: &mut [u8]) -> usize {
        io::Read::read(&mut self.input, bytes).unwrap()
    }
}

impl tokio::io::AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Cx<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = self.give(buf.initialize_unfilled());
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl tokio::io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Cx<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.take([bytes].into_iter())))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Cx<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.take(slices.iter().map(|slice| &**slice))))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        self.seen.shutdowns.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl futures_io::AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Cx<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.give(bytes)))
    }
}

impl futures_io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Cx<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.take([bytes].into_iter())))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Cx<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.take(slices.iter().map(|slice| &**slice))))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<io::Result<()>> {
        self.seen.shutdowns.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

/// A wrapper that says something about itself, and has read too much.
struct Wrapper {
    lower: Flow,
    left_over: Vec<u8>,
}

static DEPTH: Key<&str> = Key::new("depth");

impl RawFlow for Wrapper {
    forward!(lower: read write itself lower);

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Ok((self.lower, self.left_over))
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&DEPTH, || "wrapper").answer(&names::SECURITY, || Protection::Encrypted);
    }
}

fn wrapped(lower: Flow, left_over: &[u8]) -> Flow {
    Flow::new(Wrapper { lower, left_over: left_over.to_vec() })
}

fn polled<T>(poll: impl FnOnce(&mut Cx<'_>) -> Poll<T>) -> T {
    match poll(&mut Cx::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here waits"),
    }
}

#[test]
fn a_stream_is_found_by_its_type_through_all_layers() {
    let (stream, seen) = Stream::of(b"");
    let mut flow = wrapped(wrapped(Flow::from_tokio(stream), b"").with_unread(b"x".to_vec()), b"");
    assert!(flow.find::<Stream>().is_some_and(|found| Arc::ptr_eq(&found.seen.written, &seen.written)));
    assert!(flow.find_mut::<Stream>().is_some());
    assert_eq!(flow.find::<Prefixed>().unwrap().unread(), b"x");
    assert!(flow.find::<u8>().is_none() && flow.find_mut::<u8>().is_none());
    let (stream, _) = Stream::of(b"");
    assert!(Flow::from_futures_io(stream).find::<Stream>().is_some());
}

#[test]
fn what_is_taken_out_comes_with_what_was_read_too_much_or_not_at_all() {
    let (stream, _) = Stream::of(b"rest");
    let flow = wrapped(Flow::from_tokio(stream), b"left");
    let Err(flow) = flow.into_inner::<Prefixed>() else { panic!("it is no such flow") };
    let Ok((lower, left_over)) = flow.into_lower() else { panic!("it has a lower flow") };
    assert_eq!(left_over, b"left");
    let mut flow = lower.with_unread(left_over);
    let mut bytes = [0; 8];
    let (read, flow) = block_on(async move {
        flow.read_exact(&mut bytes).await.unwrap();
        (bytes, flow)
    });
    assert_eq!(&read, b"leftrest");
    let Ok((lower, left_over)) = flow.into_lower() else { panic!("it has a lower flow") };
    assert!(left_over.is_empty());
    let Err(lower) = lower.into_lower() else { panic!("a stream wraps nothing") };
    assert!(lower.into_tokio::<Stream>().is_ok());
    let (stream, _) = Stream::of(b"");
    let whole = wrapped(Flow::from_tokio(stream), b"left").into_inner::<Wrapper>();
    assert_eq!(whole.ok().map(|wrapper| wrapper.left_over), Some(b"left".to_vec()));
}

#[test]
fn facts_are_those_of_the_nearest_layer_that_knows() {
    let (stream, _) = Stream::of(b"");
    let bottom = Flow::from_tokio_with(stream, |_, ask| {
        ask.answer(&DEPTH, || "stream").answer(&names::PEER, || Target::name("peer", 1));
    });
    assert_eq!((bottom.fact(&DEPTH), bottom.fact(&names::SECURITY)), (Some("stream"), None));
    let flow = wrapped(bottom.with_unread(b"x".to_vec()), b"");
    assert_eq!(flow.fact(&DEPTH), Some("wrapper"));
    assert_eq!(flow.fact(&names::SECURITY), Some(Protection::Encrypted));
    assert_eq!(flow.fact(&names::PEER), Some(Target::name("peer", 1)));
    assert_eq!(flow.fact(&names::LOCAL), None);
    assert!(format!("{flow:?}").contains("peer"));
}

/// Knows nothing, and lets nobody below be asked.
struct Veil(Flow);

impl RawFlow for Veil {
    forward!(0: read write itself lower unwrap);

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&names::PEER, || Target::name("beyond", 1)).stop();
    }
}

#[test]
fn a_question_that_was_stopped_goes_no_further_down() {
    let (stream, _) = Stream::of(b"");
    let flow = Flow::new(Veil(wrapped(Flow::from_tokio(stream), b"")));
    assert_eq!(flow.fact(&names::PEER), Some(Target::name("beyond", 1)));
    assert_eq!((flow.fact(&DEPTH), flow.fact(&names::SECURITY)), (None, None));
    assert!(flow.find::<Stream>().is_some(), "what is looked for is still found");
}

#[test]
fn bytes_put_back_are_read_first_in_pieces_and_lent_without_a_copy() {
    let (stream, _) = Stream::of(b"def");
    let mut flow = Flow::from_tokio(stream).with_unread(b"abc".to_vec());
    assert!(flow.can_fill());
    assert_eq!(polled(|cx| flow.poll_fill(cx).map(|bytes| bytes.map(<[u8]>::to_vec))).unwrap(), b"abc");
    flow.consume(1);
    let read = block_on(async move {
        let (mut all, mut piece) = (Vec::new(), [0; 2]);
        loop {
            match flow.read(&mut piece).await.unwrap() {
                0 => return all,
                n => all.push(piece[..n].to_vec()),
            }
        }
    });
    assert_eq!(read, [b"bc".to_vec(), b"de".to_vec(), b"f".to_vec()]);
    let (stream, _) = Stream::of(b"");
    assert!(Flow::from_tokio(stream).with_unread(Vec::new()).find::<Prefixed>().is_none());
}

#[test]
fn vectored_writes_stay_one_call_through_five_wrappers_whoever_writes() {
    let parts: [&[u8]; 3] = [b"one ", b"two ", b"three"];
    let slices = parts.map(IoSlice::new);
    let five = |stream| (0..5).fold(stream, |flow, _| wrapped(flow, b""));
    type Write = fn(&mut Flow, &mut Cx<'_>, &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
    let traits: [Write; 3] = [
        |flow, cx, slices| tokio::io::AsyncWrite::poll_write_vectored(Pin::new(flow), cx, slices),
        |flow, cx, slices| futures_io::AsyncWrite::poll_write_vectored(Pin::new(flow), cx, slices),
        |flow, cx, slices| hyper::rt::Write::poll_write_vectored(Pin::new(flow), cx, slices),
    ];
    for write in traits {
        for futures in [false, true] {
            let (stream, seen) = Stream::of(b"");
            let bottom = if futures { Flow::from_futures_io(stream) } else { Flow::from_tokio(stream) };
            let mut flow = five(bottom);
            assert_eq!(polled(|cx| write(&mut flow, cx, &slices)).unwrap(), 13);
            assert_eq!(&**seen.written.lock().unwrap(), b"one two three");
            let counts = (seen.writes.load(Ordering::SeqCst), seen.slices.load(Ordering::SeqCst));
            assert_eq!(counts, (1, 3), "one call, of three slices");
        }
    }
    let (stream, _) = Stream::of(b"");
    let flow = Flow::from_tokio(stream);
    assert!(tokio::io::AsyncWrite::is_write_vectored(&flow) && hyper::rt::Write::is_write_vectored(&flow));
}

#[test]
fn many_slices_are_written_in_order_if_not_all_at_once() {
    for count in [0, 1, 8, 9, 64, 65, 200] {
        let bytes: Vec<[u8; 1]> = (0..count).map(|i| [i as u8]).collect();
        let slices: Vec<IoSlice<'_>> = bytes.iter().map(|byte| IoSlice::new(byte)).collect();
        let (stream, seen) = Stream::of(b"");
        let mut flow = wrapped(Flow::from_tokio(stream), b"");
        let n = polled(|cx| tokio::io::AsyncWrite::poll_write_vectored(Pin::new(&mut flow), cx, &slices))
            .unwrap();
        assert_eq!(n, count.min(64));
        assert_eq!(*seen.written.lock().unwrap(), bytes[..n].concat());
    }
}

#[test]
fn reads_of_all_three_traits_fill_what_there_is_room_for() {
    let (stream, _) = Stream::of(b"abcdefghi");
    let mut flow = Flow::from_tokio(stream);
    let mut bytes = [0; 4];
    let mut buf = tokio::io::ReadBuf::new(&mut bytes);
    buf.put_slice(b"-");
    polled(|cx| tokio::io::AsyncRead::poll_read(Pin::new(&mut flow), cx, &mut buf)).unwrap();
    assert_eq!(buf.filled(), b"-abc");
    let mut bytes = [0; 3];
    let n = polled(|cx| futures_io::AsyncRead::poll_read(Pin::new(&mut flow), cx, &mut bytes)).unwrap();
    assert_eq!(&bytes[..n], b"def");
    let mut bytes = [0; 5];
    let mut buf = hyper::rt::ReadBuf::new(&mut bytes);
    polled(|cx| hyper::rt::Read::poll_read(Pin::new(&mut flow), cx, buf.unfilled())).unwrap();
    assert_eq!(buf.filled(), b"ghi");
}

#[test]
fn shutting_down_ends_the_write_side_of_the_stream_once() {
    let (stream, seen) = Stream::of(b"still read");
    let mut flow = wrapped(Flow::from_tokio(stream), b"");
    let read = block_on(async move {
        flow.shutdown().await.unwrap();
        let mut bytes = [0; 10];
        flow.read_exact(&mut bytes).await.unwrap();
        let end = flow.read_exact(&mut [0]).await.unwrap_err();
        (bytes, end.kind())
    });
    assert_eq!((&read.0, read.1), (b"still read", FlowErrorKind::UnexpectedEof));
    assert_eq!(seen.shutdowns.load(Ordering::SeqCst), 1);
}

#[test]
fn a_copy_goes_both_ways_and_closes_each_when_the_other_ends() {
    let ((a, a_seen), (b, b_seen)) = (Stream::of(b"from a"), Stream::of(b"from b, longer"));
    let counts = block_on(async move {
        let (mut a, mut b) = (Flow::from_tokio(a), Flow::from_tokio(b));
        copy_bidirectional(&mut a, &mut b).await.unwrap()
    });
    assert_eq!(counts, (6, 14));
    assert_eq!(&**b_seen.written.lock().unwrap(), b"from a");
    assert_eq!(&**a_seen.written.lock().unwrap(), b"from b, longer");
    assert_eq!((a_seen.shutdowns.load(Ordering::SeqCst), b_seen.shutdowns.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn errors_keep_kind_and_source_to_io_and_back() {
    use FlowErrorKind as Kind;
    for kind in [
        Kind::Reset,
        Kind::BrokenPipe,
        Kind::UnexpectedEof,
        Kind::WriteAfterShutdown,
        Kind::TimedOut,
        Kind::Aborted,
        Kind::InvalidData,
        Kind::Unsupported,
        Kind::PermissionDenied,
        Kind::Other,
    ] {
        assert_eq!(FlowError::from(io::Error::from(FlowError::new(kind))).kind(), kind);
        let sourced = FlowError::with_source(kind, "the very cause");
        let back = FlowError::from(io::Error::from(sourced));
        assert_eq!(back.kind(), kind);
        assert!(std::error::Error::source(&back).unwrap().to_string().contains("the very cause"));
    }
    for kind in [io::ErrorKind::NotFound, io::ErrorKind::AddrInUse, io::ErrorKind::ConnectionReset] {
        assert_eq!(io::Error::from(FlowError::from(io::Error::from(kind))).kind(), kind);
    }
}

/// A layer that wraps, and says nothing.
struct Plain;

impl Layer for Plain {
    fn describe(&self) -> String {
        "plain".into()
    }

    fn wrap<'a>(
        &'a self,
        inner: Flow,
        _: Role,
        _: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move { Ok(wrapped(inner, b"")) })
    }
}

fn upgraded(flow: Flow) -> Result<Flow, ConnectError> {
    let ctx = Context::new().with(&names::LAYER, Arc::new(Plain) as SharedLayer);
    block_on(async move { ctx.upgrade(flow, Role::Client).await })
}

#[test]
fn an_upgrade_refuses_clear_text_that_came_before_the_handshake() {
    let flow = || Flow::from_tokio(Stream::of(b"").0);
    assert!(upgraded(flow()).unwrap().find::<Wrapper>().is_some());
    for injected in [
        flow().with_unread(b"RSET\r\n".to_vec()),
        wrapped(flow().with_unread(b"RSET\r\n".to_vec()), b""),
        flow().with_unread(b"RSET\r\n".to_vec()).with_unread(b"220 ok\r\n".to_vec()),
    ] {
        assert_eq!(upgraded(injected).unwrap_err().kind(), ConnectErrorKind::Protocol);
    }
    // What was put back and read again since is no injection; what is below it still is.
    let read = |mut flow: Flow, n: usize| {
        block_on(async move {
            flow.read_exact(&mut vec![0; n]).await.unwrap();
            flow
        })
    };
    assert!(upgraded(read(flow().with_unread(b"220".to_vec()), 3)).is_ok());
    let two = flow().with_unread(b"RSET".to_vec()).with_unread(b"220".to_vec());
    assert_eq!(upgraded(read(two, 3)).unwrap_err().kind(), ConnectErrorKind::Protocol);
    let none = block_on(async move { Context::new().upgrade(flow(), Role::Server).await });
    assert_eq!(none.unwrap_err().kind(), ConnectErrorKind::Misuse);
}
