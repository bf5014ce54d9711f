//! Where a service is: SRV and HTTPS records, as choices that endpoints derive from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Poll, ready};

use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{Name, RData, RecordType};
use tuyau_core::names::{HOST, NET, POLICY, PORT};
use tuyau_core::{
    BoxFuture, ConnectError, ConnectErrorKind, Context, Key, Many, Net, Policy, Stop, Target, decline, opt,
    or, req,
};
use tuyau_tokio::{IP, TCP, TcpEndpoint};

use crate::config::Random;
use crate::error::parse_name;
use crate::net::{DNS, DnsNet};
use crate::wire::{Answer, Question};

/// The service that [`srv`] asks for: `_imaps._tcp`.
pub static SERVICE: Key<Arc<str>> = Key::new("service").shown();
/// Where [`SERVICE`] of [`HOST`] is, by SRV records: many, in the order to try them.
pub static SRV: Key<SrvRecord> = Key::new("srv");
/// Where [`HOST`] serves HTTPS, by HTTPS records: many, in the order to try them.
pub static HTTPS: Key<HttpsRecord> = Key::new("https-record");

/// Longer chains of AliasMode records are loops, or as bad (RFC 9460 section 2.4.2).
const MAX_ALIASES: usize = 8;

/// Where a service is (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// Among equal priorities, its share of being tried first.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: Arc<str>,
}

/// Where, and how, a host serves HTTPS (RFC 9460).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsRecord {
    /// Lower is tried first.
    pub priority: u16,
    /// The host to connect to. The certificate must still have the name that was asked for.
    pub target: Arc<str>,
    /// The port, if it is not the one that was asked for.
    pub port: Option<u16>,
    /// The protocols that it speaks, as ALPN has them, `http/1.1` among them unless `no-default-alpn` says so.
    pub alpn: Vec<Vec<u8>>,
    /// Addresses of `target`, to be used until its own are known.
    pub ipv4hint: Vec<Ipv4Addr>,
    /// Likewise.
    pub ipv6hint: Vec<Ipv6Addr>,
    /// The configuration of Encrypted Client Hello, opaque here.
    pub ech: Option<Vec<u8>>,
}

/// `ctx` where TCP connects to what SRV records say (RFC 2782): [`SRV`] comes from [`SERVICE`], [`HOST`]
/// and [`DNS`], and the endpoint's address and port from [`SRV`]. A host without such records is
/// connected as it is without this; one that says that it has no such service, is an error.
pub fn srv(ctx: Context) -> Context {
    ctx.derive_many(
        &SRV,
        (req(&DNS), req(&SERVICE), req(&HOST), opt(&POLICY)),
        |(dns, service, host, policy)| async move {
            let found = dns.srv(&service, &host, &policy.unwrap_or_default()).await?;
            if found.is_empty() {
                return Err(decline(format!("`{service}.{host}` has no SRV records")));
            }
            Ok::<_, Stop>(found)
        },
    )
    .derive_many(&IP, (req(&DNS), req(&SRV), opt(&POLICY)), |(dns, srv, policy)| async move {
        Ok::<_, Stop>(dns.lookup(&srv.target, &policy.unwrap_or_default()).await?)
    })
    .derive(&TCP, (req(&NET), req(&SRV), req(&IP)), |(net, srv, ip)| async move {
        Ok(TcpEndpoint { net, target: Target::Addr(SocketAddr::new(ip, srv.port)) })
    })
}

/// `ctx` where TCP connects to what HTTPS records say (RFC 9460): [`HTTPS`] comes from [`HOST`], [`PORT`]
/// (443 if absent) and [`DNS`], and the endpoint's address and port from [`HTTPS`]. A host without such
/// records is connected as it is without this.
pub fn https(ctx: Context) -> Context {
    ctx.derive_many(
        &HTTPS,
        (req(&DNS), req(&HOST), or(&PORT, 443), opt(&POLICY)),
        |(dns, host, port, policy)| async move {
            let found = dns.https(&host, port, &policy.unwrap_or_default()).await?;
            if found.is_empty() {
                return Err(decline(format!("`{host}` has no HTTPS records")));
            }
            Ok::<_, Stop>(found)
        },
    )
    .derive_many(&IP, (req(&DNS), req(&HTTPS), opt(&POLICY)), |(dns, record, policy)| async move {
        Ok::<_, Stop>(hints_and_more(dns, record, policy.unwrap_or_default()))
    })
    .derive(
        &TCP,
        (req(&NET), req(&HTTPS), req(&IP), or(&PORT, 443)),
        |(net, record, ip, port)| async move {
            let port = record.port.unwrap_or(port);
            Ok(TcpEndpoint { net, target: Target::Addr(SocketAddr::new(ip, port)) })
        },
    )
}

