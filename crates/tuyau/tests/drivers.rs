//! Database drivers as they are published, each over one context, against real servers: a query, the
//! cancelling of one that runs, the server's death, and connecting again.

#[path = "drivers/postgres.rs"]
mod postgres;
#[path = "drivers/redis.rs"]
mod redis;

use tuyau::{Allow, Context};
use tuyau_testing::peers::LIMIT;

/// The context that `uri` makes: all that a driver is given.
fn context(uri: &str) -> Context {
    let uri = tuyau::uri(uri).expect(uri).allow(Allow::LOCAL);
    uri.apply(tuyau::context()).expect("it is allowed")
}

/// That `error` is of a server at `uri` that is down: where, and why.
fn assert_names(error: &dyn std::fmt::Display, uri: &str) {
    let (_, address) = uri.split_once(':').expect("a URI");
    for part in [address.trim_start_matches("//"), "Connection refused"] {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
}

/// What `query` ends with, which it does not do before it is seen to be `running`, but by `action`.
async fn ended_by<T: std::fmt::Debug>(
    query: impl Future<Output = T>,
    running: impl Future<Output = ()>,
    action: impl Future<Output = ()>,
) -> T {
    let mut query = std::pin::pin!(query);
    tokio::select! {
        early = &mut query => panic!("it ended too soon: {early:?}"),
        () = running => tokio::join!(query, action).0,
    }
}

/// Nobody waits for ever.
async fn within_limit<T>(what: &str, scenario: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, scenario).await.unwrap_or_else(|_| panic!("it hangs: {what}"))
}

#[test]
fn the_glue_is_at_most_ten_lines() {
    for glue in [include_str!("../examples/postgres/glue.rs"), include_str!("../examples/redis/glue.rs")] {
        let not_glue = |line: &&str| !line.is_empty() && !line.starts_with("use ") && !line.starts_with("//");
        let lines: Vec<_> = glue.lines().map(str::trim).filter(not_glue).collect();
        assert!((1..=10).contains(&lines.len()), "{}: {lines:#?}", lines.len());
    }
}
