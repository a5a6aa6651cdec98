//! Counts what the calling thread allocates, to prove that the loop allocates nothing.
//!
//! [`CountingAllocator`] is the system's allocator plus two counters per thread. `fulcrumd` and the tests
//! install it as `#[global_allocator]`; the counters cost about a nanosecond per allocation and nothing in a
//! loop that does not allocate. It sees Rust's allocations only: ONNX Runtime's own C++ bookkeeping goes
//! straight to the system's allocator.
//!
//! # Example
//! ```
//! use fulcrum_runtime::allocation::{self, CountingAllocator};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator::new();
//!
//! let before = allocation::count();
//! let kept = Box::new(1_u8);
//! assert_eq!(allocation::count().since(before).allocations, 1);
//! drop(kept);
//! assert_eq!(allocation::count().since(before).frees, 1);
//! ```
#![expect(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait; every call is passed on to the system's allocator"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Allocations and frees of one thread since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Blocks obtained; a reallocation counts as one.
    pub allocations: u64,
    /// Blocks given back; a reallocation counts as one.
    pub frees: u64,
}

impl Count {
    /// What happened between `earlier` and this count.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            allocations: self.allocations.wrapping_sub(earlier.allocations),
            frees: self.frees.wrapping_sub(earlier.frees),
        }
    }

    /// True when nothing was allocated and nothing freed.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.allocations == 0 && self.frees == 0
    }
}

thread_local! {
    // Constant and without a destructor: reading them neither allocates nor fails while a thread ends.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static FREES: Cell<u64> = const { Cell::new(0) };
}

/// The calling thread's counters; all zero unless [`CountingAllocator`] is the global allocator.
/// Does not allocate.
#[must_use]
pub fn count() -> Count {
    Count {
        allocations: ALLOCATIONS.get(),
        frees: FREES.get(),
    }
}

/// The system's allocator, counting per thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator(());

impl CountingAllocator {
    /// The allocator, for a `static`.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

fn counted_allocation() {
    ALLOCATIONS.set(ALLOCATIONS.get().wrapping_add(1));
}

fn counted_free() {
    FREES.set(FREES.get().wrapping_add(1));
}

// SAFETY: every method passes its arguments unchanged to `System`, which keeps the contract; the counters are
// plain thread-local cells that do not allocate.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted_allocation();
        // SAFETY: the caller keeps `GlobalAlloc::alloc`'s contract, which is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted_allocation();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted_allocation();
        counted_free();
        // SAFETY: `block` came from this allocator, that is from `System`, with this layout.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        counted_free();
        // SAFETY: `block` came from this allocator, that is from `System`, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}
