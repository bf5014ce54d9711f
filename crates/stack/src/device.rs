//! Packet devices, and how smoltcp is shown one.

use std::io;
use std::task::{Context, Poll, Waker};

use smoltcp::phy::{self, DeviceCapabilities};
use smoltcp::time::Instant;

/// Something that packets come out of and go into: the wire that a [`Stack`](crate::Stack) is on.
///
/// One task calls it, from wherever the [`Runtime`](tuyau_core::Runtime) runs that task. It may lose packets; what
/// it hands on is whole. Dropping it takes it out of use.
pub trait Device: Send + 'static {
    /// What its packets are. It does not change.
    fn medium(&self) -> Medium;

    /// The size of the largest IP packet that passes, in bytes, without the Ethernet header: 1280 to 65535. It does not
    /// change.
    fn mtu(&self) -> usize;

    /// Writes the next packet that came in to the front of `packet`, which has room for the largest, and says how many
    /// bytes it has. On `Pending` the waker is woken once there is one. An error is the end of the device, and of
    /// all flows over it.
    fn poll_receive(&mut self, cx: &mut Context<'_>, packet: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Whether there is room for another packet to send; on `Pending` the waker is woken once there is. A device that
    /// always says yes, as by default, drops what it has no room for.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    /// Sends a packet, without waiting. An error costs that packet only; it is the cause that errors of flows name
    /// when they time out.
    fn send(&mut self, packet: &[u8]) -> io::Result<()>;
}

/// What the packets of a [`Device`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Medium {
    /// IP packets (TUN).
    Ip,
    /// Ethernet frames (TAP), without their check sequence.
    Ethernet {
        /// The hardware address of this end: unicast.
        address: [u8; 6],
    },
}

/// A device as smoltcp sees it: one received packet at a time, which was looked at before.
pub(crate) struct Phy {
    device: Box<dyn Device>,
    capabilities: DeviceCapabilities,
    buffer: Vec<u8>,
    /// How much of it is a packet that was not processed yet.
    received: Option<usize>,
    outgoing: Vec<u8>,
    waker: Waker,
    blocked: bool,
    /// How many packets were sent, ever.
    pub(crate) sent: u64,
    /// Why the last packet could not be sent.
    pub(crate) trouble: Option<io::Error>,
}

const ETHERNET_HEADER: usize = 14;

impl Phy {
    pub(crate) fn new(device: Box<dyn Device>) -> Self {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = match device.medium() {
            Medium::Ip => (phy::Medium::Ip, device.mtu()),
            Medium::Ethernet { .. } => (phy::Medium::Ethernet, device.mtu() + ETHERNET_HEADER),
        };
        Self {
            device,
            buffer: vec![0; capabilities.max_transmission_unit],
            capabilities,
            received: None,
            outgoing: Vec::new(),
            waker: Waker::noop().clone(),
            blocked: false,
            sent: 0,
            trouble: None,
        }
    }

    pub(crate) fn medium(&self) -> phy::Medium {
        self.capabilities.medium
    }

    /// Whether the device had no room for the last packet. It wakes us once it has.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whose waker is woken by the device.
    pub(crate) fn wake_by(&mut self, cx: &Context<'_>) {
        self.waker.clone_from(cx.waker());
    }

    /// The next packet, to be looked at before it is processed.
    pub(crate) fn poll_receive(&mut self) -> Poll<io::Result<&[u8]>> {
        let mut cx = Context::from_waker(&self.waker);
        self.device.poll_receive(&mut cx, &mut self.buffer).map_ok(|length| {
            let length = length.min(self.buffer.len());
            self.received = Some(length);
            &self.buffer[..length]
        })
    }
}

pub(crate) struct Received<'a>(&'a [u8]);

pub(crate) struct Outgoing<'a> {
    device: &'a mut dyn Device,
    buffer: &'a mut Vec<u8>,
    sent: &'a mut u64,
    trouble: &'a mut Option<io::Error>,
}

impl phy::Device for Phy {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Outgoing<'_>)> {
        let Self { device, buffer, received, outgoing, sent, trouble, .. } = self;
        let packet = &buffer[..received.take()?];
        Some((Received(packet), Outgoing { device: &mut **device, buffer: outgoing, sent, trouble }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        let Self { device, outgoing, sent, trouble, waker, blocked, .. } = self;
        *blocked = device.poll_ready(&mut Context::from_waker(waker)).is_pending();
        (!*blocked).then_some(Outgoing { device: &mut **device, buffer: outgoing, sent, trouble })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, process: F) -> R {
        process(self.0)
    }
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        // What is shorter than the last packet need not be zeroed: smoltcp writes all of it.
        self.buffer.resize(len, 0);
        let result = fill(self.buffer);
        *self.sent += 1;
        *self.trouble = self.device.send(self.buffer).err();
        result
    }
}
