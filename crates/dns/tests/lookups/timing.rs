//! What comes when: families that don't wait for each other, and what is remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::time::Instant;
use tuyau_core::{ConnectErrorKind, Net, Policy, Stop};
use tuyau_dns::Config;

use crate::scripted::{Scripted, address, bytes, empty, kind};
use crate::{LONG, config, failure, first, ip, lookup, on_host};

/// Answers queries of one type only.
async fn only(answered: RecordType) -> Scripted {
    Scripted::new(
        move |query, _| {
            if kind(query) == answered { vec![bytes(&address(query, 60))] } else { Vec::new() }
        },
    )
    .await
}

#[tokio::test]
async fn a_family_that_hangs_does_not_delay_the_other() {
    for (answered, expected) in [(RecordType::A, "192.0.2.1"), (RecordType::AAAA, "2001:db8::1")] {
        let server = only(answered).await;
        let net = on_host(Config { timeout: LONG, ..config(&[server.address]) });
        let started = Instant::now();
        let mut many = net.lookup("a.example", &Policy::new()).await.expect("lookup");
        let found = first(&mut many).await.expect("one").expect("an address");
        assert_eq!(found, ip(expected));
        assert!(started.elapsed() < Duration::from_secs(30), "it waited for the other family");
    }
}

#[tokio::test]
async fn a_family_that_fails_is_told_after_the_addresses_of_the_other() {
    let server = Scripted::new(|query, _| match kind(query) {
        RecordType::A => vec![bytes(&address(query, 60))],
        _ => vec![bytes(&empty(query, ResponseCode::ServFail))],
    })
    .await;
    let net = on_host(config(&[server.address]));
    let mut many = net.lookup("a.example", &Policy::new()).await.expect("lookup");
    assert_eq!(first(&mut many).await.expect("one").expect("an address"), ip("192.0.2.1"));
    let Some(Err(Stop::Fail(error))) = first(&mut many).await else { panic!("the failure is lost") };
    assert!(error.to_string().contains("a.example. AAAA"), "{error}");
    assert!(first(&mut many).await.is_none());
}

#[tokio::test]
async fn what_does_not_exist_for_one_family_exists_for_none() {
    let server = Scripted::new(|query, _| match kind(query) {
        RecordType::A => vec![bytes(&empty(query, ResponseCode::NXDomain))],
        _ => Vec::new(),
    })
    .await;
    let net = on_host(Config { timeout: LONG, ..config(&[server.address]) });
    assert_eq!(failure(&net, "a.example.").await.kind(), ConnectErrorKind::NotFound);
}

/// The scripted server is another thread's, so that the clock may stand still between queries.
#[tokio::test(start_paused = true)]
async fn answers_are_remembered_for_their_ttl_and_absences_for_what_the_soa_says() {
    let exists = Arc::new(AtomicBool::new(true));
    let its_state = exists.clone();
    let server = Scripted::new(move |query, _| {
        if its_state.load(Ordering::Relaxed) {
            return vec![bytes(&address(query, 30))];
        }
        let mut message = empty(query, ResponseCode::NXDomain);
        let names = ("ns.example.".parse().expect("a name"), "h.example.".parse().expect("a name"));
        let soa = SOA::new(names.0, names.1, 1, 1, 1, 1, 10);
        message.add_authority(Record::from_rdata("example.".parse().expect("a name"), 300, RData::SOA(soa)));
        vec![bytes(&message)]
    })
    .await;
    let net = on_host(Config { timeout: LONG, ..config(&[server.address]) });
    let asked = |net| async move {
        lookup(net, "a.example.").await.map(|found| found.len()).map_err(|error| error.kind())
    };
    assert_eq!(asked(&net).await, Ok(2));
    exists.store(false, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(asked(&net).await, Ok(2));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(asked(&net).await, Err(ConnectErrorKind::NotFound));
    exists.store(true, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(asked(&net).await, Err(ConnectErrorKind::NotFound));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(asked(&net).await, Ok(2));
    // Another value has another cache.
    exists.store(false, Ordering::Relaxed);
    let other = on_host(Config { timeout: LONG, ..config(&[server.address]) });
    assert_eq!(asked(&other).await, Err(ConnectErrorKind::NotFound));
}

#[tokio::test]
async fn an_answer_without_a_ttl_is_not_remembered() {
    let server = Scripted::new(|query, _| vec![bytes(&address(query, 0))]).await;
    let net = on_host(config(&[server.address]));
    for _ in 0..2 {
        lookup(&net, "a.example.").await.expect("lookup");
    }
    assert_eq!(server.seen().len(), 4);
}
