//! What a request costs on a context that holds much: counted in bytes allocated, not in time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tuyau_core::{Context, Key};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: all is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.with(|bytes| bytes.set(bytes.get() + layout.size()));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many bytes `story` allocates.
fn allocated<T>(story: impl FnOnce() -> T) -> usize {
    let before = BYTES.get();
    let kept = story();
    let bytes = BYTES.get() - before;
    drop(kept);
    bytes
}

fn keys(count: usize) -> Vec<&'static Key<u32>> {
    (0..count).map(|_| Key::leak("key")).collect()
}

fn holding(keys: &[&'static Key<u32>]) -> Context {
    keys.iter().fold(Context::new(), |ctx, key| ctx.with(key, 1))
}

#[test]
fn one_more_value_on_a_full_overlay_does_not_copy_the_base() {
    let keys = keys(1000);
    let base = holding(&keys);
    // Each overlay is kept, so none can grow in place; now and then newer ones are put together.
    let mut overlays = vec![base];
    let mut all = 0;
    for i in 0..300 {
        let last = overlays[i].clone();
        let mut next = None;
        let bytes = allocated(|| next = Some(last.with(keys[i], 2)));
        assert!(bytes < 64 * 1024, "{bytes} bytes for the {i}th overlay: the base was copied");
        all += bytes;
        overlays.extend(next);
    }
    assert!(all < 300 * 2048, "{} bytes for one overlay, on average", all / 300);
}

#[test]
fn three_values_per_request_do_not_copy_the_base() {
    let keys = keys(1000);
    let base = holding(&keys);
    for _ in 0..100 {
        let bytes = allocated(|| base.clone().with(keys[0], 2).with(keys[1], 3).with(keys[2], 4));
        assert!(bytes < 2048, "{bytes} bytes for a request");
    }
}

#[test]
fn defaults_under_a_context_copy_neither() {
    let keys = keys(1010);
    let base = holding(&keys[..1000]);
    let defaults = holding(&keys[1000..1003]);
    for _ in 0..100 {
        let bytes = allocated(|| base.clone().under(defaults.clone()));
        assert!(bytes < 2048, "{bytes} bytes for a request");
    }
    // As a library does it that was handed the user's overlay.
    for _ in 0..100 {
        let bytes = allocated(|| base.clone().with(keys[0], 2).under(defaults.clone()).with(keys[1005], 3));
        assert!(bytes < 4096, "{bytes} bytes for a request");
    }
}

#[test]
fn what_is_merged_over_a_longer_context_copies_it_not() {
    let (few, many) = (keys(3), keys(10_000));
    let (small, large) = (holding(&few), holding(&many));
    let shorter_over = allocated(|| large.clone().merge(small.clone()));
    assert!(shorter_over < 10_000, "{shorter_over} bytes");
    let longer_over = allocated(|| small.clone().merge(large.clone()));
    assert!(longer_over < 10_000, "{longer_over} bytes");
}
