use std::time::Duration;

use tokio::time::{Instant, sleep};
use tuyau_http::{Limit, Limits};

use super::frames::*;
use super::{Client, connect};

/// Connected, and the server's settings acknowledged.
async fn connected(settings: &[(u16, u32)]) -> Client {
    let mut client = connect(Limits::default());
    client.send(hello(settings)).await;
    client.send(frame(SETTINGS, ACK, 0, &[])).await;
    client
}

/// Sends `attack` until the server has had enough: how often it could.
async fn until_refused(client: &mut Client, attack: impl Fn(u32) -> Vec<u8>) -> u32 {
    for n in 0..1_000_000 {
        if client.flow.write_all(&attack(n)).await.is_err() {
            return n;
        }
    }
    panic!("never");
}

/// The code of the last GOAWAY (RFC 9113 section 7).
async fn goaway(client: &mut Client) -> Option<u32> {
    let frames = parse(&client.rest().await);
    let (.., payload) = frames.into_iter().rfind(|frame| frame.0 == GOAWAY)?;
    Some(u32::from_be_bytes(payload[4..8].try_into().ok()?))
}

const ENHANCE_YOUR_CALM: u32 = 0xb;

#[tokio::test(start_paused = true)]
async fn a_silent_preface() {
    let mut client = connect(Limits::default());
    client.send(&PREFACE[..10]).await;
    client.ends_cut_off(Limit::FirstByte, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_preface_without_settings() {
    let mut client = connect(Limits::default());
    client.send(PREFACE).await;
    client.ends_cut_off(Limit::H2Preface, 10).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_answers_pings_and_sends_them() {
    let client = connected(&[]).await;
    let (mut flow, served) = (client.flow, client.served);
    let began = Instant::now();
    let pinging = tokio::spawn(async move {
        while flow.write_all(&frame(PING, 0, 0, &[0; 8])).await.is_ok() {
            sleep(Duration::from_secs(5)).await;
            let mut bytes = [0; 4096];
            let n = flow.read(&mut bytes).await.unwrap();
            for (kind, flags, _, payload) in parse(&bytes[..n]) {
                if kind == PING && flags & ACK == 0 {
                    let _ = flow.write_all(&frame(PING, ACK, 0, &payload)).await;
                }
            }
        }
    });
    let served = served.await.unwrap().expect("ended by GOAWAY");
    assert_eq!(served.requests, 0);
    assert!((180..=190).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    pinging.abort();
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_answers_nothing() {
    let client = connected(&[]).await;
    let (served, took) = client.end().await;
    assert!(served.is_ok());
    assert!((180..=215).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_header_block_that_is_dribbled() {
    let mut client = connected(&[]).await;
    client.send(frame(HEADERS, END_STREAM, 1, &head("GET", "/"))).await;
    client.ends_cut_off(Limit::HeaderTime, 15).await;
    // Read together with a request that is whole.
    let mut client = connected(&[]).await;
    client.send([get(1, "/wait"), frame(HEADERS, END_STREAM, 3, &head("GET", "/"))].concat()).await;
    client.ends_cut_off(Limit::HeaderTime, 15).await;
}

#[tokio::test(start_paused = true)]
async fn a_frame_of_headers_that_is_dribbled() {
    let mut client = connected(&[]).await;
    let bytes = get(1, "/");
    client.send(&bytes[..bytes.len() - 1]).await;
    client.ends_cut_off(Limit::HeaderTime, 15).await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls() {
    let mut client = connected(&[]).await;
    client.send(frame(HEADERS, END_HEADERS, 1, &head("POST", "/length"))).await;
    client.send(frame(DATA, 0, 1, b"abc")).await;
    let (served, took) = client.end().await;
    // The handler answers; the connection is idle from then on.
    assert_eq!(served.unwrap().late, 1);
    assert!((210..=245).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_of_zero() {
    let mut client = connected(&[(4, 0)]).await;
    client.send(get(1, "/endless")).await;
    let began = Instant::now();
    loop {
        let mut bytes = [0; 4096];
        let n = client.flow.read(&mut bytes).await.unwrap();
        if parse(&bytes[..n]).iter().any(|(kind, _, stream, _)| (*kind, *stream) == (RST_STREAM, 1)) {
            break;
        }
    }
    assert_eq!(began.elapsed().as_secs(), 30, "the stream is reset, the connection lives");
    let (served, _) = client.end().await;
    assert_eq!(served.unwrap().late, 1);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_zero_after_all_was_handed_over() {
    let mut client = connected(&[(4, 1)]).await;
    client.send(get(1, "/large")).await;
    let (served, took) = client.end().await;
    assert!(served.is_ok());
    assert!((180..=215).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_opened_by_single_bytes() {
    let mut client = connected(&[(4, 1)]).await;
    client.send(get(1, "/endless")).await;
    let (mut flow, served) = (client.flow, client.served);
    let began = Instant::now();
    let dribble = tokio::spawn(async move {
        while flow.write_all(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let _ = served.await.unwrap();
    assert!(began.elapsed().as_secs() <= 300, "{:?}", began.elapsed());
    dribble.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read() {
    let mut client = connected(&[(4, 0x7fff_ffff)]).await;
    client.send(frame(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes())).await;
    client.send(get(1, "/endless")).await;
    client.ends_cut_off(Limit::WriteIdle, 30).await;
}

async fn flood(attack: impl Fn(u32) -> Vec<u8>, limit: Limit) {
    let client = connected(&[]).await;
    let Client { flow, served, began } = client;
    let mut client = Client { flow, served: tokio::spawn(std::future::pending()), began };
    let reading = async {
        let n = until_refused(&mut client, attack).await;
        (n, goaway(&mut client).await)
    };
    let (served, (n, code)) = tokio::join!(served, reading);
    let error = served.unwrap().unwrap_err();
    assert_eq!(*error.kind(), tuyau_http::ServeErrorKind::Limit(limit));
    assert!(n < 6_000, "{n} went through");
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings() {
    flood(|_| frame(PING, 0, 0, &[0; 8]), Limit::H2ControlFrames).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_settings() {
    flood(|n| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, n as u8]), Limit::H2ControlFrames).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_priorities() {
    flood(|n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 1]), Limit::H2ControlFrames).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_frames() {
    flood(|_| frame(0xbe, 0, 0, &[0; 100]), Limit::H2ControlFrames).await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_window_updates() {
    flood(|_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()), Limit::H2ControlFrames).await;
}

/// Each of them reaches a handler, so that what hyper counts, resets of requests that it has not accepted yet,
/// stays small.
#[tokio::test(start_paused = true)]
async fn rapid_resets_of_requests_that_were_accepted() {
    let mut client = connected(&[]).await;
    let mut sent = 0;
    for n in 0..10_000 {
        let stream = 2 * n + 1;
        if client.flow.write_all(&get(stream, "/wait")).await.is_err() {
            break;
        }
        // The server has taken it up.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        if client.flow.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await.is_err() {
            break;
        }
        sent = n;
    }
    assert!((900..1_200).contains(&sent), "{sent}");
    client.ends_cut_off(Limit::H2Resets, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_header_block_without_end() {
    let mut client = connected(&[]).await;
    client.send(frame(HEADERS, END_STREAM, 1, &head("GET", "/"))).await;
    let field = block(&[("x", "y")]);
    let n = until_refused(&mut client, |_| frame(CONTINUATION, 0, 1, &field)).await;
    assert!(n < 20_000, "{n}");
    assert!(client.end().await.0.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_data() {
    let mut client = connected(&[]).await;
    client.send(frame(HEADERS, END_HEADERS, 1, &head("POST", "/length"))).await;
    let n = until_refused(&mut client, |_| frame(DATA, 0, 1, b"")).await;
    // A flow in memory takes 64 KiB at once.
    assert!(n < 20_000, "{n}");
    assert!(client.end().await.0.is_err());
}
