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

/// Nobody waits for ever.
async fn within_limit(scenario: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, scenario).await.expect("it hangs");
}

#[test]
fn the_glue_is_at_most_ten_lines() {
    for glue in [include_str!("../examples/postgres/glue.rs"), include_str!("../examples/redis/glue.rs")] {
        let not_glue = |line: &&str| !line.is_empty() && !line.starts_with("use ") && !line.starts_with("//");
        let lines: Vec<_> = glue.lines().map(str::trim).filter(not_glue).collect();
        assert!((1..=10).contains(&lines.len()), "{}: {lines:#?}", lines.len());
    }
}
