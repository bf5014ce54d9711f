//! All that redis-rs needs, as it is published, to run over whatever a context resolves to.

use std::io;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult, cmd};
use tuyau::Context;

/// Connects: the first time, and again after the connection was lost.
pub(crate) async fn connect(ctx: &Context, info: &RedisConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let flow = ctx.resolve().await.map_err(io::Error::from)?.into_flow();
    // Whoever blocks (BLPOP) says for how long.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(info, flow, config).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// Cancels, by another client, the command that blocks the client `id`, and says whether one did.
pub(crate) async fn cancel(other: &mut MultiplexedConnection, id: i64) -> RedisResult<bool> {
    cmd("CLIENT").arg("UNBLOCK").arg(id).arg("ERROR").query_async(other).await
}
