//! Names, asked for through the stack itself.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{DnsQueryType, IpEndpoint};
use tuyau_core::{ConnectError, ConnectErrorKind, Instant, Policy};

use crate::dns::{self, Answer};
use crate::error;
use crate::stack::Stack;

const DNS_PORT: u16 = 53;
/// How long each server has for its answer, each time it is asked.
const PATIENCE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Most that a name server sends in a datagram to who has not said that he takes more (RFC 1035 section 4.2.1).
const DATAGRAM: usize = 512;

/// The addresses of `host`, IPv6 first. Cancel safe.
pub(crate) async fn lookup(stack: &Stack, host: &str, policy: &Policy) -> Result<Vec<IpAddr>, ConnectError> {
    let literal = host.split_once('%').map_or(host, |(ip, _zone)| ip);
    if let Ok(ip) = literal.parse() {
        return Ok(vec![ip]);
    }
    let what = || format!("lookup of `{host}`");
    policy.check_lookup(host)?;
    let Some(name) = dns::labels(host) else {
        return Err(ConnectError::new(ConnectErrorKind::Misuse, what())
            .with_hint("that is no name: labels of up to 63 ASCII characters, with dots between"));
    };
    // RFC 6761 section 6.3: these are never asked for.
    if name.ends_with(b"\x09localhost\x00") {
        return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
    }
    let config = &stack.owner().0.config;
    if config.name_servers.is_empty() {
        return Err(ConnectError::new(ConnectErrorKind::Environment, what())
            .with_hint("the stack has no name server: configure one, or give an address"));
    }
    let has = |v4| config.addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4);
    let kinds = [(has(false), DnsQueryType::Aaaa), (has(true), DnsQueryType::A)];
    let kinds: Vec<DnsQueryType> = kinds.into_iter().filter(|(has, _)| *has).map(|(_, kind)| kind).collect();

    let mut asked = Asked::new(stack, &name, &kinds)?;
    let mut silent = true;
    let mut failed = None;
    for patience in PATIENCE {
        for server in &config.name_servers {
            match asked.ask(SocketAddr::new(*server, DNS_PORT), patience).await {
                Ok(()) => return asked.found(host),
                Err(Trouble::Silent) => {}
                Err(Trouble::Said(error)) => (silent, failed) = (false, Some(error)),
            }
        }
        if !silent {
            break;
        }
    }
    let error = ConnectError::new(ConnectErrorKind::Unreachable, what());
    let servers: Vec<String> = config.name_servers.iter().map(IpAddr::to_string).collect();
    Err(match failed {
        Some(source) => error.with_source(source).with_hint("the name servers refused, or answered nonsense"),
        None => error.with_source(io::Error::from(io::ErrorKind::TimedOut)).with_hint(format!(
            "the name servers did not answer ({}): are they right, and reached from the stack?",
            servers.join(", ")
        )),
    })
}

/// Why a server was of no use.
enum Trouble {
    Silent,
    Said(Box<dyn std::error::Error + Send + Sync>),
}

/// The questions about one name, and a socket of their own. Dropping it leaves nothing behind.
struct Asked<'a> {
    stack: &'a Stack,
    socket: SocketHandle,
    name: &'a [u8],
    questions: Vec<Question>,
}

struct Question {
    kind: DnsQueryType,
    id: u16,
    answer: Option<Answer>,
}

