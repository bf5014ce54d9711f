//! Two flows, each the other's end.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tuyau::{Flow, FlowError, FlowErrorKind, ReadBuf};
use tuyau_tokio::EXIT_STATUS;

use crate::exit::Chain;
#[cfg(target_os = "linux")]
use crate::splice::{Pipe, Socket};

/// How much is read at once.
const BUFFER: usize = 128 * 1024;
/// How many buffers are kept that nobody has bytes in.
const SPARE: usize = 8;

/// How long what a peer still sends is read and thrown away, once nobody is there to take it: closing a
/// socket with unread bytes resets it, and what was just sent to the peer could be lost.
const LINGER: Duration = Duration::from_secs(1);

/// What to do about the near side when the far side has ended, but the near side has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// Send on what comes until it ends, too: the far side has only ended its own direction.
    SendOn,
    /// That's all: a person at a terminal would wonder what it waits for.
    Stop,
}

/// What was relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// Bytes from the near side to the far.
    pub(crate) sent: u64,
    /// Bytes from the far side to the near.
    pub(crate) received: u64,
}

/// Where a relay broke.
#[derive(Debug)]
pub(crate) enum Break {
    /// The near side could not be read.
    NearRead(FlowError),
    /// The near side took no more.
    NearWrite(FlowError),
    /// The far side failed while it was read.
    FarRead(FlowError),
    /// The far side took no more.
    FarWrite(FlowError),
}

impl Break {
    /// In words, of a `near` and a `far` side.
    pub(crate) fn explain(self, near: &str, far: &str, relayed: Relayed) -> String {
        let what = match &self {
            Self::NearRead(_) => format!("{near} can't be read"),
            Self::NearWrite(_) => format!("{near} takes no more"),
            Self::FarRead(_) => format!("{far} broke off"),
            Self::FarWrite(error) if error.kind() == FlowErrorKind::BrokenPipe => {
                format!("{far} stopped reading")
            }
            Self::FarWrite(_) => format!("{far} broke off"),
        };
        let (Self::NearRead(error) | Self::NearWrite(error) | Self::FarRead(error) | Self::FarWrite(error)) =
            &self;
        let Relayed { sent, received } = relayed;
        let hint = tls_hint(error).map(|hint| format!("\n  {hint}")).unwrap_or_default();
        format!("{what}: {} ({sent} bytes sent, {received} received){hint}", Chain(error))
    }
}

/// What to do about what a TLS peer says only once it is connected: that it wants a certificate, above all.
pub(crate) fn tls_hint(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    #[cfg(feature = "tls")]
    {
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<tuyau::tls::TlsError>() {
                return error.hint();
            }
            cause = error.source();
        }
    }
    let _ = error;
    None
}

/// Buffers and pipes that relays share: one has a buffer only while it has bytes in it, so that a thousand idle
/// connections need none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers {
    buffers: Spare<Box<[u8]>>,
    #[cfg(target_os = "linux")]
    pipes: Spare<Pipe>,
}

#[derive(Debug)]
struct Spare<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Spare<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Spare<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, it: T) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(it);
        }
    }
}

impl Buffers {
    fn take(&self) -> Box<[u8]> {
        self.buffers.take().unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
    }

    fn give_back(&self, waiting: Waiting) {
        match waiting {
            Waiting::Bytes { buffer, .. } => self.buffers.give_back(buffer),
            #[cfg(target_os = "linux")]
            Waiting::Piped(pipe) if pipe.is_empty() => self.pipes.give_back(pipe),
            // What is in it would come out elsewhere.
            #[cfg(target_os = "linux")]
            Waiting::Piped(_) => {}
        }
    }
}

