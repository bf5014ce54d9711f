//! A key is no argument: how it is wanted must be said.
use tuyau_core::{Context, Key, req};

static HOST: Key<String> = Key::new("host");
static PORT: Key<u16> = Key::new("port");
static ADDR: Key<String> = Key::new("addr");

fn main() {
    Context::new().derive(&ADDR, &HOST, |host: String| async move { Ok(host) });
    Context::new().derive(&ADDR, (req(&HOST), &PORT), |(host, _)| async move { Ok(host) });
}