/// The addresses that `record` hints at, and behind them what its target turns out to have besides (RFC 9460
/// section 7.3): that is looked up once the hints did not do, or there are none.
fn hints_and_more(dns: DnsNet, record: HttpsRecord, policy: Policy) -> Many<IpAddr> {
    let hints = record.hints();
    let mut hinted = hints.clone().into_iter();
    let mut looking: BoxFuture<'static, _> =
        Box::pin(async move { dns.lookup(&record.target, &policy).await });
    let mut found: Option<Many<IpAddr>> = None;
    let mut failed = false;
    Many::poll_fn(move |cx| {
        loop {
            if let Some(ip) = hinted.next() {
                return Poll::Ready(Some(Ok(ip)));
            }
            let next = match &mut found {
                _ if failed => None,
                None => match ready!(looking.as_mut().poll(cx)) {
                    Ok(many) => {
                        found = Some(many);
                        continue;
                    }
                    Err(error) => {
                        failed = true;
                        Some(Err(Stop::from(error)))
                    }
                },
                Some(Many::All(all)) if all.is_empty() => None,
                Some(Many::All(all)) => Some(Ok(all.remove(0))),
                Some(Many::Stream(stream)) => ready!(stream.as_mut().poll_next(cx)),
            };
            match next {
                Some(Ok(ip)) if hints.contains(&ip) => {}
                next => return Poll::Ready(next),
            }
        }
    })
}

impl HttpsRecord {
    /// The addresses that it hints at, IPv6 first.
    pub fn hints(&self) -> Vec<IpAddr> {
        let v6 = self.ipv6hint.iter().copied().map(IpAddr::V6);
        v6.chain(self.ipv4hint.iter().copied().map(IpAddr::V4)).collect()
    }

    fn new(record: &SVCB, owner: &Name) -> Option<Self> {
        let target = if record.target_name.is_root() { owner } else { &record.target_name };
        let mut this = Self {
            priority: record.svc_priority,
            target: target.to_ascii().into(),
            port: None,
            alpn: Vec::new(),
            ipv4hint: Vec::new(),
            ipv6hint: Vec::new(),
            ech: None,
        };
        let mut default_alpn = true;
        for (_, value) in &record.svc_params {
            match value {
                SvcParamValue::Mandatory(keys) if !keys.0.iter().all(understood) => return None,
                SvcParamValue::Mandatory(_) => {}
                SvcParamValue::Alpn(alpn) => {
                    this.alpn = alpn.0.iter().map(|id| id.clone().into_bytes()).collect()
                }
                SvcParamValue::NoDefaultAlpn => default_alpn = false,
                SvcParamValue::Port(port) => this.port = Some(*port),
                SvcParamValue::Ipv4Hint(hint) => this.ipv4hint = hint.0.iter().map(|a| a.0).collect(),
                SvcParamValue::Ipv6Hint(hint) => this.ipv6hint = hint.0.iter().map(|a| a.0).collect(),
                SvcParamValue::EchConfigList(ech) => this.ech = Some(ech.0.clone()),
                _ => {}
            }
        }
        if default_alpn && !this.alpn.iter().any(|id| id == b"http/1.1") {
            this.alpn.push(b"http/1.1".to_vec());
        }
        Some(this)
    }
}

/// Whether a record for which `key` is mandatory can be used here (RFC 9460 section 8).
fn understood(key: &SvcParamKey) -> bool {
    matches!(
        key,
        SvcParamKey::Alpn
            | SvcParamKey::NoDefaultAlpn
            | SvcParamKey::Port
            | SvcParamKey::Ipv4Hint
            | SvcParamKey::Ipv6Hint
    )
}

