//! The end of the firmware: panics, CPU exceptions, stack overflow.
//!
//! Every line begins with `zfl: fatal: `. The addresses of the trace are for
//! `addr2line -e zfl-bare.elf`, as they stand: the image is linked where it runs. Then QEMU is told
//! to exit, with a status that says what happened.

use core::fmt;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::{self, clock, exit};
use crate::{console, heap, image, stack};

/// Lines of the trace at most.
const TRACE_DEPTH: usize = 24;

/// Cause of the firmware's end.
#[derive(Clone, Copy)]
pub enum Death {
    /// A panic, exhausted memory among them: QEMU's exit status is 3.
    Panic = 1,
    /// A CPU exception: 5.
    Exception = 2,
    /// A stack overflow, or another double fault: 7.
    DoubleFault = 3,
}

static DYING: AtomicBool = AtomicBool::new(false);

/// Prints a line of the report.
pub fn report(line: fmt::Arguments<'_>) {
    console::log(format_args!("zfl: fatal: {line}"));
}

/// Keeps a fault in the report from reporting itself without end.
pub fn enter(death: Death) {
    arch::disable_interrupts();
    if DYING.swap(true, Ordering::Relaxed) {
        console::log(format_args!("zfl: fatal: failed again while reporting"));
        exit(death);
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    enter(Death::Panic);
    match info.location() {
        Some(at) => report(format_args!(
            "panic at {}:{}: {}",
            at.file(),
            at.line(),
            info.message()
        )),
        None => report(format_args!("panic: {}", info.message())),
    }
    finish(Death::Panic, None, arch::frame_pointer())
}

/// Ends the report with the memory and the trace, and the firmware with it.
pub fn finish(death: Death, fault: Option<u32>, frame_pointer: u32) -> ! {
    let heap = heap::usage();
    report(format_args!(
        "uptime {} us, heap {} of {} bytes, stack peak {} of {} bytes",
        clock::now_us(),
        heap.size_bytes - heap.free_bytes(),
        heap.size_bytes,
        stack::peak_bytes(),
        stack::size_bytes(),
    ));
    report(format_args!(
        "trace (image at {:#010x}; addr2line -ifCe zfl-bare.elf <address>):",
        image::text_start()
    ));
    print_trace(fault.into_iter().chain(CallSites(frame_pointer)));
    exit(death)
}

/// One line an address; a recursion is one line with a count.
fn print_trace(addresses: impl Iterator<Item = u32>) {
    let mut addresses = addresses.peekable();
    for depth in 0..TRACE_DEPTH {
        let Some(address) = addresses.next() else {
            return;
        };
        let mut times = 1;
        while addresses.next_if_eq(&address).is_some() {
            times += 1;
        }
        match times {
            1 => report(format_args!("  #{depth} {address:#010x}")),
            _ => report(format_args!("  #{depth} {address:#010x}, {times} times")),
        }
    }
}

/// Walks the chain of frame pointers, and yields an address inside each call instruction: the one
/// behind it may belong to another line, or to the next function if the call does not return.
/// Trusts nothing it reads: the stack may be what broke.
struct CallSites(u32);

impl Iterator for CallSites {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let frame = (self.0 as usize).wrapping_add_signed(arch::FRAME_RECORD);
        let stack = image::stack_bottom()..image::stack_top() - 8;
        if !stack.contains(&frame) || !frame.is_multiple_of(4) {
            return None;
        }
        // SAFETY: both words lie in the stack, which is mapped, and are aligned.
        let [caller_frame, address] =
            unsafe { ptr::with_exposed_provenance::<[u32; 2]>(frame).read_volatile() };
        // Callers are further up; anything else would be a loop.
        self.0 = if caller_frame > self.0 {
            caller_frame
        } else {
            0
        };
        let is_code = (image::text_start()..image::text_end()).contains(&(address as usize));
        is_code.then_some(address - arch::CALL_BYTES)
    }
}
