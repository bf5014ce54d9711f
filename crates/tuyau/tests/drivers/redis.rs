//! redis-rs.

#[path = "../../examples/redis/glue.rs"]
mod glue;

use redis::aio::MultiplexedConnection;
use redis::{RedisConnectionInfo, RedisResult, cmd};
use tuyau::Context;
use tuyau_testing::peers::{Server, redis};

use crate::{assert_names, context, ended_by, within_limit};

#[tokio::test]
async fn redis_over_tcp() {
    let server = redis();
    let uri = server.tcp();
    scenario(server, &uri).await;
}

#[tokio::test]
async fn redis_over_a_unix_socket() {
    let server = redis();
    let uri = server.unix();
    scenario(server, &uri).await;
}

/// One context serves it all.
async fn scenario(mut server: Server, uri: &str) {
    let ctx = context(uri);
    let info = RedisConnectionInfo::default();
    // Larger than any buffer on the way, there and back.
    let value = "tuyau ".repeat(100_000);

    let mut client = within_limit("a query", query(&ctx, &info, &value)).await;
    within_limit("cancelling", cancel(&ctx, &info, &mut client)).await;
    assert!(get(&mut client).await == value, "only the command was cancelled");
    within_limit("its death", death(&ctx, &info, &mut client, &mut server)).await;

    let error = glue::connect(&ctx, &info).await.expect_err("nobody listens");
    assert_names(&error, uri);

    server.restart();
    within_limit("connecting again", async {
        let mut client = glue::connect(&ctx, &info).await.expect("the same context serves");
        assert!(get(&mut client).await == value, "what was written is there");
    })
    .await;
}

async fn query(ctx: &Context, info: &RedisConnectionInfo, value: &str) -> MultiplexedConnection {
    let mut client = glue::connect(ctx, info).await.expect("a client");
    let set: String = cmd("SET").arg("kept").arg(value).query_async(&mut client).await.expect("an answer");
    assert_eq!(set, "OK");
    assert!(get(&mut client).await == value);
    client
}

async fn cancel(ctx: &Context, info: &RedisConnectionInfo, client: &mut MultiplexedConnection) {
    let mut other = glue::connect(ctx, info).await.expect("a second client");
    let mut observer = other.clone();
    let id = cmd("CLIENT").arg("ID").query_async(client).await.expect("an id");
    let act = async { assert!(glue::cancel(&mut other, id).await.expect("an answer")) };
    let cancelled = ended_by(pop(client), blocks(&mut observer), act).await;
    let cancelled = cancelled.expect_err("nobody pushed");
    assert_eq!(cancelled.code(), Some("UNBLOCKED"), "{cancelled}");
}

async fn death(
    ctx: &Context,
    info: &RedisConnectionInfo,
    client: &mut MultiplexedConnection,
    server: &mut Server,
) {
    let mut observer = glue::connect(ctx, info).await.expect("a second client");
    let kill = async { server.kill() };
    let lost = ended_by(pop(client), blocks(&mut observer), kill).await;
    let lost = lost.expect_err("its server is dead");
    assert!(lost.is_connection_dropped(), "{lost}");
}

/// Blocks for ever.
async fn pop(client: &mut MultiplexedConnection) -> RedisResult<()> {
    cmd("BLPOP").arg("nothing").arg(0).query_async(client).await
}

async fn get(client: &mut MultiplexedConnection) -> String {
    cmd("GET").arg("kept").query_async(client).await.expect("a value")
}

/// Returns once some client is blocked in a command.
async fn blocks(observer: &mut MultiplexedConnection) {
    let is_one = |clients: String| clients.lines().any(|line| line == "blocked_clients:1");
    while !is_one(cmd("INFO").arg("clients").query_async(observer).await.expect("its clients")) {}
}
