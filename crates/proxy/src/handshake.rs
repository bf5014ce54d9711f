//! Reading a handshake off a flow without losing what comes after it.

use tuyau_core::{ConnectError, ConnectErrorKind, Flow, FlowError, FlowErrorKind};

/// A flow whose peer's answer is being read.
pub(crate) struct Handshake {
    flow: Flow,
    unread: Vec<u8>,
}

/// Why there is no answer.
pub(crate) enum Broken {
    /// The peer ended before the answer was complete.
    Ended,
    Failed(FlowError),
}

impl From<FlowError> for Broken {
    fn from(error: FlowError) -> Self {
        Self::Failed(error)
    }
}

impl Broken {
    /// In words: `peer` hung up `when`. What the peer said before is in `handshake`.
    pub(crate) fn explain(
        self,
        peer: &str,
        when: &str,
        handshake: &Handshake,
        hint: &'static str,
    ) -> ConnectError {
        let so_far = match handshake.unread() {
            [] => String::new(),
            bytes => format!(", having said {}", crate::error::said(bytes)),
        };
        match self {
            Self::Ended => {
                ConnectError::new(ConnectErrorKind::Closed, format!("{peer} hung up {when}{so_far}"))
                    .with_hint(hint)
            }
            // What TLS says once its handshake is over.
            Self::Failed(error) if error.kind() == FlowErrorKind::PermissionDenied => ConnectError::new(
                ConnectErrorKind::Authentication,
                format!("{peer} broke off {when}{so_far}"),
            )
            .with_source(error)
            .with_hint("give a certificate and its key"),
            Self::Failed(error) => {
                let kind = ConnectError::from(FlowError::new(error.kind())).kind();
                ConnectError::new(kind, format!("{peer} broke off {when}{so_far}"))
                    .with_source(error)
                    .with_hint(hint)
            }
        }
    }
}

impl Handshake {
    pub(crate) fn new(flow: Flow) -> Self {
        Self { flow, unread: Vec::new() }
    }

    /// Writes all of `bytes`, and flushes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        Ok(self.flow.write_all(bytes).await?)
    }

    /// What was read and not yet taken.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Reads some more.
    pub(crate) async fn more(&mut self) -> Result<(), Broken> {
        let mut some = [0; 1024];
        match self.flow.read(&mut some).await? {
            0 => Err(Broken::Ended),
            n => {
                self.unread.extend_from_slice(&some[..n]);
                Ok(())
            }
        }
    }

    /// Reads until `n` bytes are there.
    pub(crate) async fn until(&mut self, n: usize) -> Result<(), Broken> {
        while self.unread.len() < n {
            self.more().await?;
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub(crate) async fn take<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        self.until(N).await?;
        let mut taken = [0; N];
        taken.copy_from_slice(&self.unread[..N]);
        self.skip(N);
        Ok(taken)
    }

    /// The next `n` bytes.
    pub(crate) async fn take_vec(&mut self, n: usize) -> Result<Vec<u8>, Broken> {
        self.until(n).await?;
        let rest = self.unread.split_off(n);
        Ok(std::mem::replace(&mut self.unread, rest))
    }

    /// Counts up to `n` bytes as read.
    pub(crate) fn skip(&mut self, n: usize) {
        self.unread.drain(..n.min(self.unread.len()));
    }

    /// The flow, what was read beyond the handshake in front.
    pub(crate) fn into_flow(self) -> Flow {
        self.flow.with_unread(self.unread)
    }
}
