//! A spin lock, held for a few instructions at a time and never while user code runs. One of the
//! crate's two modules with `unsafe`: without std there is no other way to share what changes.
#![allow(unsafe_code)]

use core::fmt;

use model::{AtomicBool, Ordering, UnsafeCell, spin_loop};

pub(crate) struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` gives out `&mut T` to one thread at a time, so `T: Send` is all that it takes.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    #[cfg(not(all(test, loom)))]
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        // SAFETY: whoever has it alone needs no lock.
        self.value.with_mut(|value| unsafe { &mut *value })
    }

    /// Runs `f` with the lock held. `f` must neither block, nor take the lock again, nor panic.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        while self.held.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            spin_loop();
        }
        // Releases on unwinding too, so that a panic does not become a hang elsewhere.
        let _release = Release(&self.held);
        // SAFETY: the exchange above succeeded, so until `_release` drops nobody else is here.
        self.value.with_mut(|value| f(unsafe { &mut *value }))
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

/// What the memory model is made of.
#[cfg(not(all(test, loom)))]
mod model {
    pub(super) use core::hint::spin_loop;
    pub(super) use core::sync::atomic::{AtomicBool, Ordering};

    /// As loom has it.
    pub(super) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

/// Of loom, which goes through all interleavings (`scripts/sanitize.sh`).
#[cfg(all(test, loom))]
mod model {
    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
}

#[cfg(all(test, loom))]
impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_lock_is_alone_and_sees_what_others_did() {
        loom::model(|| {
            let lock = loom::sync::Arc::new(Lock::new(0));
            let theirs = lock.clone();
            let other = loom::thread::spawn(move || theirs.with(|value| *value += 1));
            lock.with(|value| *value += 1);
            other.join().unwrap();
            assert_eq!(lock.with(|value| *value), 2);
        });
    }
}
