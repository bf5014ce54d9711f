//! Connections that a proxy joins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tuyau_core::Flow;

use crate::client::{Error, Stage};
use crate::incoming::FOR_EVER;
use crate::upgrade::UpgradeError;

/// The tunnels of a proxy: what was asked for by CONNECT, and connections after an upgrade. A server's end does not wait
/// for them, since HTTP has left them: [`ended`](Self::ended) does. Clones are the same tunnels.
#[derive(Clone, Debug)]
pub struct Tunnels {
    places: Arc<Semaphore>,
    most: u32,
    idle: Duration,
    off: watch::Sender<bool>,
}

impl Tunnels {
    pub(super) fn new(most: u32, idle: Duration) -> Self {
        let most = most.clamp(1, u32::MAX >> 3);
        let off = watch::Sender::new(false);
        Self { places: Arc::new(Semaphore::new(most as usize)), most, idle, off }
    }

    /// Until there are none; meanwhile none is opened. Cancel safe.
    pub async fn ended(&self) {
        // The semaphore is never closed.
        let _ = self.places.acquire_many(self.most).await;
    }

    /// Cuts off all that there are, and whatever is opened later.
    pub fn cut_off(&self) {
        self.off.send_replace(true);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.most as usize - self.places.available_permits()
    }

    /// A place for one.
    ///
    /// # Errors
    /// If there is none, what is said of that.
    pub(super) fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            Error::what(Stage::Connect, format!("as many tunnels are open as may be, {}", self.most))
        })
    }

    /// Joins what comes of these.
    pub(super) fn open(
        &self,
        place: OwnedSemaphorePermit,
        near: impl Future<Output = Result<Flow, UpgradeError>> + Send + 'static,
        far: impl Future<Output = Result<Flow, UpgradeError>> + Send + 'static,
    ) -> Tunnel {
        let (idle, mut off) = (self.idle, self.off.subscribe());
        let (tell, told) = watch::channel(None);
        drop(tokio::spawn(async move {
            let _place = place;
            let carried = match tokio::try_join!(near, far) {
                Ok((near, far)) => carry(near, far, idle, &mut off).await,
                Err(_) => Carried::default(),
            };
            // Whether anybody asks is their business.
            let _ = tell.send(Some(carried));
        }));
        Tunnel(told)
    }
}

/// A tunnel that was opened: an extension of the response that says so.
#[derive(Clone, Debug)]
pub struct Tunnel(watch::Receiver<Option<Carried>>);

/// What a tunnel carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// Bytes from the client.
    pub sent: u64,
    /// Bytes to the client.
    pub received: u64,
    /// What cut it off; none if both sides ended it.
    pub cut: Option<Cut>,
}

impl Default for Carried {
    fn default() -> Self {
        Self { sent: 0, received: 0, cut: Some(Cut::NotBegun) }
    }
}

/// What cut a tunnel off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// The connection to the client broke.
    Client(io::ErrorKind),
    /// The connection to the other side broke.
    Server(io::ErrorKind),
    /// Nothing moved for so long.
    Silence(Duration),
    /// The proxy: [`Tunnels::cut_off`].
    Proxy,
    /// One of the sides was gone before there was a tunnel.
    NotBegun,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(kind) => write!(f, "the connection to the client broke: {kind}"),
            Self::Server(kind) => write!(f, "the connection to the server broke: {kind}"),
            Self::Silence(idle) => write!(f, "nothing moved for {idle:?}"),
            Self::Proxy => f.write_str("it was cut off at the end of the proxy"),
            Self::NotBegun => f.write_str("one side was gone before there was a tunnel"),
        }
    }
}

impl Tunnel {
    /// What it carried, once it has ended. Cancel safe.
    pub async fn ended(&mut self) -> Carried {
        match self.0.wait_for(Option::is_some).await {
            Ok(carried) => carried.unwrap_or_default(),
            Err(_) => Carried::default(),
        }
    }
}

/// Copies both ways, each end passed on as the end of that direction alone.
async fn carry(near: Flow, far: Flow, idle: Duration, off: &mut watch::Receiver<bool>) -> Carried {
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
    let to_server = one_way((from_near, Cut::Client), (to_far, Cut::Server), &sent);
    let to_client = one_way((from_far, Cut::Server), (to_near, Cut::Client), &received);
    let silence = async {
        let mut before = None;
        loop {
            let now = (sent.load(Relaxed), received.load(Relaxed));
            if before == Some(now) {
                break;
            }
            before = Some(now);
            sleep(idle.min(FOR_EVER)).await;
        }
    };
    let cut = tokio::select! {
        copied = async { tokio::try_join!(to_server, to_client) } => copied.err(),
        () = silence => Some(Cut::Silence(idle)),
        // Whoever could cut it off is gone in the other case.
        Ok(_) = off.wait_for(|off| *off) => Some(Cut::Proxy),
    };
    Carried { sent: sent.into_inner(), received: received.into_inner(), cut }
}

/// Each side with what to say of its errors.
async fn one_way(
    (mut from, unread): (impl AsyncRead + Unpin, fn(io::ErrorKind) -> Cut),
    (mut to, unwritten): (impl AsyncWrite + Unpin, fn(io::ErrorKind) -> Cut),
    moved: &AtomicU64,
) -> Result<(), Cut> {
    let (unread, unwritten) =
        (|error: io::Error| unread(error.kind()), |error: io::Error| unwritten(error.kind()));
    let mut bytes = vec![0; 16 * 1024];
    loop {
        match from.read(&mut bytes).await.map_err(unread)? {
            0 => return to.shutdown().await.map_err(unwritten),
            n => {
                to.write_all(&bytes[..n]).await.map_err(unwritten)?;
                to.flush().await.map_err(unwritten)?;
                moved.fetch_add(n as u64, Relaxed);
            }
        }
    }
}
