//! One request after the other over a pool, against hyper-util's client; the CPU is this thread's.

use std::time::Instant;

use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http::{HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioExecutor;
use tuyau_core::Context;
use tuyau_http::{Client, Versions};
use tuyau_tokio::{TCP, derivations};

use crate::load::runtime;
use crate::servers::{Serving, Speaks};
use crate::{Measured, ROUNDS, order};

const REQUESTS: usize = 1_000;

pub(crate) fn compare(row: &str, speaks: Speaks) {
    let server = Serving::hyper(speaks, None, false);
    let url: Uri = format!("http://127.0.0.1:{}/", server.port).parse().expect("a URL");
    let runtime = runtime();
    let theirs = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .http2_only(speaks == Speaks::H2)
        .build_http::<Empty<Bytes>>();
    let versions = if speaks == Speaks::H2 { Versions::Http2 } else { Versions::All };
    let ours = Client::new(derivations(Context::new()).offer(&TCP)).versions(versions);
    let codings = HeaderValue::from_static("gzip, deflate, br");
    let here = Serving::here();
    let mut measured = Measured::new(2);
    for round in 0..=ROUNDS {
        for which in order(round, 2) {
            let (before, began) = (here.cpu(), Instant::now());
            runtime.block_on(async {
                for _ in 0..REQUESTS {
                    let mut request = Request::get(url.clone()).body(Empty::new()).expect("a request");
                    let body = if which == 0 {
                        let response = ours.request::<Empty<Bytes>>(request).await.expect("a response");
                        response.into_body().collect().await.expect("a body")
                    } else {
                        // What ours sends by itself: the server gets the same from both.
                        request.headers_mut().insert(ACCEPT_ENCODING, codings.clone());
                        let response = theirs.request(request).await.expect("a response");
                        response.into_body().collect().await.expect("a body")
                    };
                    assert_eq!(body.to_bytes(), "hello");
                }
            });
            if round > 0 {
                measured.push(which, began.elapsed().as_secs_f64(), here.cpu() - before);
            }
        }
    }
    measured.show(row, &["", "hyper-util"], REQUESTS);
}
