//! A PostgreSQL client over any transport: the URI chooses it.
//!
//! ```sh
//! cargo run -p tuyau --example postgres -- tcp://postgres@localhost:5432
//! cargo run -p tuyau --example postgres -- unix:/run/postgresql/.s.PGSQL.5432?user=postgres
//! cargo run -p tuyau --example postgres -- 'exec:ssh db.internal socat - UNIX:/run/postgresql/.s.PGSQL.5432'
//! ```

mod glue;

use std::error::Error;
use std::time::Duration;

use tokio_postgres::Config;
use tuyau::{Allow, Context, names};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let text = std::env::args().nth(1).ok_or("usage: postgres URI")?;
    // It comes from whoever runs this: anything is allowed to it.
    let mut uri = tuyau::uri(&text)?.allow(Allow::ALL);

    let mut config = Config::new();
    let info = uri.take_user();
    let user = info.as_ref().map(|info| info.name.clone()).or_else(|| uri.take_option("user"));
    let user = user.unwrap_or_else(|| "postgres".to_owned());
    config.dbname(uri.take_option("database").as_deref().unwrap_or(&user)).user(&user);
    if let Some(password) = info.and_then(|info| info.password) {
        config.password(password);
    }
    let defaults = Context::new().with(&names::PORT, 5432);
    let ctx = uri.apply(tuyau::context().under(defaults))?;

    let client = glue::connect(&ctx, &config).await?;
    println!("{}", client.query_one("SELECT version()", &[]).await?.get::<_, &str>(0));

    let mut slow = std::pin::pin!(client.execute("SELECT pg_sleep(60)", &[]));
    if tokio::time::timeout(Duration::from_secs(1), slow.as_mut()).await.is_err() {
        glue::cancel(&ctx, &client.cancel_token()).await?;
        println!("cancelled after a second: {:?}", slow.await.map_err(|error| error.code().cloned()));
    }
    Ok(())
}
