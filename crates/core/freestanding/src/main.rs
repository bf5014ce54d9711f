//! Resolves a context over an in-memory flow, with no operating system but two system calls: no std,
//! no libc, no start files. Exits with 0 if the flow answers as it should.
#![no_std]
#![no_main]

extern crate alloc;

mod bare;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::any::Any;
use core::task::{Context as Cx, Poll, Waker};

use tuyau_core::{
    ConnectCx, ConnectError, ConnectErrorKind, Context, Endpoint, Flow, FlowError, Key, Protocol, RawFlow,
    ReadBuf, decline, or, req,
};

/// What is written can be read again.
struct Echo(VecDeque<u8>);

impl RawFlow for Echo {
    fn poll_read(&mut self, _: &mut Cx<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), FlowError>> {
        while buf.remaining() > 0 {
            let Some(byte) = self.0.pop_front() else { break };
            buf.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, _: &mut Cx<'_>, bytes: &[&[u8]]) -> Poll<Result<usize, FlowError>> {
        self.0.extend(bytes.iter().copied().flatten());
        Poll::Ready(Ok(bytes.iter().map(|bytes| bytes.len()).sum()))
    }

    fn poll_flush(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Cx<'_>) -> Poll<Result<(), FlowError>> {
        Poll::Ready(Ok(()))
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
}

struct Memory;

impl Protocol for Memory {
    type Endpoint = u16;
    type Flow = Flow;

    async fn connect(&self, port: u16, _: &ConnectCx<'_>) -> Result<Flow, ConnectError> {
        match port {
            80 => Ok(Flow::new(Echo(VecDeque::new()))),
            _ => Err(ConnectError::new(ConnectErrorKind::Refused, "connect")),
        }
    }
}

static MEMORY: Endpoint<Memory> = Endpoint::new("memory", &Memory);
static HOST: Key<&str> = Key::new("host");
static PORT: Key<u16> = Key::new("port");

async fn story() {
    let ctx = Context::new()
        .with(&HOST, "localhost")
        .derive(&MEMORY, (req(&HOST), or(&PORT, 80)), |(host, port)| async move {
            if host == "localhost" { Ok(port) } else { Err(decline("elsewhere")) }
        })
        .offer(&MEMORY);
    let Ok(mut flow) = ctx.resolve().await else { panic!("it resolves") };
    assert!(flow.write_all(b"ping\r\n").await.is_ok());
    let mut answer = [0; 6];
    assert!(flow.read_exact(&mut answer).await.is_ok());
    assert_eq!(&answer, b"ping\r\n");

    let Err(error) = ctx.with(&PORT, 81).resolve().await else { panic!("nobody listens there") };
    assert_eq!(error.kind(), ConnectErrorKind::Refused);
    assert!(error.to_string().contains("connect"));
}

/// Whether the story ends well. It never waits.
fn run() -> bool {
    let mut story = core::pin::pin!(story());
    story.as_mut().poll(&mut Cx::from_waker(Waker::noop())).is_ready()
}
