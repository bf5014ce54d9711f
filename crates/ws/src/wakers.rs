//! Who waits for the flow below to take bytes.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// A reader answers pings, so it may wait for the same as a writer of another task: whoever waits for the lower
/// flow to take bytes is woken.
#[derive(Default)]
pub(crate) struct Wakers {
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl Wakers {
    pub(crate) fn reads(&self, waker: &Waker) {
        set(&self.reader, waker);
    }

    pub(crate) fn writes(&self, waker: &Waker) {
        set(&self.writer, waker);
    }
}

fn set(slot: &Mutex<Option<Waker>>, waker: &Waker) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *slot {
        Some(known) => known.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        for slot in [&self.reader, &self.writer] {
            let waker = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
