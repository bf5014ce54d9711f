//! The ping-pong protocol: a line `ping` is answered by `pong`, `pong` by `ping`, and any other by
//! itself. Lines end in CRLF or LF, answers in CRLF.
//!
//! This is what a protocol library looks like: it depends on `tuyau_core` alone, and never learns
//! what carries it.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context as TaskContext, Poll};

use tuyau_core::{Context, Flow, FlowError, ReadBuf, Report, Resolved, names};

/// The longest line, without its end. A peer that sends more is not served.
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// The port, where neither the user nor the URI says another.
pub(crate) const DEFAULT_PORT: u16 = 4343;

/// What this protocol adds under what the user gave.
pub(crate) fn defaults() -> Context {
    Context::new().with(&names::PORT, DEFAULT_PORT)
}

/// Connects a client, by whatever `ctx` resolves into.
pub(crate) async fn client(ctx: &Context) -> Result<Client, tuyau_core::Error> {
    let resolved = ctx.clone().under(defaults()).resolve().await?;
    Ok(Client { resolved, lines: Lines::default() })
}

/// Serves one client to its end, and says how many lines it answered.
pub(crate) async fn handler(mut flow: Flow) -> Result<u64, PingPongError> {
    let mut lines = Lines::default();
    let mut answers = Vec::new();
    let mut count = 0;
    loop {
        // All that has come is answered at once: one write for many lines.
        while let Some(line) = lines.take()? {
            answer(line, &mut answers);
            count += 1;
        }
        if !answers.is_empty() {
            flow.write_all(&answers).await?;
            answers.clear();
        }
        if !lines.read_more(&mut flow).await? {
            break;
        }
    }
    // A last line may lack its end.
    if let Some(line) = lines.rest() {
        answer(line, &mut answers);
        flow.write_all(&answers).await?;
        count += 1;
    }
    flow.shutdown().await?;
    Ok(count)
}

fn answer(line: &[u8], answers: &mut Vec<u8>) {
    answers.extend_from_slice(match line {
        b"ping" => b"pong",
        b"pong" => b"ping",
        other => other,
    });
    answers.extend_from_slice(b"\r\n");
}

/// A connected client.
pub(crate) struct Client {
    resolved: Resolved,
    lines: Lines,
}

impl Client {
    /// How it was connected.
    pub(crate) fn report(&self) -> Report {
        self.resolved.report()
    }

    /// Sends a line, without its end, and waits for the answer; `None` if the server has ended
    /// instead.
    pub(crate) async fn ask(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, PingPongError> {
        if line.len() > MAX_LINE {
            return Err(PingPongError::LineTooLong);
        }
        let mut bytes = Vec::with_capacity(line.len() + 2);
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
        let sent = self.resolved.write_all(&bytes).await;
        match self.lines.next(&mut self.resolved).await {
            Ok(Some(answer)) => Ok(Some(answer)),
            Ok(None) if self.lines.is_empty() => sent.map(|()| None).map_err(PingPongError::Flow),
            Ok(None) => Err(PingPongError::AnswerBrokeOff),
            Err(error) => Err(error),
        }
    }

    /// Sends `line` over and over, at least `total` bytes of it, without waiting for the answers;
    /// reads them at the same time. How many bytes went there, which is as many as came back.
    pub(crate) async fn pour(&mut self, line: &[u8], total: u64) -> Result<u64, PingPongError> {
        let mut unit = line.to_vec();
        unit.extend_from_slice(b"\r\n");
        let count = total.div_ceil(unit.len() as u64);
        let mut pour = Pour { unit: &unit, to_send: count * unit.len() as u64, sent: 0, came: 0 };
        let mut buffer = vec![0; 64 * 1024];
        poll_fn(|cx| pour.poll(&mut self.resolved, &mut buffer, cx)).await?;
        Ok(pour.sent)
    }

    /// Ends cleanly: the server sees the end of the lines. Who wants to see the server end too reads on from
    /// the flow.
    pub(crate) async fn close(mut self) -> Result<Flow, PingPongError> {
        self.resolved.shutdown().await?;
        Ok(self.resolved.into_flow())
    }
}

/// Writing and reading at once, since a server that can't write its answers stops reading.
struct Pour<'a> {
    unit: &'a [u8],
    to_send: u64,
    sent: u64,
    came: u64,
}