/// Copies both ways until both sides have ended, each end passed on as the end of that direction alone.
///
/// A far side that stops reading may still have something to say: its side is read to the end before that
/// counts.
///
/// A far side that is a program is done once it has exited, whether or not it has read all: its exit status says
/// whether that was right.
pub(crate) async fn relay(
    near: &mut Flow,
    far: &mut Flow,
    at_end: AtEnd,
    buffers: &Buffers,
) -> (Relayed, Result<(), Break>) {
    let (mut up, mut down) = (Pump::default(), Pump::default());
    let result = poll_fn(|cx| {
        up.poll(cx, near, far, buffers);
        down.poll(cx, far, near, buffers);
        let ended = match (up.ended.take_if(|ended| ended.is_err()), down.ended.take_if(|it| it.is_err())) {
            (_, Some(Err(CopyError::Read(error)))) => Err(Break::FarRead(error)),
            (_, Some(Err(CopyError::Write(error)))) => Err(Break::NearWrite(error)),
            (Some(Err(CopyError::Read(error))), _) => Err(Break::NearRead(error)),
            (failed, _) => {
                up.ended = up.ended.take().or(failed);
                match (&up.ended, &down.ended) {
                    (_, None) => return Poll::Pending,
                    // A program need not read all of its input, as long as it ends well.
                    (_, Some(_)) if far.fact(&EXIT_STATUS).is_some() => Ok(()),
                    (None, Some(_)) if at_end == AtEnd::Stop => Ok(()),
                    (None, Some(_)) => return Poll::Pending,
                    (Some(Ok(())), Some(_)) => Ok(()),
                    (Some(Err(_)), Some(_)) => match up.ended.take() {
                        Some(Err(CopyError::Write(error) | CopyError::Read(error))) => {
                            Err(Break::FarWrite(error))
                        }
                        _ => Ok(()),
                    },
                }
            }
        };
        Poll::Ready(ended)
    })
    .await;
    (Relayed { sent: up.moved, received: down.moved }, result)
}

