//! The protocol of `docs/tutorial.md`, which quotes it. Depends on `tuyau-core` alone.

mod jump;

pub use jump::{Jump, jump};

use std::error::Error;
use tuyau_core::{Context, Flow, FlowError, FlowErrorKind};

/// A flow of lines; they end in CRLF, or in LF alone.
struct Lines {
    flow: Flow,
    unread: Vec<u8>,
}

impl Lines {
    async fn receive(&mut self) -> Result<Option<String>, FlowError> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if self.unread.len() > 4096 {
                return Err(FlowErrorKind::InvalidData.into()); // a line without an end
            }
            let mut bytes = [0; 1024];
            match self.flow.read(&mut bytes).await? {
                0 => return Ok(None),
                n => self.unread.extend_from_slice(&bytes[..n]),
            }
        }
    }

    async fn send(&mut self, line: &str) -> Result<(), FlowError> {
        self.flow.write_all(format!("{line}\r\n").as_bytes()).await
    }
}

/// Sends each of `lines`, and returns the answers.
pub async fn client(ctx: &Context, lines: &[&str]) -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
    let flow = ctx.resolve().await?.into_flow(); // the only line that knows of connecting
    let mut peer = Lines { flow, unread: Vec::new() };
    let mut answers = Vec::new();
    for line in lines {
        peer.send(line).await?;
        answers.push(peer.receive().await?.ok_or("the server hung up")?);
    }
    peer.flow.shutdown().await?;
    Ok(answers)
}

/// Answers one client, until it has said all.
pub async fn handler(flow: Flow) -> Result<(), FlowError> {
    let mut peer = Lines { flow, unread: Vec::new() };
    while let Some(line) = peer.receive().await? {
        match line.as_str() {
            "ping" => peer.send("pong").await?,
            "pong" => peer.send("ping").await?,
            other => peer.send(other).await?,
        }
    }
    peer.flow.shutdown().await
}