impl Pour<'_> {
    fn poll(
        &mut self,
        flow: &mut Flow,
        buffer: &mut [u8],
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<(), PingPongError>> {
        while self.sent < self.to_send {
            let done = (self.sent % self.unit.len() as u64) as usize;
            // Sixteen lines in one write, the first of which may be sent in part already.
            let ahead = ((self.to_send - self.sent) / self.unit.len() as u64).min(15) as usize;
            let mut slices = [self.unit; 16];
            slices[0] = &self.unit[done..];
            match flow.poll_write(cx, &slices[..ahead.max(1)])? {
                Poll::Ready(0) => {
                    return Poll::Ready(Err(FlowError::new(tuyau_core::FlowErrorKind::BrokenPipe).into()));
                }
                Poll::Ready(n) => self.sent += n as u64,
                Poll::Pending => break,
            }
        }
        let _ = flow.poll_flush(cx)?;
        while self.came < self.to_send {
            let mut buf = ReadBuf::new(buffer);
            match flow.poll_read(cx, &mut buf)? {
                Poll::Ready(()) if buf.filled().is_empty() => {
                    return Poll::Ready(Err(PingPongError::AnswerBrokeOff));
                }
                Poll::Ready(()) => {
                    if !self.check(buf.filled()) {
                        return Poll::Ready(Err(PingPongError::WrongAnswer));
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn check(&mut self, mut came: &[u8]) -> bool {
        while !came.is_empty() {
            let wanted = &self.unit[(self.came % self.unit.len() as u64) as usize..];
            let n = wanted.len().min(came.len());
            if came[..n] != wanted[..n] {
                return false;
            }
            self.came += n as u64;
            came = &came[n..];
        }
        self.came <= self.to_send
    }
}

/// Bytes that were read, to be taken line by line.
#[derive(Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    start: usize,
    /// How far no line's end was found.
    searched: usize,
    /// Where is read to, so that a read that is given up leaves nothing among the bytes.
    chunk: Vec<u8>,
}

impl Lines {
    /// The next line, without its end; `None` at the end of the flow. Cancel safe.
    pub(crate) async fn next(&mut self, flow: &mut Flow) -> Result<Option<Vec<u8>>, PingPongError> {
        loop {
            if let Some(line) = self.take()? {
                return Ok(Some(line.to_vec()));
            }
            if !self.read_more(flow).await? {
                return Ok(None);
            }
        }
    }

    /// A line that is there already, without its end.
    fn take(&mut self) -> Result<Option<&[u8]>, PingPongError> {
        let Some(found) = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.bytes.len();
            return Ok(None);
        };
        let (start, end) = (self.start, self.searched + found);
        (self.start, self.searched) = (end + 1, end + 1);
        match without_cr(&self.bytes[start..end]) {
            line if line.len() > MAX_LINE => Err(PingPongError::LineTooLong),
            line => Ok(Some(line)),
        }
    }

    /// What is left at the end of the flow: a line without an end.
    pub(crate) fn rest(&mut self) -> Option<&[u8]> {
        let start = std::mem::replace(&mut self.start, self.bytes.len());
        self.searched = self.start;
        (start < self.bytes.len()).then(|| without_cr(&self.bytes[start..]))
    }

    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Reads what comes; false at the end.
    async fn read_more(&mut self, flow: &mut Flow) -> Result<bool, PingPongError> {
        // With its CR, of which it is not yet known whether it belongs to the end.
        if self.bytes.len() - self.start > MAX_LINE + 1 {
            return Err(PingPongError::LineTooLong);
        }
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.chunk.resize(16 * 1024, 0);
        let read = flow.read(&mut self.chunk).await?;
        self.bytes.extend_from_slice(&self.chunk[..read]);
        Ok(read > 0)
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// What goes wrong once connected.
#[derive(Debug)]
pub(crate) enum PingPongError {
    /// A line of more than [`MAX_LINE`] bytes.
    LineTooLong,
    /// The server ended and did not answer.
    NoAnswer,
    /// The server ended in the middle of an answer.
    AnswerBrokeOff,
    /// The answer is not what the protocol says.
    WrongAnswer,
    /// The flow failed.
    Flow(FlowError),
}

impl fmt::Display for PingPongError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineTooLong => {
                write!(f, "a line of more than {MAX_LINE} bytes")
            }
            Self::NoAnswer => f.write_str("the server ended and did not answer"),
            Self::AnswerBrokeOff => f.write_str("the server ended in the middle of an answer"),
            Self::WrongAnswer => f.write_str("that is not the answer"),
            Self::Flow(error) => error.fmt(f),
        }
    }
}

impl Error for PingPongError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Flow(error) => error.source(),
            _ => None,
        }
    }
}

