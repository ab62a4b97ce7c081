//! The heap: all memory behind the stacks.
//!
//! `linked_list_allocator` keeps its list inside the free memory and takes the first hole that
//! fits, so the pages touched are those at the bottom, and only those cost the host memory. Memory
//! is never cleared wholesale for the same reason.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use linked_list_allocator::Heap;

use crate::boot_cell::BootCell;
use crate::image;

/// Rest of the heap after [`take`] took all: enough for messages, too little for a model.
const SPARED_BYTES: usize = 16 * 1024;

/// Least heap with which a device can join anything.
const LEAST_BYTES: usize = 16 * 1024;

struct Allocator(BootCell<State>);

struct State {
    heap: Heap,
    /// Blocks that [`take`] took: a list through the blocks themselves.
    taken: Option<NonNull<Taken>>,
}

/// Figures of the heap, apart from its state: the report of a fault inside the allocator reads them.
struct Figures {
    allocated_bytes: AtomicUsize,
    taken_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    size_bytes: AtomicUsize,
}

static FIGURES: Figures = Figures {
    allocated_bytes: AtomicUsize::new(0),
    taken_bytes: AtomicUsize::new(0),
    peak_bytes: AtomicUsize::new(0),
    size_bytes: AtomicUsize::new(0),
};

impl Figures {
    /// Notes the bytes in use after a change.
    fn allocated(&self, bytes: usize) {
        self.allocated_bytes.store(bytes, Ordering::Relaxed);
        let used = bytes - self.taken_bytes.load(Ordering::Relaxed);
        if used > self.peak_bytes.load(Ordering::Relaxed) {
            self.peak_bytes.store(used, Ordering::Relaxed);
        }
    }

    /// Notes the bytes in use and those among them that are taken away.
    fn taken(&self, bytes: usize, taken: usize) {
        self.allocated_bytes.store(bytes, Ordering::Relaxed);
        self.taken_bytes.store(taken, Ordering::Relaxed);
    }
}

/// The head of a block that was taken away.
struct Taken {
    next: Option<NonNull<Self>>,
    layout: Layout,
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(BootCell::new(State {
    heap: Heap::empty(),
    taken: None,
}));

/// Use of the heap in bytes.
#[derive(Clone, Copy, Debug)]
pub struct HeapUsage {
    /// Bytes in use, without those taken away.
    pub used_bytes: usize,
    /// Most bytes ever in use, without those taken away.
    pub peak_bytes: usize,
    /// Bytes taken away by [`take`].
    pub taken_bytes: usize,
    /// Bytes there are.
    pub size_bytes: usize,
}

impl HeapUsage {
    /// Bytes that can still be had, in pieces.
    pub fn free_bytes(self) -> usize {
        self.size_bytes - self.used_bytes - self.taken_bytes
    }
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
        size >= LEAST_BYTES,
        "the machine's memory ends at {memory_end:#x}: too small"
    );
    // SAFETY: the memory is ours alone by the caller's promise, and no other reference to the
    // state exists: nothing has been allocated yet.
    unsafe {
        (*ALLOCATOR.0.get())
            .heap
            .init(ptr::with_exposed_provenance_mut(start), size)
    }
    FIGURES.size_bytes.store(size, Ordering::Relaxed);
}

/// Reads the heap's use, at any time: also while the allocator is at work.
pub fn usage() -> HeapUsage {
    let [allocated, taken, peak_bytes, size_bytes] = [
        &FIGURES.allocated_bytes,
        &FIGURES.taken_bytes,
        &FIGURES.peak_bytes,
        &FIGURES.size_bytes,
    ]
    .map(|figure| figure.load(Ordering::Relaxed));
    HeapUsage {
        used_bytes: allocated - taken,
        peak_bytes,
        taken_bytes: taken,
        size_bytes,
    }
}

/// `len` zeros; `None` if there is no memory for them.
pub fn zeros(len: usize) -> Option<Vec<u8>> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).ok()?;
    zeros.resize(len, 0);
    Some(zeros)
}

/// Amount that [`take`] could take.
pub fn available_bytes() -> usize {
    usage().free_bytes().saturating_sub(SPARED_BYTES)
}

/// Takes memory away from everything else, in the largest blocks there are; how much was taken.
///
/// The memory is not touched but for a few words a block, so it costs the host next to nothing.
pub fn take(bytes: usize) -> usize {
    // SAFETY: one thread, and no other reference to the state exists: nothing here allocates but
    // through it.
    let state = unsafe { &mut *ALLOCATOR.0.get() };
    let mut taken_bytes = usage().taken_bytes;
    let (mut missing, mut size) = (bytes, bytes);
    while missing >= size_of::<Taken>() && size >= size_of::<Taken>() {
        let Ok(layout) = Layout::from_size_align(size.min(missing), align_of::<Taken>()) else {
            break;
        };
        let layout = layout.pad_to_align();
        match state.heap.allocate_first_fit(layout) {
            Ok(block) => {
                let block = block.cast::<Taken>();
                let next = state.taken.replace(block);
                // SAFETY: the block is ours, aligned, and no smaller than what is written.
                unsafe { block.write(Taken { next, layout }) };
                taken_bytes += layout.size();
                FIGURES.taken(state.heap.used(), taken_bytes);
                missing = missing.saturating_sub(layout.size());
            }
            Err(()) => size /= 2,
        }
    }
    bytes - missing
}

/// Gives back all that [`take`] took.
pub fn release() {
    // SAFETY: as in `take`.
    let state = unsafe { &mut *ALLOCATOR.0.get() };
    while let Some(block) = state.taken {
        // SAFETY: `take` wrote the head of this block, and the block has been nobody's since.
        unsafe {
            let Taken { next, layout } = block.read();
            state.taken = next;
            state.heap.deallocate(block.cast(), layout);
        }
    }
    FIGURES.taken(state.heap.used(), 0);
}

// SAFETY: `Heap` hands out distinct, aligned blocks, and null when it has none. There is one thread,
// and interrupts run no Rust, so the state is never borrowed twice.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the only reference, as said above.
        let state = unsafe { &mut *self.0.get() };
        let block = state.heap.allocate_first_fit(layout);
        FIGURES.allocated(state.heap.used());
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(block) = NonNull::new(block) else {
            return;
        };
        // SAFETY: the only reference, as said above.
        let state = unsafe { &mut *self.0.get() };
        // SAFETY: the caller returns a block of `alloc` with its own layout, once.
        unsafe { state.heap.deallocate(block, layout) };
        FIGURES.allocated(state.heap.used());
    }
}
