//! tokio-postgres.

#[path = "../../examples/postgres/glue.rs"]
mod glue;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tuyau_testing::peers::{Server, postgres};

use crate::{assert_names, context, within_limit};

#[tokio::test]
async fn postgres_over_tcp() {
    let mut server = postgres();
    let uri = server.tcp();
    within_limit(scenario(&mut server, &uri)).await;
}

#[tokio::test]
async fn postgres_over_a_unix_socket() {
    let mut server = postgres();
    let uri = server.unix();
    within_limit(scenario(&mut server, &uri)).await;
}

/// One context serves it all.
async fn scenario(server: &mut Server, uri: &str) {
    let ctx = &context(uri);
    let mut config = Config::new();
    config.user("postgres");

    let client = glue::connect(ctx, &config).await.expect("a client");
    client.batch_execute("CREATE TABLE kept (line text)").await.expect("a table");
    // Larger than any buffer on the way, there and back.
    let line = "tuyau ".repeat(100_000);
    let row = client.query_one("INSERT INTO kept VALUES ($1) RETURNING line", &[&line]).await.expect("a row");
    assert!(row.get::<_, &str>(0) == line);

    let observer = glue::connect(ctx, &config).await.expect("a second client");
    let token = client.cancel_token();
    let cancel = async {
        sleeps(&observer).await;
        glue::cancel(ctx, &token).await.expect("a third connection");
    };
    let (cancelled, ()) = tokio::join!(client.execute("SELECT pg_sleep(3600)", &[]), cancel);
    let cancelled = cancelled.expect_err("it would take an hour");
    assert_eq!(cancelled.code(), Some(&SqlState::QUERY_CANCELED), "{cancelled}");
    let alive = client.query_one("SELECT 1", &[]).await.expect("only the query was cancelled");
    assert_eq!(alive.get::<_, i32>(0), 1);

    let kill = async {
        sleeps(&observer).await;
        server.kill();
    };
    let (lost, ()) = tokio::join!(client.execute("SELECT pg_sleep(3600)", &[]), kill);
    let lost = lost.expect_err("its server is dead");
    assert!(lost.is_closed(), "{lost}");

    let error = glue::connect(ctx, &config).await.expect_err("nobody listens");
    assert_names(&error, uri);

    server.restart();
    let client = glue::connect(ctx, &config).await.expect("the same context serves");
    let row = client.query_one("SELECT line FROM kept", &[]).await.expect("what was committed");
    assert!(row.get::<_, &str>(0) == line);
}

/// Returns once another client waits in `pg_sleep`.
async fn sleeps(observer: &Client) {
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while observer.query_one(sleeping, &[]).await.expect("a count").get::<_, i64>(0) == 0 {}
}
