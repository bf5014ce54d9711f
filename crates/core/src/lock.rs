//! A spin lock, held for a few instructions at a time and never while user code runs. One of the
//! crate's two modules with `unsafe`: without std there is no other way to share what changes.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives out `&mut T` to one thread at a time, so `T: Send` is all that it takes.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Runs `f` with the lock held. `f` must neither block, nor take the lock again, nor panic.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        while self.held.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        // Releases on unwinding too, so that a panic does not become a hang elsewhere.
        let _release = Release(&self.held);
        // SAFETY: the exchange above succeeded, so until `_release` drops nobody else is here.
        f(unsafe { &mut *self.value.get() })
    }
}

struct Release<'a>(&'a AtomicBool);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl<T> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}
