//! What a client may cost.

use std::time::Duration;

/// How much a server puts up with. The defaults are safe on the open internet; each can be
/// raised by whoever knows its clients. A time of [`Duration::MAX`] is no limit.
///
/// What is late is noticed by a thread of the process, `tuyau-alarm`, which sleeps until then: runtimes that wait for
/// sockets need no timer. In a runtime whose clock is paused, by that.
///
/// ```
/// use std::time::Duration;
/// use tuyau_http::Limits;
///
/// let mut limits = Limits::default();
/// limits.header_time = Duration::from_secs(5);
/// limits.connections = 200;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at once, handshakes included. While there are so many, nothing is accepted: the
    /// system queues some more. 16,384.
    pub connections: usize,
    /// Connections open at once from one IPv4 address or one IPv6 /64 network (what one subscriber has),
    /// handshakes included; more are closed at once. Peers without an IP address are not counted; behind a proxy that
    /// tells who is there (PROXY protocol), who that is counts, once it has. 1,024.
    pub connections_per_address: usize,
    /// Handshakes (of TLS, …) under way at once. While there are so many, nothing is accepted. 1,024.
    pub handshakes: usize,
    /// How long a handshake may take. 10 s.
    pub handshake_time: Duration,

    /// How long a new connection may be silent. Bounds the look at its first bytes too, where that tells
    /// HTTP/2 from HTTP/1. 10 s.
    pub first_byte: Duration,
    /// How long the head of a request may take from its first byte to its last, over HTTP/2 a header
    /// block. 15 s.
    pub header_time: Duration,
    /// How large the head of a request may be, in bytes: 431 (RFC 6585 section 5) if it is larger. Over HTTP/2,
    /// its fields as RFC 9113 section 6.5.2 counts them. 16 KiB; at least 8 KiB.
    pub header_size: usize,
    /// How many fields the head of an HTTP/1 request may have. 100.
    pub header_count: usize,
    /// How long a request's body may keep whoever reads it waiting; see [`min_rate`](Self::min_rate). A
    /// handler that expects a quiet client (a stream of events from it) says so:
    /// [`Incoming::wait_for_ever`](crate::Incoming::wait_for_ever). 30 s.
    pub body_idle: Duration,
    /// How long a client may leave unread what it was sent; see [`min_rate`](Self::min_rate). Over HTTP/2, a
    /// stream whose window stays shut is reset, a connection that takes nothing is closed. 30 s.
    pub write_idle: Duration,
    /// How fast bytes must come (or go) while this side waits for them, in bytes per second: each byte earns
    /// back its share of the idle time, up to all of it. 0: any byte earns back all. 256.
    pub min_rate: u32,
    /// How long a connection of HTTP/1 may be kept alive between two requests. 60 s.
    pub keep_alive_idle: Duration,
    /// How long a client of HTTP/1 that has ended its side is still answered: how long it may wait for its response
    /// from then on, which it has to the end once it has begun. A client that is gone looks the same until something
    /// is written to it, and handlers are at work for it as long. (A response that has begun, but gives nothing for as
    /// long as [`keep_alive_idle`](Self::keep_alive_idle), ends as well.) Zero: it is taken for
    /// gone at once. 5 s.
    pub half_closed: Duration,

    /// How long a client of HTTP/2 may take until its preface is complete (RFC 9113 section 3.4). 10 s.
    pub h2_preface: Duration,
    /// How long a connection of HTTP/2 may do nothing that serves a request; answering or sending PINGs does
    /// not count. 180 s.
    pub h2_idle: Duration,
    /// Requests at once on one connection of HTTP/2. 100.
    pub h2_streams: u32,
    /// Requests that a client of HTTP/2 may reset, per second; ten times as many at once. 100.
    pub h2_resets: u32,
    /// Frames of HTTP/2 that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones)
    /// per second beyond what the requests under way explain; ten times as many at once. 100.
    pub h2_control_frames: u32,
    /// What of one response of HTTP/2 may wait in memory for its client, in bytes, beyond the last piece that
    /// its body gave, and the 65 KiB that all responses of a connection have together. 128 KiB.
    pub h2_send_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            connections_per_address: 1_024,
            handshakes: 1_024,
            handshake_time: Duration::from_secs(10),
            first_byte: Duration::from_secs(10),
            header_time: Duration::from_secs(15),
            header_size: 16 * 1024,
            header_count: 100,
            body_idle: Duration::from_secs(30),
            write_idle: Duration::from_secs(30),
            min_rate: 256,
            keep_alive_idle: Duration::from_secs(60),
            half_closed: Duration::from_secs(5),
            h2_preface: Duration::from_secs(10),
            h2_idle: Duration::from_secs(180),
            h2_streams: 100,
            h2_resets: 100,
            h2_control_frames: 100,
            h2_send_buffer: 128 * 1024,
        }
    }
}

/// Time that is left to wait for a peer: waiting uses it up, bytes earn it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    full: Duration,
    left: Duration,
    rate: u32,
}

impl Patience {
    pub(crate) fn new(full: Duration, rate: u32) -> Self {
        Self { full, left: full, rate }
    }

    /// How long may still be waited.
    pub(crate) fn left(&self) -> Duration {
        self.left
    }

    pub(crate) fn waited(&mut self, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
    }

    pub(crate) fn earned(&mut self, bytes: usize) {
        if self.left == self.full {
            return;
        }
        let earned = match self.rate {
            _ if bytes == 0 => Duration::ZERO,
            0 => self.full,
            rate => Duration::from_secs_f64(bytes as f64 / f64::from(rate)),
        };
        self.left = self.left.saturating_add(earned).min(self.full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_earn_back_what_waiting_uses_up() {
        let second = Duration::from_secs(1);
        let mut patience = Patience::new(10 * second, 100);
        patience.waited(8 * second);
        assert_eq!(patience.left(), 2 * second);
        patience.earned(300);
        assert_eq!(patience.left(), 5 * second);
        patience.earned(1_000_000);
        assert_eq!(patience.left(), 10 * second, "no more than all of it");
        patience.waited(11 * second);
        patience.earned(0);
        assert_eq!(patience.left(), Duration::ZERO);
        let mut idle = Patience::new(10 * second, 0);
        idle.waited(9 * second);
        idle.earned(1);
        assert_eq!(idle.left(), 10 * second);
    }
}