impl<'a> Asked<'a> {
    fn new(stack: &'a Stack, name: &'a [u8], kinds: &[DnsQueryType]) -> Result<Self, ConnectError> {
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; 8], vec![0; 8 * DATAGRAM]);
        let mut state = stack.owner().0.lock();
        if let Some(dead) = &state.dead {
            return Err(error::dead(dead));
        }
        // The port and the ids are what somebody who can't see the query must guess to forge an answer (RFC 5452).
        let mut socket = Socket::new(buffer(), buffer());
        loop {
            let port = state.random.u16(1024..);
            if !state.has_udp(port) && socket.bind(port).is_ok() {
                break;
            }
        }
        let questions = kinds
            .iter()
            .map(|kind| Question { kind: *kind, id: state.random.u16(..), answer: None })
            .collect();
        let socket = state.sockets.add(socket);
        Ok(Self { stack, socket, name, questions })
    }

    /// Asks `server` what is not answered yet, until all is.
    async fn ask(&mut self, server: SocketAddr, patience: Duration) -> Result<(), Trouble> {
        let core = &self.stack.owner().0;
        let end = IpEndpoint::from(server);
        {
            let mut state = core.lock();
            for question in self.questions.iter().filter(|question| question.answer.is_none()) {
                let query = dns::query(question.id, self.name, question.kind);
                // What does not fit is as good as lost on the way.
                let _ = state.udp(self.socket).send_slice(&query, end);
            }
            state.kick();
        }
        let until = core.runtime.now() + patience;
        while self.questions.iter().any(|question| question.answer.is_none()) {
            let packet = self.receive(end, until).await?;
            let Some((question, answer)) = self.match_up(&packet) else { continue };
            match answer {
                Answer::Failed(code) => {
                    let said = format!("{} answered with the error {code}", server.ip());
                    return Err(Trouble::Said(said.into()));
                }
                Answer::Truncated => {
                    let whole = self.ask_by_tcp(server, question, until).await?;
                    self.questions[question].answer = Some(whole);
                }
                answer => self.questions[question].answer = Some(answer),
            }
        }
        Ok(())
    }

    fn match_up(&self, packet: &[u8]) -> Option<(usize, Answer)> {
        self.questions.iter().enumerate().filter(|(_, question)| question.answer.is_none()).find_map(
            |(index, question)| {
                dns::answer(packet, question.id, self.name, question.kind).map(|answer| (index, answer))
            },
        )
    }

    /// The next datagram from `server`.
    async fn receive(&self, server: IpEndpoint, until: Instant) -> Result<Vec<u8>, Trouble> {
        let core = &self.stack.owner().0;
        let mut sleep = core.runtime.sleep_until(until);
        poll_fn(|cx| {
            let mut state = core.lock();
            if let Some(dead) = state.dead.clone() {
                return Poll::Ready(Err(Trouble::Said(dead.into())));
            }
            let socket = state.udp(self.socket);
            while let Ok((packet, from)) = socket.recv() {
                if from.endpoint == server {
                    return Poll::Ready(Ok(packet.to_vec()));
                }
            }
            socket.register_recv_waker(cx.waker());
            drop(state);
            sleep.as_mut().poll(cx).map(|()| Err(Trouble::Silent))
        })
        .await
    }

    /// What did not fit in a datagram (RFC 7766).
    async fn ask_by_tcp(
        &self,
        server: SocketAddr,
        question: usize,
        until: Instant,
    ) -> Result<Answer, Trouble> {
        let Question { kind, id, .. } = self.questions[question];
        let mut exchange = std::pin::pin!(async {
            let mut flow = self.stack.dial(server).await?;
            let query = dns::query(id, self.name, kind);
            let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
            flow.write_all(&[&length.to_be_bytes()[..], &query].concat()).await?;
            let mut length = [0; 2];
            flow.read_exact(&mut length).await?;
            let mut packet = vec![0; u16::from_be_bytes(length).into()];
            flow.read_exact(&mut packet).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(packet)
        });
        let mut sleep = self.stack.owner().0.runtime.sleep_until(until);
        let packet = poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(done.map_err(Trouble::Said)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Trouble::Silent)),
        })
        .await?;
        match dns::answer(&packet, id, self.name, kind) {
            Some(Answer::Truncated) | None => {
                Err(Trouble::Said(format!("{} answered nonsense by TCP", server.ip()).into()))
            }
            Some(Answer::Failed(code)) => {
                Err(Trouble::Said(format!("{} answered with the error {code}", server.ip()).into()))
            }
            Some(answer) => Ok(answer),
        }
    }

    fn found(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let mut all = Vec::new();
        let mut exists = false;
        for question in &self.questions {
            if let Some(Answer::Addresses(addresses)) = &question.answer {
                exists = true;
                all.extend(addresses);
            }
        }
        if !all.is_empty() {
            return Ok(all);
        }
        let hint = match exists {
            true => "the name exists, but has no address of a family that the stack has",
            false => "there is no such name: check the spelling",
        };
        Err(ConnectError::new(ConnectErrorKind::NotFound, format!("lookup of `{host}`")).with_hint(hint))
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.stack.owner().0.lock().sockets.remove(self.socket);
    }
}