impl From<FlowError> for PingPongError {
    fn from(error: FlowError) -> Self {
        Self::Flow(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tuyau_core::{ConnectError, ConnectErrorKind};
    use tuyau_tokio::duplex;

    /// A context that resolves into `flow`, once.
    fn over(flow: Flow) -> Context {
        let flow = Mutex::new(Some(flow));
        Context::from_fn(move || {
            let flow = flow.lock().unwrap().take();
            async { flow.ok_or(ConnectError::new(ConnectErrorKind::Refused, "taken")) }
        })
    }

    #[tokio::test]
    async fn client_and_server_in_memory() {
        let (ours, theirs) = duplex();
        let server = tokio::spawn(handler(theirs));
        let mut client = client(&over(ours)).await.unwrap();
        for (line, answer) in
            [("ping", "pong"), ("pong", "ping"), ("", ""), ("Ping", "Ping"), ("a\rb", "a\rb")]
        {
            assert_eq!(client.ask(line.as_bytes()).await.unwrap().as_deref(), Some(answer.as_bytes()));
        }
        let poured = client.pour(b"0123456789", 1 << 20).await.unwrap();
        assert_eq!(poured, (1_u64 << 20).div_ceil(12) * 12);
        assert_eq!(client.ask(b"ping").await.unwrap().as_deref(), Some(&b"pong"[..]));
        drop(client.close().await.unwrap());
        assert_eq!(server.await.unwrap().unwrap(), 6 + poured / 12);
    }

    #[tokio::test]
    async fn lines_end_in_crlf_or_lf_wherever_the_pieces_are_cut() {
        for size in 1..8 {
            let (mut ours, theirs) = duplex();
            let server = tokio::spawn(handler(theirs));
            for piece in b"ping\r\npong\n\n\r\nx\r".chunks(size) {
                ours.write_all(piece).await.unwrap();
            }
            ours.shutdown().await.unwrap();
            let mut answers = [0; 64];
            let mut filled = 0;
            loop {
                match ours.read(&mut answers[filled..]).await.unwrap() {
                    0 => break,
                    n => filled += n,
                }
            }
            assert_eq!(answers[..filled], *b"pong\r\nping\r\n\r\n\r\nx\r\n", "in pieces of {size}");
            assert_eq!(server.await.unwrap().unwrap(), 5);
        }
    }

    #[tokio::test]
    async fn a_line_has_a_limit_with_and_without_an_end() {
        for (length, end, fits) in [
            (MAX_LINE, "\r\n", true),
            (MAX_LINE, "\n", true),
            (MAX_LINE + 1, "\r\n", false),
            (MAX_LINE + 2, "", false),
        ] {
            let (mut ours, theirs) = duplex();
            let server = tokio::spawn(handler(theirs));
            let mut line = vec![b'a'; length];
            line.extend_from_slice(end.as_bytes());
            let writing = async {
                let _ = ours.write_all(&line).await;
                let _ = ours.shutdown().await;
                let mut rest = vec![0; 1 << 17];
                while ours.read(&mut rest).await.is_ok_and(|n| n > 0) {}
            };
            writing.await;
            match server.await.unwrap() {
                Ok(count) => assert!(fits && count == 1, "{length} {end:?}"),
                Err(error) => {
                    assert!(!fits && matches!(error, PingPongError::LineTooLong), "{length} {end:?}")
                }
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_or_is_wrong_is_an_error() {
        let (ours, mut theirs) = duplex();
        theirs.write_all(b"po").await.unwrap();
        drop(theirs);
        let mut client = client(&over(ours)).await.unwrap();
        assert!(matches!(client.ask(b"ping").await, Err(PingPongError::AnswerBrokeOff)));
        let (ours, mut theirs) = duplex();
        theirs.write_all(b"something else\r\n").await.unwrap();
        let mut client = super::client(&over(ours)).await.unwrap();
        assert!(matches!(client.pour(b"ping", 100).await, Err(PingPongError::WrongAnswer)));
    }
}
