//! A value of another type than the key's.
use tuyau_core::{Context, Key};

static PORT: Key<u16> = Key::new("port");

fn main() {
    Context::new().with(&PORT, "80");
}