impl DnsNet {
    /// Where `service` (`_imaps._tcp`) of `domain` is, in the order to try (RFC 2782). Empty if there are
    /// no such records. Cancel safe.
    ///
    /// # Errors
    /// If no server answers, or the domain says that it has no such service.
    pub async fn srv(
        &self,
        service: &str,
        domain: &str,
        policy: &Policy,
    ) -> Result<Vec<SrvRecord>, ConnectError> {
        let name = parse_name(&format!("{service}.{domain}"))?;
        let records = self.records(&name, RecordType::SRV, policy).await?;
        let found: Vec<SrvRecord> = records
            .iter()
            .filter_map(|data| match data {
                RData::SRV(srv) => Some(SrvRecord {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: srv.target.to_ascii().into(),
                }),
                _ => None,
            })
            .collect();
        if let [only] = found.as_slice()
            && &*only.target == "."
        {
            let what = format!("`{domain}` says that it has no service `{service}`");
            return Err(ConnectError::new(ConnectErrorKind::NotFound, what)
                .with_hint("its SRV record names the root, which means that: ask whoever runs it"));
        }
        Ok(order_srv(found, self.dns().random()))
    }

    /// Where `host` serves HTTPS on `port`, in the order to try (RFC 9460), AliasMode followed. Empty if
    /// there are no such records, or none that can be used here. Cancel safe.
    ///
    /// # Errors
    /// If no server answers, or aliases go round in circles.
    pub async fn https(
        &self,
        host: &str,
        port: u16,
        policy: &Policy,
    ) -> Result<Vec<HttpsRecord>, ConnectError> {
        let host_name = parse_name(host)?;
        // RFC 9460 section 9.1.
        let mut name = match port {
            443 => host_name.clone(),
            _ => parse_name(&format!("_{port}._https.{host_name}"))?,
        };
        let mut aliased = false;
        for _ in 0..MAX_ALIASES {
            let records = self.records(&name, RecordType::HTTPS, policy).await?;
            let records: Vec<&SVCB> = records
                .iter()
                .filter_map(|data| match data {
                    RData::HTTPS(https) => Some(&https.0),
                    _ => None,
                })
                .collect();
            // Priority 0 is AliasMode; with one of those, others don't count (section 2.4.1).
            match records.iter().find(|record| record.svc_priority == 0) {
                Some(alias) if alias.target_name.is_root() => {
                    let what = format!("`{host}` says that it does not serve HTTPS on port {port}");
                    return Err(ConnectError::new(ConnectErrorKind::NotFound, what)
                        .with_hint("its HTTPS record is an alias of the root, which means that"));
                }
                Some(alias) => (name, aliased) = (alias.target_name.clone(), true),
                None if records.is_empty() && aliased => {
                    // The alias itself is where to connect (section 3).
                    let record = SVCB::new(1, name.clone(), Vec::new());
                    return Ok(HttpsRecord::new(&record, &name).into_iter().collect());
                }
                None => {
                    let owner = if aliased || port == 443 { &name } else { &host_name };
                    let mut found: Vec<_> =
                        records.into_iter().filter_map(|record| HttpsRecord::new(record, owner)).collect();
                    shuffle(&mut found, self.dns().random());
                    found.sort_by_key(|record| record.priority);
                    return Ok(found);
                }
            }
        }
        Err(ConnectError::new(
            ConnectErrorKind::Protocol,
            format!("HTTPS records of `{host}`: too many aliases"),
        )
        .with_hint("whoever runs the zone must end the chain"))
    }

    async fn records(
        &self,
        name: &Name,
        kind: RecordType,
        policy: &Policy,
    ) -> Result<Vec<RData>, ConnectError> {
        let question = Question { name: name.clone(), kind };
        match self.answer(&question, policy).await? {
            Answer::Records(records) => Ok(records),
            Answer::NoData(_) | Answer::NoName => Ok(Vec::new()),
        }
    }
}

/// SRV records in the order to try them: by priority, and among equals at random, by weight (RFC 2782).
pub fn order_srv(mut records: Vec<SrvRecord>, random: &Random) -> Vec<SrvRecord> {
    // Those of weight 0 are in front, so that they have a small chance.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let equals = records.iter().take_while(|record| record.priority == priority);
        let total = equals.map(|record| u32::from(record.weight)).sum();
        let mut left = random.up_to(total);
        let chosen = records.iter().position(|record| {
            let reached = left <= record.weight.into();
            left = left.saturating_sub(record.weight.into());
            reached
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

fn shuffle<T>(items: &mut [T], random: &Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.up_to(last as u32) as usize);
    }
}
