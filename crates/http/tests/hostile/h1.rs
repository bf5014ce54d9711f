use std::time::Duration;

use tokio::time::{Instant, sleep};
use tuyau_http::{Limit, Limits};

use super::connect;

#[tokio::test(start_paused = true)]
async fn a_silent_client() {
    connect(Limits::default()).ends_cut_off(Limit::FirstByte, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_dribbled_head() {
    let mut client = connect(Limits::default());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let (mut flow, served) = (client.flow, client.served);
    let dribble = async {
        for _ in 0.. {
            if flow.write_all(b"X: 1\r\n").await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        let mut text = vec![0; 1024];
        let n = flow.read(&mut text).await.unwrap();
        String::from_utf8_lossy(&text[..n]).into_owned()
    };
    let began = Instant::now();
    let (served, text) = tokio::join!(async { (served.await.unwrap(), began.elapsed()) }, dribble);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    let (served, took) = served;
    assert!(served.unwrap_err().to_string().contains("head"));
    assert!((15..=17).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_client() {
    let mut client = connect(Limits::default());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let began = Instant::now();
    let text = client.text().await;
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(client.end().await.0.unwrap().requests, 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_large() {
    let mut client = connect(Limits::default());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n").await;
    let field = format!("X: {}\r\n", "x".repeat(1000));
    for _ in 0..20 {
        client.send(&field).await;
    }
    client.flow.shutdown().await.unwrap();
    let text = client.text().await;
    assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_head_of_too_many_fields() {
    let mut client = connect(Limits::default());
    let fields = "X: 1\r\n".repeat(101);
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
    client.flow.shutdown().await.unwrap();
    assert!(client.text().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls() {
    let mut client = connect(Limits::default());
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc").await;
    let began = Instant::now();
    let mut bytes = [0; 1024];
    let n = client.flow.read(&mut bytes).await.unwrap();
    let text = String::from_utf8_lossy(&bytes[..n]).into_owned();
    assert!(text.contains("stalled"), "{text}");
    assert_eq!(began.elapsed().as_secs(), 30);
    // Nor does it stay open after the response, though the client does not hang up.
    let (served, took) = client.end().await;
    assert_eq!(served.unwrap().late, 1);
    assert!(took.as_secs() <= 32, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_by_single_bytes() {
    let mut client = connect(Limits::default());
    client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    let (mut flow, served) = (client.flow, client.served);
    let began = Instant::now();
    let dribble = tokio::spawn(async move {
        while flow.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert_eq!(served.await.unwrap().unwrap().late, 1);
    assert!((30..=35).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    dribble.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read() {
    let mut client = connect(Limits::default());
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.ends_cut_off(Limit::WriteIdle, 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_single_bytes() {
    let mut client = connect(Limits::default());
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut flow, served) = (client.flow, client.served);
    let began = Instant::now();
    let dribble = tokio::spawn(async move {
        while flow.read(&mut [0; 16]).await.is_ok_and(|n| n > 0) {
            sleep(Duration::from_secs(1)).await;
        }
    });
    assert!(served.await.unwrap().is_err());
    // A flow in memory takes over all that was written at once, so that it moves in bursts of 64 KiB.
    assert!(began.elapsed().as_secs() < 10_000, "{:?}", began.elapsed());
    dribble.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ends_its_side() {
    for (path, seconds) in [("/wait", 5), ("/silent", 60)] {
        let mut client = connect(Limits::default());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.flow.shutdown().await.unwrap();
        client.ends_cut_off(Limit::HalfClosed, seconds).await;
    }
}

/// Who is slow, but not too slow, is not taken for idle once all of a response is in one piece below.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_has_the_whole_response() {
    let mut client = connect(Limits::default());
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (mut bytes, mut got) = (vec![0; 64 * 1024], 0);
    while let n @ 1.. = client.flow.read(&mut bytes).await.unwrap() {
        got += n;
        sleep(Duration::from_secs(20)).await;
    }
    assert!(got > 1 << 20, "{got}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_does_not_keep_the_connection() {
    let mut client = connect(Limits::default());
    client.send("POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc").await;
    let (served, took) = client.end().await;
    assert_eq!(served.unwrap().requests, 1);
    assert!(took.as_secs() <= 2, "{took:?}");
}
