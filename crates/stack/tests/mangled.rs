//! Whatever a peer sends, nothing panics, and the stack goes on.

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proptest::prelude::*;
use smoltcp::wire::{IpAddress, Ipv4Packet, TcpPacket};
use support::{accept, addr, config, cx};
use tuyau_core::Net;
use tuyau_stack::{Conditions, Device, Link, Medium, Port, Stack};

/// A device on which a part of the packets that come in are changed at random, and have right checksums all the same.
struct Mangling {
    port: Port,
    random: u64,
    on: Arc<AtomicBool>,
}

impl Mangling {
    fn next(&mut self) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) as usize
    }

    /// How long it is now.
    fn mangle(&mut self, mut packet: &mut [u8]) -> usize {
        if self.next().is_multiple_of(3) {
            return packet.len();
        }
        if self.next().is_multiple_of(20) {
            let length = self.next() % (packet.len() + 1);
            packet = &mut packet[..length];
        }
        for _ in 0..self.next() % 5 {
            // Mostly in the headers, of which the addresses stay: else it is somebody else's packet.
            let at = match self.next() % 4 {
                0 => self.next() % 12,
                _ => 24 + self.next() % 36,
            };
            let value = [0, 0xff, 1, self.next() as u8][self.next() % 4];
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        fix(packet);
        packet.len()
    }
}

/// Makes the checksums right, if it is TCP still.
fn fix(packet: &mut [u8]) {
    let Ok(mut ip) = Ipv4Packet::new_checked(packet) else { return };
    ip.fill_checksum();
    let (from, to) = (IpAddress::from(ip.src_addr()), IpAddress::from(ip.dst_addr()));
    if let Ok(mut tcp) = TcpPacket::new_checked(ip.payload_mut()) {
        tcp.fill_checksum(&from, &to);
    }
}

impl Device for Mangling {
    fn medium(&self) -> Medium {
        self.port.medium()
    }

    fn mtu(&self) -> usize {
        self.port.mtu()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        let length = ready!(self.port.poll_receive(cx, packet))?;
        let on = self.on.load(Ordering::Relaxed);
        Poll::Ready(Ok(if on { self.mangle(&mut packet[..length]) } else { length }))
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.port.send(packet)
    }
}

/// Connects, talks and hangs up under mangling; then it is over, and all must work.
async fn survives(seed: u64) {
    let runtime = tuyau_tokio::runtime();
    let (here, there) =
        Link::new(runtime.clone(), Conditions::new().delay(Duration::from_millis(1)), seed).ends();
    let on = Arc::new(AtomicBool::new(true));
    let stack = |last: u8, port| {
        let random = (seed << 8 | u64::from(last)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let device = Mangling { port, random, on: on.clone() };
        let config = config(last).timeout(Duration::from_secs(5)).buffers(16 << 10, 16 << 10).seed(seed);
        Stack::new(config, device, runtime.clone()).expect("a stack")
    };
    let (client, server) = (stack(1, here), stack(2, there));
    let (cx, target) = (cx(), addr("10.0.0.2:80"));
    let mut listener = server.listen(&target, &cx).await.expect("listen");
    let accepting = tokio::spawn(async move {
        loop {
            let mut flow = accept(&mut listener).await;
            tokio::spawn(async move {
                let mut part = [0; 2000];
                while let Ok(n @ 1..) = flow.read(&mut part).await {
                    if flow.write_all(&part[..n]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    for _ in 0..6 {
        let talk = async {
            let mut flow = client.connect(&target, &cx).await.ok()?;
            flow.write_all(&[1; 20_000]).await.ok()?;
            flow.shutdown().await.ok()?;
            let mut part = [0; 2000];
            while flow.read(&mut part).await.ok()? > 0 {}
            Some(())
        };
        let _ = tokio::time::timeout(Duration::from_secs(30), talk).await;
    }
    on.store(false, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(60), std::future::pending::<()>())
        .await
        .expect_err("time passes");
    let mut flow = client.connect(&target, &cx).await.expect("it goes on");
    flow.write_all(b"x").await.expect("write");
    flow.read_exact(&mut [0]).await.expect("read");
    assert!(!accepting.is_finished());
}

#[test]
fn mangled_packets_do_no_harm() {
    for seed in 1..=60 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(survives(seed));
    }
}

/// Gives its packets to the stack, and takes whatever it says.
struct Feed(Vec<Vec<u8>>, Medium);

impl Device for Feed {
    fn medium(&self) -> Medium {
        self.1
    }

    fn mtu(&self) -> usize {
        1500
    }

    fn poll_receive(&mut self, _cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.0.pop() {
            Some(next) => {
                packet[..next.len()].copy_from_slice(&next);
                Poll::Ready(Ok(next.len()))
            }
            // The device is gone: the driver ends, and would not if it had panicked.
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn send(&mut self, _packet: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A header that leads somewhere, and anything behind it.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..120);
    let v4 = (any_bytes.clone(), prop::sample::select(vec![1u8, 6, 17])).prop_map(|(rest, protocol)| {
        let length = u16::try_from(20 + rest.len()).expect("short").to_be_bytes();
        let mut packet =
            vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        packet.extend(rest);
        fix(&mut packet);
        packet
    });
    let v6 = (any_bytes.clone(), prop::sample::select(vec![0u8, 6, 17, 43, 44, 58, 60])).prop_map(
        |(rest, next)| {
            let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
            packet.extend([
                0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 1,
            ]);
            packet.extend(rest);
            packet
        },
    );
    prop_oneof![any_bytes, v4, v6]
}

proptest! {
    #[test]
    fn no_packet_makes_it_panic(packets in prop::collection::vec(packet(), 1..20), ethernet: bool) {
        let medium = if ethernet { Medium::Ethernet { address: [2, 0, 0, 0, 0, 1] } } else { Medium::Ip };
        let packets = packets.into_iter().map(|packet| if ethernet {
            let kind = match packet.first() { Some(0x60) => [0x86, 0xdd], Some(0x45) => [8, 0], _ => [8, 6] };
            [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind, &packet].concat()
        } else {
            packet
        });
        let feed = Feed(packets.collect(), medium);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(async {
            let stack = Stack::new(config(1), feed, tuyau_tokio::runtime()).expect("a stack");
            let mut listener = stack.listen(&addr("0.0.0.0:80"), &cx()).await.expect("listen");
            let error = loop {
                if let Err(error) = listener.accept().await {
                    break error;
                }
            };
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert_eq!(cause, "the packet device: broken pipe");
        });
    }
}
