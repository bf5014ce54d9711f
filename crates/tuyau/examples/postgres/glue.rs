//! All that tokio-postgres needs, as it is published, to run over whatever a context resolves to.

use std::error::Error;

use tokio_postgres::{CancelToken, Client, Config, NoTls};
use tuyau::Context;

/// Connects: the first time, and again after the connection was lost.
pub(crate) async fn connect(ctx: &Context, config: &Config) -> Result<Client, Box<dyn Error + Send + Sync>> {
    let flow = ctx.resolve().await?.into_flow();
    let (client, connection) = config.connect_raw(flow, NoTls).await?;
    // Its end shows in the client, too.
    tokio::spawn(connection);
    Ok(client)
}

/// Cancels the query that runs on the connection of `token`: PostgreSQL wants a second one for it.
pub(crate) async fn cancel(ctx: &Context, token: &CancelToken) -> Result<(), Box<dyn Error + Send + Sync>> {
    let flow = ctx.resolve().await?.into_flow();
    Ok(token.cancel_query_raw(flow, NoTls).await?)
}
