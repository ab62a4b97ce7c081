//! Stack use of threads.

use core::ffi::{CStr, c_void};
use zephyr::raw;
use zephyr::time::Duration;

/// Sleeps; the thread is not woken before.
pub fn sleep_ms(ms: u64) {
    zephyr::time::sleep(Duration::millis_at_least(ms));
}

/// Stack use of one thread.
#[derive(Clone, Copy, Debug)]
pub struct StackUsage<'a> {
    /// The thread's name.
    pub thread: &'a str,
    /// Most bytes ever in use.
    pub peak_bytes: usize,
    /// The stack's size.
    pub size_bytes: usize,
}

/// Calls `visit` for every thread whose stack is measured.
pub fn for_each_stack(mut visit: impl FnMut(StackUsage<'_>)) {
    let mut visit: &mut dyn FnMut(StackUsage<'_>) = &mut visit;
    let visitor = (&raw mut visit).cast::<c_void>();
    // SAFETY: Zephyr calls `visit_thread` with `visitor` only during this call.
    unsafe { raw::k_thread_foreach_unlocked(Some(visit_thread), visitor) };
}

/// Bytes of a thread's stack that were never in use.
#[cfg(zfl_measures_stacks)]
fn unused_bytes(thread: *const raw::k_thread) -> Option<usize> {
    let mut unused = 0;
    // SAFETY: the caller has a thread that exists; its stack was filled when it was made.
    let measured = unsafe { raw::k_thread_stack_space_get(thread, &mut unused) };
    (measured == 0).then_some(unused)
}

/// Nothing: the stacks are threads' of the host.
#[cfg(not(zfl_measures_stacks))]
fn unused_bytes(_: *const raw::k_thread) -> Option<usize> {
    None
}

extern "C" fn visit_thread(thread: *const raw::k_thread, visitor: *mut c_void) {
    let Some(unused_bytes) = unused_bytes(thread) else {
        return;
    };
    // SAFETY: Zephyr passes a thread that exists.
    let (size_bytes, name) = unsafe {
        (
            (*thread).stack_info.size,
            raw::k_thread_name_get(thread.cast_mut()),
        )
    };
    let name = if name.is_null() {
        c"unknown"
    } else {
        // SAFETY: names are terminated and stay with the thread.
        unsafe { CStr::from_ptr(name) }
    };
    // SAFETY: `for_each_stack` passed a pointer to exactly this, and it lives until the call ends.
    let visit = unsafe { &mut *visitor.cast::<&mut dyn FnMut(StackUsage<'_>)>() };
    visit(StackUsage {
        thread: name.to_str().unwrap_or("unknown"),
        peak_bytes: size_bytes.saturating_sub(unused_bytes),
        size_bytes,
    });
}

/// Most stack ever in use, all threads together; `None` where none is measured.
pub fn stack_peak_bytes() -> Option<usize> {
    let mut sum = None;
    for_each_stack(|stack| sum = Some(sum.unwrap_or(0) + stack.peak_bytes));
    sum
}
