//! The standard streams of this process as a flow.

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use tuyau_core::names::{LOCAL, PEER};
use tuyau_core::{
    AcceptError, AcceptErrorKind, Accepted, Ask, ConnectCx, ConnectError, ConnectErrorKind, Endpoint, Flow,
    FlowError, FlowErrorKind, Listener, Protocol, RawFlow, RawListener, ReadBuf, Target,
};

/// Standard input and output as a flow. Half-close closes the output.
pub static STDIO: Endpoint<Stdio> = Endpoint::new("stdio", &Stdio);

/// How many bytes are read or written at once.
const CHUNK: usize = 64 * 1024;

/// The protocol of [`STDIO`].
#[derive(Clone, Copy, Debug)]
pub struct Stdio;

/// The standard streams of this process. Clones are the same: one of them can be connected, once,
/// since two readers would each get a part of the input. Make one per process.
#[derive(Clone, Debug, Default)]
pub struct StdioEndpoint {
    taken: Arc<AtomicBool>,
}

impl StdioEndpoint {
    /// The standard streams, not taken yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn take(&self) -> Result<Flow, ConnectError> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(ConnectError::new(
                ConnectErrorKind::Misuse,
                "the standard streams are in use already",
            )
            .with_hint("a process has one standard input: use it for one flow"));
        }
        StdioFlow::start()
            .map(Flow::new)
            .map_err(|error| crate::error::connect_error("standard streams", error))
    }
}

impl Protocol for Stdio {
    type Endpoint = StdioEndpoint;
    type Flow = Flow;

    async fn connect(&self, endpoint: StdioEndpoint, _cx: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        endpoint.take()
    }

    fn describe(&self, _endpoint: &StdioEndpoint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("-")
    }
}

/// Accepts the standard streams, once; it is closed then.
pub fn listen_stdio(endpoint: StdioEndpoint) -> Listener {
    Listener::new(StdioListener(endpoint))
}

struct StdioListener(StdioEndpoint);

impl RawListener for StdioListener {
    fn poll_accept(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Accepted, AcceptError>> {
        Poll::Ready(match self.0.take() {
            Ok(flow) => Ok(Accepted::Flow(flow)),
            // They were given out before.
            Err(error) if error.kind() == ConnectErrorKind::Misuse => {
                Err(AcceptError::new(AcceptErrorKind::Closed))
            }
            Err(error) => Err(AcceptError::with_source(AcceptErrorKind::Closed, error)),
        })
    }

    fn local(&self) -> Target {
        Target::Described("stdio".into())
    }
}

/// Each direction has a thread: standard streams may be files, which no readiness is known of, and
/// making a terminal or pipe non-blocking would do so for every process that shares it. The threads
/// are not tokio's, which would wait for a pending read when its runtime shuts down.
struct StdioFlow {
    input: Worker,
    chunk: Vec<u8>,
    read: usize,
    output: Worker,
    /// `None` while the thread has it.
    unwritten: Option<Vec<u8>>,
    shut: bool,
}

impl StdioFlow {
    fn start() -> io::Result<Self> {
        let input = Worker::start("stdin", |mut chunk| {
            chunk.resize(CHUNK, 0);
            let n = read_some(&mut chunk)?;
            chunk.truncate(n);
            Ok(chunk)
        })?;
        let output = Worker::start("stdout", |mut chunk| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&chunk)?;
            stdout.flush()?;
            chunk.clear();
            Ok(chunk)
        })?;
        Ok(Self { input, chunk: Vec::new(), read: 0, output, unwritten: Some(Vec::new()), shut: false })
    }

    fn unread(&self) -> &[u8] {
        &self.chunk[self.read..]
    }

    /// What is to be written, once the thread has given it back.
    fn poll_unwritten(&mut self, cx: &mut Context<'_>) -> Poll<Result<&mut Vec<u8>, FlowError>> {
        let chunk = match self.unwritten.take() {
            Some(chunk) => chunk,
            None => ready!(self.output.poll_done(cx))?,
        };
        Poll::Ready(Ok(self.unwritten.insert(chunk)))
    }

    fn write_out(&mut self) {
        if let Some(chunk) = self.unwritten.take() {
            self.output.give(chunk);
        }
    }
}

