//! redis-rs.

#[path = "../../examples/redis/glue.rs"]
mod glue;

use redis::aio::MultiplexedConnection;
use redis::{RedisConnectionInfo, cmd};
use tuyau_testing::peers::{Server, redis};

use crate::{assert_names, context, within_limit};

#[tokio::test]
async fn redis_over_tcp() {
    let mut server = redis();
    let uri = server.tcp();
    within_limit(scenario(&mut server, &uri)).await;
}

#[tokio::test]
async fn redis_over_a_unix_socket() {
    let mut server = redis();
    let uri = server.unix();
    within_limit(scenario(&mut server, &uri)).await;
}

/// One context serves it all.
async fn scenario(server: &mut Server, uri: &str) {
    let ctx = &context(uri);
    let info = RedisConnectionInfo::default();

    let mut client = glue::connect(ctx, &info).await.expect("a client");
    // Larger than any buffer on the way, there and back.
    let value = "tuyau ".repeat(100_000);
    let set: String = cmd("SET").arg("kept").arg(&value).query_async(&mut client).await.expect("an answer");
    assert_eq!(set, "OK");
    assert!(get(&mut client).await == value);

    let mut observer = glue::connect(ctx, &info).await.expect("a second client");
    let id = cmd("CLIENT").arg("ID").query_async(&mut client).await.expect("an id");
    let pop = cmd("BLPOP").arg("nothing").arg(0).to_owned();
    // It says so as long as the command has not got there yet.
    let cancel = async { while !glue::cancel(&mut observer, id).await.expect("an answer") {} };
    let (cancelled, ()) = tokio::join!(pop.query_async::<()>(&mut client), cancel);
    let cancelled = cancelled.expect_err("nobody pushed");
    assert_eq!(cancelled.code(), Some("UNBLOCKED"), "{cancelled}");
    assert!(get(&mut client).await == value, "only the command was cancelled");

    let kill = async {
        while !blocks(&mut observer).await {}
        server.kill();
    };
    let (lost, ()) = tokio::join!(pop.query_async::<()>(&mut client), kill);
    let lost = lost.expect_err("its server is dead");
    assert!(lost.is_connection_dropped(), "{lost}");

    let error = glue::connect(ctx, &info).await.expect_err("nobody listens");
    assert_names(&error, uri);

    server.restart();
    let mut client = glue::connect(ctx, &info).await.expect("the same context serves");
    assert!(get(&mut client).await == value, "what was written is there");
}

async fn get(client: &mut MultiplexedConnection) -> String {
    cmd("GET").arg("kept").query_async(client).await.expect("a value")
}

/// Whether some client is blocked in a command.
async fn blocks(observer: &mut MultiplexedConnection) -> bool {
    let clients: String = cmd("INFO").arg("clients").query_async(observer).await.expect("its clients");
    clients.lines().any(|line| line == "blocked_clients:1")
}
