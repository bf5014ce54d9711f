//! A `const` would be a new key at each use.
use tuyau_core::{Context, Key};

const PORT: Key<u16> = Key::new("port");

fn main() {
    Context::new().with(&PORT, 80);
}
