//! IP packets over a flow, each behind its length: what a stack lies on that is not the nearest.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tuyau_core::Flow;
use tuyau_stack::{Device, Medium};

/// One end. What is on the way is bounded by the windows of the connections in it.
pub(crate) struct Tunnel {
    incoming: UnboundedReceiver<Vec<u8>>,
    outgoing: UnboundedSender<Vec<u8>>,
}

impl Tunnel {
    pub(crate) fn over(flow: Flow) -> Self {
        let (read, write) = split(flow);
        let (deliver, incoming) = unbounded_channel();
        let (outgoing, send) = unbounded_channel();
        tokio::spawn(receive(read, deliver));
        tokio::spawn(transmit(send, write));
        Self { incoming, outgoing }
    }
}

async fn receive(mut flow: ReadHalf<Flow>, deliver: UnboundedSender<Vec<u8>>) {
    while let Ok(length) = flow.read_u16().await {
        let mut packet = vec![0; length.into()];
        if flow.read_exact(&mut packet).await.is_err() || deliver.send(packet).is_err() {
            return;
        }
    }
}

async fn transmit(mut packets: UnboundedReceiver<Vec<u8>>, mut flow: WriteHalf<Flow>) {
    let mut many = Vec::new();
    while packets.recv_many(&mut many, 64).await > 0 {
        let mut bytes = Vec::new();
        for packet in many.drain(..) {
            let length = u16::try_from(packet.len()).expect("it is at most the MTU");
            bytes.extend(length.to_be_bytes());
            bytes.extend(packet);
        }
        if flow.write_all(&bytes).await.is_err() || flow.flush().await.is_err() {
            return;
        }
    }
    let _ = flow.shutdown().await;
}

impl Device for Tunnel {
    fn medium(&self) -> Medium {
        Medium::Ip
    }

    fn mtu(&self) -> usize {
        9000
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(next) = ready!(self.incoming.poll_recv(cx)) else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        packet[..next.len()].copy_from_slice(&next);
        Poll::Ready(Ok(next.len()))
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.outgoing.send(packet.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
