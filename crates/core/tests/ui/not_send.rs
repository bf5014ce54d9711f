//! The derivation's future holds something that can't move between threads.
use std::rc::Rc;
use tuyau_core::{Context, Key, req};

static HOST: Key<String> = Key::new("host");
static ADDR: Key<String> = Key::new("addr");

async fn look_up(_: &str) {}

fn main() {
    Context::new().derive(&ADDR, req(&HOST), |host: String| async move {
        let host = Rc::new(host);
        look_up(&host).await;
        Ok(host.to_string())
    });
}