fn read_some(chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match io::stdin().lock().read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl RawFlow for StdioFlow {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let bytes = ready!(self.poll_fill(cx))?;
        let n = bytes.len().min(buf.remaining());
        buf.put_slice(&bytes[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        if self.shut {
            return Poll::Ready(Err(FlowErrorKind::WriteAfterShutdown.into()));
        }
        let chunk = ready!(self.poll_unwritten(cx))?;
        let mut written = 0;
        for slice in bytes {
            let n = slice.len().min(CHUNK - chunk.len());
            chunk.extend_from_slice(&slice[..n]);
            written += n;
        }
        if chunk.len() == CHUNK {
            self.write_out();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        while !ready!(self.poll_unwritten(cx))?.is_empty() {
            self.write_out();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), FlowError>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_flush(cx))?;
        self.shut = true;
        Poll::Ready(close_stdout().map_err(FlowError::from))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_lower(self: Box<Self>) -> Result<(Flow, Vec<u8>), Box<dyn RawFlow>> {
        Err(self)
    }

    fn fact(&self, ask: &mut Ask<'_>) {
        ask.answer(&PEER, || Target::Described("stdio".into()));
        ask.answer(&LOCAL, || Target::Described("this process".into()));
    }

    fn can_fill(&self) -> bool {
        true
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], FlowError>> {
        if self.unread().is_empty() {
            // Read on demand only: what nobody has asked for stays there for other processes.
            if !self.input.busy {
                self.input.give(std::mem::take(&mut self.chunk));
                self.read = 0;
            }
            self.chunk = ready!(self.input.poll_done(cx))?;
        }
        Poll::Ready(Ok(self.unread()))
    }

    fn consume(&mut self, n: usize) {
        self.read = (self.read + n).min(self.chunk.len());
    }
}

/// A thread that does one thing with a chunk, again and again, and gives it back.
struct Worker {
    chunks: std::sync::mpsc::SyncSender<Vec<u8>>,
    done: mpsc::Receiver<io::Result<Vec<u8>>>,
    busy: bool,
}

impl Worker {
    fn start(name: &str, work: impl Fn(Vec<u8>) -> io::Result<Vec<u8>> + Send + 'static) -> io::Result<Self> {
        let (chunks, to_do) = std::sync::mpsc::sync_channel(1);
        let (did, done) = mpsc::channel(1);
        std::thread::Builder::new().name(name.into()).spawn(move || {
            while let Ok(chunk) = to_do.recv() {
                if did.blocking_send(work(chunk)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { chunks, done, busy: false })
    }

    /// The worker must not be busy.
    fn give(&mut self, chunk: Vec<u8>) {
        // It can't fail: the thread ends only after this. Were it to, `poll_done` would say so.
        self.busy = self.chunks.try_send(chunk).is_ok();
    }

    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<u8>, FlowError>> {
        if !self.busy {
            // The chunk was lost to an error that has been reported; it goes on with a new one.
            return Poll::Ready(Ok(Vec::new()));
        }
        let done = ready!(self.done.poll_recv(cx));
        self.busy = false;
        match done {
            Some(result) => Poll::Ready(result.map_err(FlowError::from)),
            None => Poll::Ready(Err(FlowErrorKind::BrokenPipe.into())),
        }
    }
}

/// The descriptor stays taken, so that no file opened later becomes the standard output.
#[cfg(unix)]
fn close_stdout() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(null).map_err(io::Error::from)
}

#[cfg(not(unix))]
fn close_stdout() -> io::Result<()> {
    Ok(())
}
