//! The end of a device that cannot go on.
//!
//! Zephyr calls the handler after it has written what happened (the registers, a call trace where
//! the architecture has one); a Rust panic has written its message before that. The last line is
//! for whoever reads the log by machine: it starts with `zfl: fatal: `. Then the machine halts,
//! which under QEMU ends the emulator where the board has a device for it.

use crate::{console, heap};
use core::ffi::{CStr, c_uint, c_void};
use zephyr::raw;

/// Zephyr's reasons, `enum k_fatal_error_reason`; what is beyond them belongs to an architecture.
const REASONS: [&str; 5] = [
    "CPU exception",
    "spurious interrupt",
    "stack overflow",
    "kernel oops",
    "panic",
];

/// Takes the place of Zephyr's handler, a weak symbol that halts without a word.
///
/// It runs in whatever state the kernel is in: it allocates nothing and waits for nobody.
#[unsafe(no_mangle)]
extern "C" fn k_sys_fatal_error_handler(reason: c_uint, _frame: *const c_void) -> ! {
    let what = REASONS
        .get(reason as usize)
        .copied()
        .unwrap_or("error of the processor");
    console::log(format_args!(
        "fatal: {what} (reason {reason}) in thread '{}', {}",
        current_thread_name(),
        heap::usage(),
    ));
    // SAFETY: ends the machine; nothing runs after it.
    unsafe { raw::k_fatal_halt(reason) }
}

fn current_thread_name() -> &'static str {
    // SAFETY: the current thread exists, and its name lies in its `k_thread`, which does not go
    // away while this handler runs.
    let name = unsafe { raw::k_thread_name_get(raw::k_current_get()) };
    if name.is_null() {
        return "unknown";
    }
    // SAFETY: Zephyr keeps names terminated.
    unsafe { CStr::from_ptr(name) }
        .to_str()
        .unwrap_or("unknown")
}
