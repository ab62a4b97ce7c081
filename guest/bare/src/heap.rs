//! The heap: all memory behind the stacks.
//!
//! `linked_list_allocator` keeps its list inside the free memory and takes the first hole that
//! fits, so the pages touched are those at the bottom, and only those cost the host memory. Memory
//! is never cleared wholesale for the same reason.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;

use crate::boot_cell::BootCell;
use crate::image;

struct Allocator(BootCell<State>);

struct State {
    heap: Heap,
    peak_bytes: usize,
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(BootCell::new(State {
    heap: Heap::empty(),
    peak_bytes: 0,
}));

/// How full the heap is.
#[derive(Clone, Copy, Debug)]
pub struct HeapUsage {
    /// Bytes in use.
    pub used_bytes: usize,
    /// Most bytes ever in use.
    pub peak_bytes: usize,
    /// Bytes there are.
    pub size_bytes: usize,
}

/// Gives the heap its memory, from behind the stacks to `memory_end`.
///
/// # Safety
/// To be called once, before the first allocation. Memory up to `memory_end` must exist, and
/// nothing else may use what lies behind the stacks.
pub unsafe fn init(memory_end: usize) {
    let start = image::heap_start();
    let size = memory_end.saturating_sub(start);
    assert!(
        size >= 64 * 1024,
        "the machine's memory ends at {memory_end:#x}: too small"
    );
    // SAFETY: the memory is ours alone by the caller's promise, and no other reference to the
    // state exists: nothing has been allocated yet.
    unsafe {
        (*ALLOCATOR.0.get())
            .heap
            .init(ptr::with_exposed_provenance_mut(start), size)
    }
}

/// How full the heap is now.
pub fn usage() -> HeapUsage {
    // SAFETY: one thread, and no allocator call is in progress here.
    let state = unsafe { &*ALLOCATOR.0.get() };
    HeapUsage {
        used_bytes: state.heap.used(),
        peak_bytes: state.peak_bytes,
        size_bytes: state.heap.size(),
    }
}

// SAFETY: `Heap` hands out distinct, aligned blocks, and null when it has none. There is one thread,
// and interrupts run no Rust, so the state is never borrowed twice.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the only reference, as said above.
        let state = unsafe { &mut *self.0.get() };
        let block = state.heap.allocate_first_fit(layout);
        state.peak_bytes = state.peak_bytes.max(state.heap.used());
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the only reference, as said above; the caller returns a block of `alloc` with
        // its own layout, once.
        unsafe { (*self.0.get()).heap.deallocate(block, layout) }
    }
}
