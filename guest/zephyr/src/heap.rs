//! The heap of the Rust code: one Zephyr heap over memory that is not initialized at boot.
//!
//! Invariants: an allocation before [`init`] fails; nothing allocates in an interrupt; only the
//! shell's thread calls [`take`] and [`release`].

use crate::glue;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use zephyr::raw;
use zephyr::sys::K_NO_WAIT;

/// The heap's size, from the board's Kconfig.
pub const SIZE_BYTES: usize = zephyr::kconfig::CONFIG_ZFL_HEAP_SIZE as usize;

/// Rest of the heap after [`take`] took all: enough for messages, too little for a model.
const SPARED_BYTES: usize = 16 * 1024;

/// The smallest block that [`take`] takes: what is left in smaller ones serves nobody.
const SMALLEST_TAKEN_BYTES: usize = 256;

struct Heap {
    raw: UnsafeCell<MaybeUninit<raw::k_heap>>,
    ready: AtomicBool,
    /// Counted here, since Zephyr's own count cannot tell what was only taken away.
    used_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
    refused_bytes: AtomicUsize,
    /// Blocks that [`take`] took: a list through the blocks themselves.
    taken: AtomicPtr<Taken>,
    taken_bytes: AtomicUsize,
}

/// The head of a block that was taken away.
struct Taken {
    next: *mut Taken,
    bytes: usize,
}

// SAFETY: after `init` the heap is reached only through Zephyr's functions, which lock it.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    raw: UnsafeCell::new(MaybeUninit::zeroed()),
    ready: AtomicBool::new(false),
    used_bytes: AtomicUsize::new(0),
    peak_bytes: AtomicUsize::new(0),
    refused_bytes: AtomicUsize::new(0),
    taken: AtomicPtr::new(ptr::null_mut()),
    taken_bytes: AtomicUsize::new(0),
};

// SAFETY: `k_heap_aligned_alloc` returns memory of the size and alignment asked, or null.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.allocate(layout);
        if block.is_null() {
            self.refused_bytes.store(layout.size(), Ordering::Relaxed);
        } else {
            let before = self.used_bytes.fetch_add(layout.size(), Ordering::Relaxed);
            self.peak_bytes
                .fetch_max(before + layout.size(), Ordering::Relaxed);
        }
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.used_bytes.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller passes a block of this heap, so the heap is initialized.
        unsafe { raw::k_heap_free(self.get(), block.cast()) }
    }
}

impl Heap {
    fn get(&self) -> *mut raw::k_heap {
        self.raw.get().cast()
    }

    /// A block, or null.
    fn allocate(&self, layout: Layout) -> *mut c_void {
        if !self.ready.load(Ordering::Acquire) {
            return ptr::null_mut();
        }
        // SAFETY: `ready` says that the heap is initialized; it locks itself.
        unsafe { raw::k_heap_aligned_alloc(self.get(), layout.align(), layout.size(), K_NO_WAIT) }
    }
}

/// Makes the heap ready; called once, before any other thread of Rust code allocates.
///
/// # Panics
/// If the board has not the memory that its Kconfig promises.
pub fn init() {
    // SAFETY: takes nothing and is called once.
    let memory = unsafe { glue::zfl_heap_memory() };
    assert!(
        !memory.is_null(),
        "no memory for a heap of {SIZE_BYTES} bytes: lower ZFL_HEAP_SIZE"
    );
    // SAFETY: the memory is `SIZE_BYTES` long, nobody else has it, and nobody uses the heap before
    // `ready` is set.
    unsafe { raw::k_heap_init(HEAP.get(), memory, SIZE_BYTES) };
    HEAP.ready.store(true, Ordering::Release);
}

/// Use of the heap in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Bytes in use now, without those taken away.
    pub used_bytes: usize,
    /// Most bytes ever in use, without those taken away.
    pub peak_bytes: usize,
    /// Bytes taken away by [`take`].
    pub taken_bytes: usize,
    /// Bytes last asked for in vain; 0 if there was always enough.
    pub refused_bytes: usize,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "heap {} of {SIZE_BYTES} bytes in use", self.used_bytes)?;
        match self.refused_bytes {
            0 => Ok(()),
            refused => write!(f, ", {refused} more refused"),
        }
    }
}

/// Measures the heap.
pub fn usage() -> Usage {
    let now = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    Usage {
        used_bytes: now(&HEAP.used_bytes),
        peak_bytes: now(&HEAP.peak_bytes),
        taken_bytes: now(&HEAP.taken_bytes),
        refused_bytes: now(&HEAP.refused_bytes),
    }
}

/// Bytes that can still be had, in pieces.
pub fn free_bytes() -> usize {
    let mut stats = raw::sys_memory_stats::default();
    if HEAP.ready.load(Ordering::Acquire) {
        // SAFETY: the heap is initialized; the reading may be torn by an allocation on another
        // thread, which a statistic can bear.
        unsafe { raw::sys_heap_runtime_stats_get(&raw mut (*HEAP.get()).heap, &mut stats) };
    }
    stats.free_bytes
}

/// Amount that [`take`] could take.
pub fn available_bytes() -> usize {
    free_bytes().saturating_sub(SPARED_BYTES)
}

/// Takes memory away from everything else, in the largest blocks there are; how much was taken.
///
/// The memory is not touched but for a few words a block, so it costs the host next to nothing.
pub fn take(bytes: usize) -> usize {
    let (mut missing, mut size) = (bytes, bytes);
    while size.min(missing) >= SMALLEST_TAKEN_BYTES {
        let bytes = size.min(missing);
        let Ok(layout) = Layout::from_size_align(bytes, align_of::<Taken>()) else {
            break;
        };
        let block = HEAP.allocate(layout).cast::<Taken>();
        if block.is_null() {
            size /= 2;
            continue;
        }
        let next = HEAP.taken.swap(block, Ordering::Relaxed);
        // SAFETY: the block is ours, aligned, and larger than what is written.
        unsafe { block.write(Taken { next, bytes }) };
        HEAP.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        missing -= bytes;
    }
    bytes - missing
}

/// Gives back all that [`take`] took.
pub fn release() {
    let mut block = HEAP.taken.swap(ptr::null_mut(), Ordering::Relaxed);
    while !block.is_null() {
        // SAFETY: `take` wrote the head of this block of the heap, and it has been nobody's since.
        unsafe {
            let Taken { next, bytes } = block.read();
            raw::k_heap_free(HEAP.get(), block.cast());
            HEAP.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
            block = next;
        }
    }
}