/// Connects `near`, a peer, with `child`, a program: like [`relay`], but the end of the program ends it
/// all.
pub(crate) async fn relay_child(
    mut near: Flow,
    mut child: Flow,
    buffers: &Buffers,
) -> (Relayed, Result<(), Break>) {
    let (relayed, result) = relay(&mut near, &mut child, AtEnd::Stop, buffers).await;
    // A program need not read all of its input; how it ends says whether that was right.
    let result = match result {
        Err(Break::FarWrite(_)) => Ok(()),
        other => other,
    };
    if result.is_ok() {
        let mut bytes = [0; 4096];
        let rest = async { while near.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
        let _ = tokio::time::timeout(LINGER, rest).await;
    }
    (relayed, result)
}

/// Sends everything back, and says how much.
pub(crate) async fn echo(mut flow: Flow) -> Result<u64, FlowError> {
    let mut buffer = vec![0; BUFFER];
    let mut moved = 0;
    loop {
        match flow.read(&mut buffer).await? {
            0 => break,
            n => {
                flow.write_all(&buffer[..n]).await?;
                moved += n as u64;
            }
        }
    }
    flow.shutdown().await?;
    Ok(moved)
}

/// Closes `flow` so that its peer can't take that for a clean end, if it is TCP: it is reset, after what was written to it.
pub(crate) async fn reset(flow: Flow) {
    if let Some(socket) = flow.find::<TcpStream>() {
        #[cfg(target_os = "linux")]
        crate::splice::sent(socket).await;
        // It is closed in any case.
        let _ = socket.set_zero_linger();
    }
}

#[derive(Debug)]
enum CopyError {
    Read(FlowError),
    Write(FlowError),
}

/// One direction.
#[derive(Debug, Default)]
struct Pump {
    /// What was read and is not written yet.
    waiting: Option<Waiting>,
    moved: u64,
    /// Whether something was written since it was flushed.
    unflushed: bool,
    /// Whether there is nothing more to read.
    ending: bool,
    ended: Option<Result<(), CopyError>>,
}

#[derive(Debug)]
enum Waiting {
    Bytes {
        buffer: Box<[u8]>,
        start: usize,
        end: usize,
    },
    #[cfg(target_os = "linux")]
    Piped(Pipe),
}

impl Waiting {
    /// What `from` has for `to`: what goes from TCP to a socket in a pipe, else in memory. `None` is the end.
    fn poll_read(
        cx: &mut Context<'_>,
        from: &mut Flow,
        to: &Flow,
        buffers: &Buffers,
    ) -> Poll<Result<Option<Self>, FlowError>> {
        #[cfg(target_os = "linux")]
        // Out of a Unix socket the kernel copies page by page, which takes longer than reading.
        if let (Some(from @ Socket::Tcp(_)), Some(_)) = (Socket::of(from), Socket::of(to))
            && let Some(mut pipe) = buffers.pipes.take().or_else(|| Pipe::new().ok())
        {
            let filled = pipe.poll_fill(cx, from);
            return match filled {
                Poll::Ready(Ok(())) if !pipe.is_empty() => Poll::Ready(Ok(Some(Self::Piped(pipe)))),
                filled => {
                    buffers.pipes.give_back(pipe);
                    filled.map(|filled| filled.map(|()| None).map_err(FlowError::from))
                }
            };
        }
        let mut buffer = buffers.take();
        let mut filling = ReadBuf::new(&mut buffer);
        let read = from.poll_read(cx, &mut filling);
        let end = filling.filled().len();
        if end > 0 && matches!(read, Poll::Ready(Ok(()))) {
            return Poll::Ready(Ok(Some(Self::Bytes { buffer, start: 0, end })));
        }
        buffers.buffers.give_back(buffer);
        read.map_ok(|()| None)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut Flow) -> Poll<Result<usize, FlowError>> {
        match self {
            Self::Bytes { buffer, start, end } => {
                let written = ready!(to.poll_write(cx, &[&buffer[*start..*end]]))?;
                *start += written;
                Poll::Ready(Ok(written))
            }
            #[cfg(target_os = "linux")]
            Self::Piped(pipe) => match Socket::of(to) {
                Some(to) => pipe.poll_drain(cx, to).map_err(FlowError::from),
                None => Poll::Ready(Err(FlowErrorKind::Unsupported.into())),
            },
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Bytes { start, end, .. } => start == end,
            #[cfg(target_os = "linux")]
            Self::Piped(pipe) => pipe.is_empty(),
        }
    }
}

impl Pump {
    /// Copies as far as that goes now.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Flow, to: &mut Flow, buffers: &Buffers) {
        if self.ended.is_none()
            && let Poll::Ready(ended) = self.copy(cx, from, to, buffers)
        {
            if let Some(waiting) = self.waiting.take() {
                buffers.give_back(waiting);
            }
            self.ended = Some(ended);
        }
    }

    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Flow,
        to: &mut Flow,
        buffers: &Buffers,
    ) -> Poll<Result<(), CopyError>> {
        while !self.ending {
            let mut waiting = match self.waiting.take() {
                Some(waiting) => waiting,
                None => {
                    // What came before an error or a silence must not wait in a buffer.
                    if self.unflushed {
                        ready!(to.poll_flush(cx)).map_err(CopyError::Write)?;
                        self.unflushed = false;
                    }
                    match ready!(Waiting::poll_read(cx, from, to, buffers)).map_err(CopyError::Read)? {
                        Some(waiting) => waiting,
                        None => {
                            self.ending = true;
                            break;
                        }
                    }
                }
            };
            let written = waiting.poll_write(cx, to);
            if let Poll::Ready(Ok(n)) = written {
                self.moved += n as u64;
                self.unflushed = true;
            }
            match waiting.is_empty() {
                true => buffers.give_back(waiting),
                false => self.waiting = Some(waiting),
            }
            match ready!(written) {
                Ok(0) => return Poll::Ready(Err(CopyError::Write(FlowErrorKind::BrokenPipe.into()))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(CopyError::Write(error))),
            }
        }
        to.poll_shutdown(cx).map_err(CopyError::Write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tuyau_tokio::duplex;

    async fn joined(near: Flow, far: Flow, at_end: AtEnd) -> (Relayed, Result<(), Break>) {
        let (mut near, mut far) = (near, far);
        relay(&mut near, &mut far, at_end, &Buffers::default()).await
    }

    #[test]
    fn a_gibibyte_in_memory() {
        const CHUNK: usize = 64 * 1024;
        const CHUNKS: u64 = 1 << 14;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let ((mut source, near), (far, mut drain)) = (duplex(), duplex());
            let relaying = tokio::spawn(joined(near, far, AtEnd::SendOn));
            let chunk = |number: u64| number.to_le_bytes().repeat(CHUNK / 8);
            let writing = tokio::spawn(async move {
                for number in 0..CHUNKS {
                    source.write_all(&chunk(number)).await.expect("all is taken");
                }
                source.shutdown().await.expect("it ends");
                let mut back = Vec::new();
                AsyncReadExt::read_to_end(&mut source, &mut back).await.expect("the answer comes");
                back
            });
            let mut came = vec![0; CHUNK];
            for number in 0..CHUNKS {
                drain.read_exact(&mut came).await.expect("all comes");
                assert!(came == chunk(number), "chunk {number} differs");
            }
            assert_eq!(drain.read(&mut came).await.expect("the end"), 0);
            // The other direction is open still.
            drain.write_all(b"all of it").await.expect("it is taken");
            drain.shutdown().await.expect("it ends");
            assert_eq!(writing.await.expect("it does not panic"), b"all of it");
            let (relayed, result) = relaying.await.expect("it does not panic");
            assert!(result.is_ok());
            assert_eq!(relayed, Relayed { sent: 1 << 30, received: 9 });
        });
    }

    #[tokio::test]
    async fn what_the_far_side_says_before_it_goes_is_passed_on() {
        let ((mut user, near), (far, mut peer)) = (duplex(), duplex());
        let relaying = tokio::spawn(joined(near, far, AtEnd::SendOn));
        peer.write_all(b"go away").await.unwrap();
        drop(peer);
        let mut said = [0; 7];
        user.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"go away");
        // It no longer reads, which shows with what is sent to it next.
        while user.write_all(b"still here").await.is_ok() {}
        let (relayed, result) = relaying.await.unwrap();
        let said = result.unwrap_err().explain("we", "the peer", relayed);
        assert!(said.starts_with("the peer stopped reading: broken pipe"), "{said}");
        assert!(said.ends_with(", 7 received)"), "{said}");
    }

    /// A peer, and the flow to it.
    #[cfg(target_os = "linux")]
    async fn tcp() -> (TcpStream, Flow) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
        (peer.unwrap(), Flow::from_tokio(accepted.unwrap().0))
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn from_tcp_to_a_socket_it_goes_through_pipes_which_are_left_empty() {
        use tokio::io::AsyncWriteExt;
        const MUCH: usize = 8 << 20;
        let ((mut user, mut near), (theirs, peer)) = (tcp().await, tokio::net::UnixStream::pair().unwrap());
        let (mut far, mut peer) = (Flow::from_tokio(theirs), peer);
        let buffers = Buffers::default();
        let its = buffers.clone();
        let relaying = tokio::spawn(async move { relay(&mut near, &mut far, AtEnd::SendOn, &its).await });
        let sent: Vec<u8> = (0..MUCH).map(|n| (n / 7) as u8).collect();
        let (mut came, mut back) = (Vec::new(), Vec::new());
        let asking = async {
            user.write_all(&sent).await.unwrap();
            user.shutdown().await.unwrap();
            user.read_to_end(&mut back).await.unwrap();
        };
        let answering = async {
            peer.read_to_end(&mut came).await.unwrap();
            peer.write_all(&came).await.unwrap();
            peer.shutdown().await.unwrap();
        };
        tokio::join!(asking, answering);
        assert!(came == sent && back == sent, "the bytes differ");
        let (relayed, result) = relaying.await.unwrap();
        assert!(result.is_ok());
        assert_eq!(relayed, Relayed { sent: MUCH as u64, received: MUCH as u64 });
        assert!(buffers.pipes.take().is_some_and(|pipe| pipe.is_empty()));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_lies_over_a_socket_is_not_passed_by() {
        use tokio::io::AsyncWriteExt;
        let ((mut user, near), (mut peer, far)) = (tcp().await, tcp().await);
        let relaying = tokio::spawn(joined(near.with_unread(b"before ".to_vec()), far, AtEnd::SendOn));
        user.write_all(b"and after").await.unwrap();
        user.shutdown().await.unwrap();
        let mut came = String::new();
        peer.read_to_string(&mut came).await.unwrap();
        assert_eq!(came, "before and after");
        drop(peer);
        assert!(relaying.await.unwrap().1.is_ok());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_pipe_that_was_not_emptied_is_not_used_again() {
        use tokio::io::AsyncWriteExt;
        let ((mut user, mut near), (peer, mut far)) = (tcp().await, tcp().await);
        let buffers = Buffers::default();
        let its = buffers.clone();
        let relaying = tokio::spawn(async move { relay(&mut near, &mut far, AtEnd::SendOn, &its).await });
        // More than the sockets take, and then nobody is there.
        let writing = tokio::spawn(async move { while user.write_all(&[1; 65536]).await.is_ok() {} });
        peer.peek(&mut [0]).await.unwrap();
        peer.set_zero_linger().unwrap();
        drop(peer);
        let (_, result) = relaying.await.unwrap();
        assert!(matches!(result, Err(Break::FarRead(_) | Break::FarWrite(_))), "{result:?}");
        writing.await.unwrap();
        while let Some(pipe) = buffers.pipes.take() {
            assert!(pipe.is_empty());
        }
    }

    #[tokio::test]
    async fn at_a_terminal_the_far_sides_end_is_the_end() {
        let ((user, near), (far, mut peer)) = (duplex(), duplex());
        let relaying = tokio::spawn(joined(near, far, AtEnd::Stop));
        peer.shutdown().await.unwrap();
        let (relayed, result) = relaying.await.unwrap();
        assert!(result.is_ok());
        assert_eq!(relayed, Relayed::default());
        drop(user);
    }
}
