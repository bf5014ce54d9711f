//! tokio-postgres.

#[path = "../../../tuyau/examples/postgres/glue.rs"]
#[allow(dead_code, reason = "nothing is cancelled here")]
mod glue;

use std::error::Error;

use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tuyau_core::{BoxFuture, ConnectError, Context, Flow, Role};
use tuyau_testing::Place;
use tuyau_testing::certs::Ca;
use tuyau_testing::peers::postgres_tls;
use tuyau_tls::{BACKEND, Backend};

use crate::stream::AsyncStream;
use crate::{Between, assert_goes_through, base, by_socket, by_tcp, trusting};

/// Upgrades, once the server has agreed to the driver's SSLRequest.
struct Upgrade(Context);

impl TlsConnect<Flow> for Upgrade {
    type Stream = AsyncStream;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<AsyncStream, ConnectError>>;

    fn connect(self, flow: Flow) -> Self::Future {
        Box::pin(async move { self.0.upgrade(flow, Role::Client).await.map(AsyncStream) })
    }
}

impl TlsStream for AsyncStream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

async fn upgraded(ctx: &Context, config: &Config) -> Result<Client, Box<dyn Error + Send + Sync>> {
    let flow = ctx.resolve().await?.into_flow();
    let config = config.clone().ssl_mode(SslMode::Require).to_owned();
    let (client, connection) = config.connect_raw(flow, Upgrade(ctx.clone())).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Asks for more than any buffer on the way holds; whether the server thinks that this was by TLS.
async fn query(client: &Client) -> bool {
    let line = "tuyau ".repeat(100_000);
    let row = client.query_one("SELECT $1::text", &[&line]).await.expect("a row");
    assert!(row.get::<_, &str>(0) == line);
    let tls = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    client.query_one(tls, &[]).await.expect("a row").get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_by_tls_ssh_and_socks5() {
    let (place, ca, between) = (Place::new(), Ca::new("CA"), Between::new());
    let (chain, key) = ca.leaf(&["127.0.0.1"]).files(&place, "db");
    let server = postgres_tls(&chain, &key);
    let mut config = Config::new();
    config.user("postgres");

    let ways: [(Context, &[&str]); 4] = [
        (by_tcp(between.ssh(), server.port()), &["ssh"]),
        (by_socket(between.ssh(), server.socket()), &["ssh"]),
        (by_tcp(between.socks5(), server.port()), &["socks5"]),
        (by_socket(between.ssh_over_socks5(), server.socket()), &["socks5", "ssh"]),
    ];
    for (ctx, hops) in ways {
        assert_goes_through(&ctx, hops).await;
        let client = glue::connect(&ctx, &config).await.expect("a client");
        assert!(!query(&client).await, "nobody asked for TLS");
    }

    for backend in [Backend::Rustls, Backend::OpenSsl] {
        let ways: [(Context, &[&str]); 2] = [(base(), &[]), (between.ssh_over_socks5(), &["socks5", "ssh"])];
        for (ctx, hops) in ways {
            let ctx = tuyau_tls::upgrades(by_tcp(ctx, server.port())).with(&BACKEND, backend);
            assert_goes_through(&ctx, hops).await;
            let client = upgraded(&trusting(ctx.clone(), &ca), &config).await.expect("a client");
            assert!(query(&client).await, "{backend}: it was not encrypted");
            // Somebody whose certificate is not trusted gets no query.
            let error = upgraded(&trusting(ctx, &Ca::new("Other")), &config).await.expect_err("refused");
            let mut causes = error.source();
            let mut said = error.to_string();
            while let Some(cause) = causes {
                said += &format!(": {cause}");
                causes = cause.source();
            }
            assert!(said.contains("an authority that is not trusted"), "{said}");
        }
    }
}
