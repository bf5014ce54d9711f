//! tokio-postgres.

#[path = "../../examples/postgres/glue.rs"]
mod glue;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};
use tuyau::Context;
use tuyau_testing::peers::{Server, postgres};

use crate::{assert_names, context, ended_by, within_limit};

#[tokio::test]
async fn postgres_over_tcp() {
    let server = postgres();
    let uri = server.tcp();
    scenario(server, &uri).await;
}

#[tokio::test]
async fn postgres_over_a_unix_socket() {
    let server = postgres();
    let uri = server.unix();
    scenario(server, &uri).await;
}

/// One context serves it all.
async fn scenario(mut server: Server, uri: &str) {
    let ctx = context(uri);
    let mut config = Config::new();
    config.user("postgres");
    // Larger than any buffer on the way, there and back.
    let line = "tuyau ".repeat(100_000);

    within_limit("a query", query(&ctx, &config, &line)).await;
    within_limit("cancelling", cancel(&ctx, &config)).await;
    within_limit("its death", death(&ctx, &config, &mut server)).await;

    let error = glue::connect(&ctx, &config).await.expect_err("nobody listens");
    assert_names(&error, uri);

    server.restart();
    within_limit("connecting again", async {
        let client = glue::connect(&ctx, &config).await.expect("the same context serves");
        let row = client.query_one("SELECT line FROM kept", &[]).await.expect("what was committed");
        assert!(row.get::<_, &str>(0) == line);
    })
    .await;
}

async fn query(ctx: &Context, config: &Config, line: &str) {
    let client = glue::connect(ctx, config).await.expect("a client");
    client.batch_execute("CREATE TABLE kept (line text)").await.expect("a table");
    let row = client.query_one("INSERT INTO kept VALUES ($1) RETURNING line", &[&line]).await.expect("a row");
    assert!(row.get::<_, &str>(0) == line);
}

async fn cancel(ctx: &Context, config: &Config) {
    let client = glue::connect(ctx, config).await.expect("a client");
    let observer = glue::connect(ctx, config).await.expect("a second client");
    let token = client.cancel_token();
    let act = async { glue::cancel(ctx, &token).await.expect("a third connection") };
    let cancelled = ended_by(client.execute("SELECT pg_sleep(3600)", &[]), sleeps(&observer), act).await;
    let cancelled = cancelled.expect_err("it would take an hour");
    assert_eq!(cancelled.code(), Some(&SqlState::QUERY_CANCELED), "{cancelled}");
    // The postmaster signals the backend twice (itself, then its process group): the second signal may be
    // late, and cancel a query that comes after.
    let mut alive = client.query_one("SELECT 1", &[]).await;
    if alive.as_ref().is_err_and(|error| error.code() == Some(&SqlState::QUERY_CANCELED)) {
        alive = client.query_one("SELECT 1", &[]).await;
    }
    assert_eq!(alive.expect("only the query was cancelled").get::<_, i32>(0), 1);
}

async fn death(ctx: &Context, config: &Config, server: &mut Server) {
    let client = glue::connect(ctx, config).await.expect("a client");
    let observer = glue::connect(ctx, config).await.expect("a second client");
    let kill = async { server.kill() };
    let lost = ended_by(client.execute("SELECT pg_sleep(3600)", &[]), sleeps(&observer), kill).await;
    let lost = lost.expect_err("its server is dead");
    assert!(lost.is_closed(), "{lost}");
}

/// Returns once another client waits in `pg_sleep`.
async fn sleeps(observer: &Client) {
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while observer.query_one(sleeping, &[]).await.expect("a count").get::<_, i64>(0) == 0 {}
}
