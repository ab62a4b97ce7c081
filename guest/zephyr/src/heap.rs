//! The heap of the Rust code: one Zephyr heap over memory that is not initialized at boot.
//!
//! Invariants: an allocation before [`init`] fails; nothing allocates in an interrupt.

use crate::glue;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use zephyr::raw;
use zephyr::sys::K_NO_WAIT;

/// The heap's size, from the board's Kconfig.
pub const SIZE_BYTES: usize = zephyr::kconfig::CONFIG_ZFL_HEAP_SIZE as usize;

struct Heap {
    raw: UnsafeCell<MaybeUninit<raw::k_heap>>,
    ready: AtomicBool,
    refused_bytes: AtomicUsize,
}

// SAFETY: after `init` the heap is reached only through Zephyr's functions, which lock it.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap {
    raw: UnsafeCell::new(MaybeUninit::zeroed()),
    ready: AtomicBool::new(false),
    refused_bytes: AtomicUsize::new(0),
};

// SAFETY: `k_heap_aligned_alloc` returns memory of the size and alignment asked, or null.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.ready.load(Ordering::Acquire) {
            return core::ptr::null_mut();
        }
        // SAFETY: `ready` says that the heap is initialized; it locks itself.
        let block = unsafe {
            raw::k_heap_aligned_alloc(self.get(), layout.align(), layout.size(), K_NO_WAIT)
        };
        if block.is_null() {
            self.refused_bytes.store(layout.size(), Ordering::Relaxed);
        }
        block.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller passes a block of this heap, so the heap is initialized.
        unsafe { raw::k_heap_free(self.get(), block.cast()) }
    }
}

impl Heap {
    fn get(&self) -> *mut raw::k_heap {
        self.raw.get().cast()
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

/// How full the heap is, with its own bookkeeping.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Bytes in use now.
    pub used_bytes: usize,
    /// Most bytes ever in use.
    pub peak_bytes: usize,
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
    let mut stats = raw::sys_memory_stats::default();
    if HEAP.ready.load(Ordering::Acquire) {
        // SAFETY: the heap is initialized; the reading may be torn by an allocation on another
        // thread, which a statistic can bear.
        unsafe { raw::sys_heap_runtime_stats_get(&raw mut (*HEAP.get()).heap, &mut stats) };
    }
    Usage {
        used_bytes: stats.allocated_bytes,
        peak_bytes: stats.max_allocated_bytes,
        refused_bytes: HEAP.refused_bytes.load(Ordering::Relaxed),
    }
}
