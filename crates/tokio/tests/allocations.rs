//! A read without a copy allocates nothing. A binary of its own: it counts for the whole process.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::task::{Context, Poll, Waker};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending may have no counter any more.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: likewise; `memory` came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn lending_allocates_and_copies_nothing() {
    let (a, b) = tuyau_tokio::duplex();
    let (mut a, mut b) = (a, tuyau_testing::PassThrough::nested(b, 5));
    let mut cx = Context::from_waker(Waker::noop());
    let bytes = [7; 4096];
    let mut addresses = std::collections::BTreeSet::new();
    for round in 0..100 {
        assert!(matches!(a.poll_write(&mut cx, &[&bytes]), Poll::Ready(Ok(4096))));
        let before = COUNT.get();
        let Poll::Ready(Ok(lent)) = b.poll_fill(&mut cx) else { panic!("nothing to read") };
        let (address, len) = (lent.as_ptr(), lent.len());
        // Asking again lends the same memory: nothing was moved.
        let Poll::Ready(Ok(again)) = b.poll_fill(&mut cx) else { panic!("nothing to read") };
        assert_eq!((again.as_ptr(), again.len()), (address, len));
        b.consume(len);
        assert!(b.poll_fill(&mut cx).is_pending());
        assert_eq!(COUNT.get(), before, "round {round} allocates");
        addresses.insert(address as usize);
        assert_eq!(len, 4096);
    }
    assert!(addresses.len() <= 3, "the two buffers take turns: {addresses:?}");
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(COUNT.get(), before + 1);
}
