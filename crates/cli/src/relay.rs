//! Two flows, each the other's end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tuyau::{Flow, FlowError, FlowErrorKind};
use tuyau_tokio::EXIT_STATUS;

use crate::exit::Chain;

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
    NearRead(io::Error),
    /// The near side took no more.
    NearWrite(io::Error),
    /// The far side failed while it was read.
    FarRead(io::Error),
    /// The far side took no more.
    FarWrite(io::Error),
}

impl Break {
    /// In words, of a `near` and a `far` side.
    pub(crate) fn explain(self, near: &str, far: &str, relayed: Relayed) -> String {
        let what = match &self {
            Self::NearRead(_) => format!("{near} can't be read"),
            Self::NearWrite(_) => format!("{near} takes no more"),
            Self::FarRead(_) => format!("{far} broke off"),
            Self::FarWrite(error) if is(error, FlowErrorKind::BrokenPipe) => format!("{far} stopped reading"),
            Self::FarWrite(_) => format!("{far} broke off"),
        };
        let (Self::NearRead(error) | Self::NearWrite(error) | Self::FarRead(error) | Self::FarWrite(error)) =
            self;
        let error = FlowError::from(error);
        let Relayed { sent, received } = relayed;
        format!("{what}: {} ({sent} bytes sent, {received} received)", Chain(&error))
    }
}

/// Whether the error is of this kind.
pub(crate) fn is(error: &io::Error, kind: FlowErrorKind) -> bool {
    matches!(
        (error.kind(), kind),
        (io::ErrorKind::BrokenPipe, FlowErrorKind::BrokenPipe)
            | (io::ErrorKind::ConnectionReset, FlowErrorKind::Reset)
    )
}

/// Copies both ways until both sides have ended, each end passed on as the end of that direction alone.
///
/// A far side that stops reading may still have something to say: its side is read to the end before that
/// counts.
///
/// A far side that is a program is done once it has exited, whether or not it has read all: its exit status says
/// whether that was right.
pub(crate) async fn relay(near: Flow, far: Flow, at_end: AtEnd) -> (Relayed, Result<(), Break>) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut far_read, mut far_write) = Half::split(far);
    let far = far_read.clone();
    let (mut sent, mut received) = (0, 0);
    let result = {
        let up = copy(&mut near_read, &mut far_write, &mut sent);
        let down = copy(&mut far_read, &mut near_write, &mut received);
        tokio::pin!(up, down);
        // The direction that ends first decides what becomes of the other.
        tokio::select! {
            upward = &mut up => match upward {
                Err(CopyError::Read(error)) => Err(Break::NearRead(error)),
                Err(CopyError::Write(error)) => match down.await {
                    // A program need not read all of its input, as long as it ends well.
                    Ok(()) if far.has_exited() => Ok(()),
                    Ok(()) => Err(Break::FarWrite(error)),
                    Err(error) => Err(down_break(error)),
                },
                Ok(()) => down.await.map_err(down_break),
            },
            downward = &mut down => match downward {
                Err(error) => Err(down_break(error)),
                Ok(()) if at_end == AtEnd::Stop || far.has_exited() => Ok(()),
                Ok(()) => match up.await {
                    Ok(()) => Ok(()),
                    Err(CopyError::Read(error)) => Err(Break::NearRead(error)),
                    Err(CopyError::Write(error)) => Err(Break::FarWrite(error)),
                },
            },
        }
    };
    (Relayed { sent, received }, result)
}

/// One direction of a flow; clones are of the same flow. Unlike tokio's halves it lets the flow be asked.
#[derive(Clone)]
struct Half(Arc<Mutex<Flow>>);

impl Half {
    fn split(flow: Flow) -> (Self, Self) {
        let half = Self(Arc::new(Mutex::new(flow)));
        (half.clone(), half)
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is a program that has ended.
    fn has_exited(&self) -> bool {
        self.flow().fact(&EXIT_STATUS).is_some()
    }
}

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut *self.flow()), cx, buf)
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut *self.flow()), cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut *self.flow()), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut *self.flow()), cx)
    }
}

/// Connects `near`, a peer, with `child`, a program: like [`relay`], but the end of the program ends it
/// all.
pub(crate) async fn relay_child(near: Flow, child: Flow) -> (Relayed, Result<(), Break>) {
    let (mut near_read, mut near_write) = tokio::io::split(near);
    let (mut child_read, mut child_write) = tokio::io::split(child);
    let (mut sent, mut received) = (0, 0);
    let result = {
        let up = async {
            match copy(&mut near_read, &mut child_write, &mut sent).await {
                Err(CopyError::Read(error)) => return Err(Break::NearRead(error)),
                // A program need not read all of its input; how it ends says whether that was right.
                Err(CopyError::Write(_)) | Ok(()) => {}
            }
            std::future::pending().await
        };
        let down = copy(&mut child_read, &mut near_write, &mut received);
        tokio::select! {
            broken = up => broken,
            ended = down => ended.map_err(down_break),
        }
    };
    if result.is_ok() {
        let mut nowhere = tokio::io::sink();
        let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut near_read, &mut nowhere)).await;
    }
    (Relayed { sent, received }, result)
}

/// Sends everything back, and says how much.
pub(crate) async fn echo(flow: Flow) -> Result<u64, FlowError> {
    let (mut read, mut write) = tokio::io::split(flow);
    let mut moved = 0;
    match copy(&mut read, &mut write, &mut moved).await {
        Ok(()) => Ok(moved),
        Err(CopyError::Read(error) | CopyError::Write(error)) => Err(error.into()),
    }
}

fn down_break(error: CopyError) -> Break {
    match error {
        CopyError::Read(error) => Break::FarRead(error),
        CopyError::Write(error) => Break::NearWrite(error),
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end, and passes it on.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &mut u64,
) -> Result<(), CopyError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await.map_err(CopyError::Read)?;
        if n == 0 {
            return to.shutdown().await.map_err(CopyError::Write);
        }
        to.write_all(&buffer[..n]).await.map_err(CopyError::Write)?;
        to.flush().await.map_err(CopyError::Write)?;
        *moved += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuyau_tokio::duplex;

    #[test]
    fn a_gibibyte_in_memory() {
        const CHUNK: usize = 64 * 1024;
        const CHUNKS: u64 = 1 << 14;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let ((mut source, near), (far, mut drain)) = (duplex(), duplex());
            let relaying = tokio::spawn(relay(near, far, AtEnd::SendOn));
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
        let relaying = tokio::spawn(relay(near, far, AtEnd::SendOn));
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

    #[tokio::test]
    async fn at_a_terminal_the_far_sides_end_is_the_end() {
        let ((user, near), (far, mut peer)) = (duplex(), duplex());
        let relaying = tokio::spawn(relay(near, far, AtEnd::Stop));
        peer.shutdown().await.unwrap();
        let (relayed, result) = relaying.await.unwrap();
        assert!(result.is_ok());
        assert_eq!(relayed, Relayed::default());
        drop(user);
    }
}
