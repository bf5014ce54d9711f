//! Connections that a proxy joins.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tuyau_core::Flow;

use crate::incoming::FOR_EVER;
use crate::upgrade::UpgradeError;

/// The tunnels of a proxy: what was asked for by CONNECT, and connections after an upgrade. A server's end does not wait
/// for them, since HTTP has left them: [`ended`](Self::ended) does. Clones are the same tunnels.
#[derive(Clone, Debug)]
pub struct Tunnels {
    places: Arc<Semaphore>,
    most: u32,
    idle: Duration,
}

impl Tunnels {
    pub(super) fn new(most: u32, idle: Duration) -> Self {
        let most = most.clamp(1, u32::MAX >> 3);
        Self { places: Arc::new(Semaphore::new(most as usize)), most, idle }
    }

    /// Until there are none; meanwhile none is opened. Cancel safe.
    pub async fn ended(&self) {
        // The semaphore is never closed.
        let _ = self.places.acquire_many(self.most).await;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.most as usize - self.places.available_permits()
    }

    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Joins what comes of these.
    pub(super) fn open(
        &self,
        place: OwnedSemaphorePermit,
        near: impl Future<Output = Result<Flow, UpgradeError>> + Send + 'static,
        far: impl Future<Output = Result<Flow, UpgradeError>> + Send + 'static,
    ) -> Tunnel {
        let idle = self.idle;
        let (tell, told) = watch::channel(None);
        drop(tokio::spawn(async move {
            let _place = place;
            let carried = match tokio::try_join!(near, far) {
                Ok((near, far)) => carry(near, far, idle).await,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// Bytes from the client.
    pub sent: u64,
    /// Bytes to the client.
    pub received: u64,
    /// Whether both sides ended it, rather than an error or a silence.
    pub whole: bool,
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
async fn carry(near: Flow, far: Flow, idle: Duration) -> Carried {
    let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
    let ((from_near, to_near), (from_far, to_far)) = (split(near), split(far));
    let both =
        async { tokio::try_join!(one_way(from_near, to_far, &sent), one_way(from_far, to_near, &received)) };
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
    let whole = tokio::select! {
        copied = both => copied.is_ok(),
        () = silence => false,
    };
    Carried { sent: sent.into_inner(), received: received.into_inner(), whole }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        match from.read(&mut bytes).await? {
            0 => return to.shutdown().await,
            n => {
                to.write_all(&bytes[..n]).await?;
                to.flush().await?;
                moved.fetch_add(n as u64, Relaxed);
            }
        }
    }
}
