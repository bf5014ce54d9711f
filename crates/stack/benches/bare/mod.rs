//! smoltcp as its own examples use it: a loop that polls the interface, moves bytes, and waits for the device.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, Waker};
use std::time::Instant as StdInstant;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Medium, TunTapInterface, wait};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use tuyau_stack::{Device as _, Port};

use crate::linux::{BUFFER, up};

/// An interface on a TAP device.
pub(super) struct Bare {
    device: TunTapInterface,
    iface: Interface,
    sockets: SocketSet<'static>,
    port: u16,
}

impl Bare {
    pub(super) fn on_tap(name: &str, net: u8) -> Self {
        let mut device = TunTapInterface::new(name, Medium::Ethernet).expect("a TAP device");
        up(name, net);
        let iface = interface(EthernetAddress([2, 0, 0, 0, net, 2]).into(), &mut device, [10, net, 0, 2]);
        Self { device, iface, sockets: SocketSet::new(vec![]), port: 50_000 }
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let mut socket = socket();
        self.port += 1;
        socket
            .connect(self.iface.context(), (IpAddress::from(to.ip()), to.port()), self.port)
            .expect("connect");
        let handle = self.sockets.add(socket);
        self.until(|socket| socket.state() == State::Established, handle);
        handle
    }

    /// Polls until `done` with the socket.
    fn until(&mut self, mut done: impl FnMut(&mut Socket<'_>) -> bool, handle: SocketHandle) {
        loop {
            self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
            if done(self.sockets.get_mut(handle)) {
                // What it made possible is sent: an acknowledgement, or the last bytes.
                self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
                return;
            }
            let now = Instant::now();
            let delay = self.iface.poll_delay(now, &self.sockets);
            if delay.is_none_or(|delay| delay.total_micros() > 0) {
                wait(self.device.as_raw_fd(), delay).expect("wait");
            }
        }
    }

    pub(super) fn read(&mut self, handle: SocketHandle, mut left: usize) -> f64 {
        let mut bytes = vec![0; 64 << 10];
        let began = StdInstant::now();
        self.until(
            |socket| {
                while socket.can_recv() && left > 0 {
                    let most = left.min(bytes.len());
                    left -= socket.recv_slice(&mut bytes[..most]).expect("recv");
                }
                left == 0
            },
            handle,
        );
        began.elapsed().as_secs_f64()
    }

    pub(super) fn write(&mut self, handle: SocketHandle, mut left: usize) -> f64 {
        let bytes = vec![0; 64 << 10];
        let began = StdInstant::now();
        self.until(
            |socket| {
                while socket.can_send() && left > 0 {
                    let most = left.min(bytes.len());
                    left -= socket.send_slice(&bytes[..most]).expect("send");
                }
                left == 0
            },
            handle,
        );
        began.elapsed().as_secs_f64()
    }

    pub(super) fn trips(&mut self, handle: SocketHandle, mut trips: usize) -> f64 {
        let mut bytes = [0; 64];
        let (mut asked, mut got) = (false, 0);
        let began = StdInstant::now();
        self.until(
            |socket| {
                if asked && socket.can_recv() {
                    got += socket.recv_slice(&mut bytes[got..]).expect("recv");
                    if got == bytes.len() {
                        (asked, got, trips) = (false, 0, trips - 1);
                    }
                }
                if !asked && trips > 0 {
                    socket.send_slice(&bytes).expect("send");
                    asked = true;
                }
                trips == 0
            },
            handle,
        );
        began.elapsed().as_secs_f64()
    }
}

/// Two interfaces on a link in memory.
pub(super) struct Memory {
    ends: [(Interface, Wire, SocketSet<'static>); 2],
    handles: [SocketHandle; 2],
}

impl Memory {
    pub(super) fn new(here: Port, there: Port) -> Self {
        let mut ends = [(1, here), (2, there)].map(|(last, port)| {
            let mut wire = Wire { port, received: vec![0; 1500] };
            let iface = interface(HardwareAddress::Ip, &mut wire, [10, 0, 0, last]);
            (iface, wire, SocketSet::new(vec![]))
        });
        let mut listening = socket();
        listening.listen(80).expect("listen");
        let server = ends[1].2.add(listening);
        let mut connecting = socket();
        connecting.connect(ends[0].0.context(), (IpAddress::v4(10, 0, 0, 2), 80), 50_000).expect("connect");
        let client = ends[0].2.add(connecting);
        Self { ends, handles: [client, server] }
    }

    pub(super) fn transfer(&mut self, total: usize) -> f64 {
        let bytes = vec![7; 64 << 10];
        let mut got = vec![0; 64 << 10];
        let (mut to_send, mut to_get) = (total, total);
        let began = StdInstant::now();
        while to_get > 0 {
            let now = Instant::now();
            for (iface, wire, sockets) in &mut self.ends {
                iface.poll(now, wire, sockets);
            }
            let socket = self.ends[0].2.get_mut::<Socket<'_>>(self.handles[0]);
            while socket.can_send() && to_send > 0 {
                to_send -= socket.send_slice(&bytes[..to_send.min(bytes.len())]).expect("send");
            }
            let socket = self.ends[1].2.get_mut::<Socket<'_>>(self.handles[1]);
            while socket.can_recv() && to_get > 0 {
                let most = to_get.min(got.len());
                to_get -= socket.recv_slice(&mut got[..most]).expect("recv");
            }
        }
        began.elapsed().as_secs_f64()
    }
}

fn interface(address: HardwareAddress, device: &mut impl phy::Device, [a, b, c, d]: [u8; 4]) -> Interface {
    let mut iface = Interface::new(Config::new(address), device, Instant::now());
    iface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::v4(a, b, c, d), 24)).expect("room")
    });
    iface
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket.set_congestion_control(CongestionControl::Cubic);
    socket
}

/// One end of a link, as smoltcp wants it.
struct Wire {
    port: Port,
    received: Vec<u8>,
}

struct Received<'a>(&'a [u8]);

struct Outgoing<'a>(&'a mut Port);

impl phy::Device for Wire {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Outgoing<'_>)> {
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(length) = self.port.poll_receive(cx, &mut self.received) else { return None };
        Some((Received(&self.received[..length.expect("it works")]), Outgoing(&mut self.port)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.port))
    }

    fn capabilities(&self) -> phy::DeviceCapabilities {
        let mut capabilities = phy::DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ip, 1500);
        capabilities
    }
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut packet = vec![0; len];
        let result = fill(&mut packet);
        self.0.send(&packet).expect("it has room");
        result
    }
}
