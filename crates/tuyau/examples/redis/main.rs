//! A Redis client over any transport: the URI chooses it.
//!
//! ```sh
//! cargo run -p tuyau --example redis -- tcp://localhost:6379
//! cargo run -p tuyau --example redis -- unix:/run/redis/redis-server.sock
//! cargo run -p tuyau --example redis -- 'exec:ssh cache.internal socat - UNIX:/run/redis/redis-server.sock'
//! ```

mod glue;

use std::error::Error;
use std::time::Duration;

use redis::{RedisConnectionInfo, cmd};
use tuyau::{Allow, Context, names};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let text = std::env::args().nth(1).ok_or("usage: redis URI")?;
    // It comes from whoever runs this: anything is allowed to it.
    let mut uri = tuyau::uri(&text)?.allow(Allow::ALL);

    let mut info = RedisConnectionInfo::default();
    if let Some(user) = uri.take_user() {
        info = info.set_username(user.name).set_password(user.password.unwrap_or_default());
    }
    let defaults = Context::new().with(&names::PORT, 6379);
    let ctx = uri.apply(tuyau::context().under(defaults))?;

    let mut client = glue::connect(&ctx, &info).await?;
    println!("{}", cmd("PING").query_async::<String>(&mut client).await?);

    let id = cmd("CLIENT").arg("ID").query_async(&mut client).await?;
    let pop = cmd("BLPOP").arg("tuyau-example").arg(0).to_owned();
    let mut blocked = std::pin::pin!(pop.query_async::<()>(&mut client));
    if tokio::time::timeout(Duration::from_secs(1), blocked.as_mut()).await.is_err() {
        glue::cancel(&mut glue::connect(&ctx, &info).await?, id).await?;
        println!("cancelled after a second: {:?}", blocked.await.map_err(|error| error.to_string()));
    }
    Ok(())
}
