//! Two arguments, a closure of three.
use tuyau_core::{Context, Key, or, req};

static HOST: Key<String> = Key::new("host");
static PORT: Key<u16> = Key::new("port");
static ADDR: Key<String> = Key::new("addr");

fn main() {
    Context::new().derive(&ADDR, (req(&HOST), or(&PORT, 80)), |(host, port, extra)| async move {
        Ok(format!("{host}:{port}{extra}"))
    });
}
