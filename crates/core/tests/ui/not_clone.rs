//! What several may depend on must be cloned for each.
use tuyau_core::{Context, Key, req};

struct Socket;
static SOCKET: Key<Socket> = Key::new("socket");
static ADDR: Key<u32> = Key::new("addr");

fn main() {
    Context::new().derive(&ADDR, req(&SOCKET), |_| async move { Ok(1) });
}
