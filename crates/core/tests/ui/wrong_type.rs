//! The closure gives something else than the key holds.
use tuyau_core::{Context, Key, req};

static HOST: Key<String> = Key::new("host");
static PORT: Key<u16> = Key::new("port");

fn main() {
    Context::new().derive(&PORT, req(&HOST), |host: String| async move { Ok(host) });
}
