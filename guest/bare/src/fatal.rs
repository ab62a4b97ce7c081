//! The end of the firmware: panics, CPU exceptions, stack overflow.
//!
//! Every line begins with `zfl: fatal: `. The addresses of the trace are for
//! `addr2line -e zfl-bare.elf`, as they stand: the image is linked where it runs. Then QEMU is told
//! to exit, with a status that says what happened.

use core::fmt;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{clock, console, cpu, descriptors, heap, image, stack};

/// QEMU's `isa-debug-exit` port: QEMU exits with `(value << 1) | 1`.
const EXIT_PORT: u16 = 0xf4;
/// Lines of the trace at most.
const TRACE_DEPTH: usize = 24;

/// Cause of the firmware's end.
#[derive(Clone, Copy)]
enum Death {
    /// A panic, exhausted memory among them: QEMU's exit status is 3.
    Panic = 1,
    /// A CPU exception: 5.
    Exception = 2,
    /// A stack overflow, or another double fault: 7.
    DoubleFault = 3,
}

static DYING: AtomicBool = AtomicBool::new(false);

fn report(line: fmt::Arguments<'_>) {
    console::log(format_args!("zfl: fatal: {line}"));
}

/// Keeps a fault in the report from reporting itself without end.
fn enter(death: Death) {
    cpu::disable_interrupts();
    if DYING.swap(true, Ordering::Relaxed) {
        console::log(format_args!("zfl: fatal: failed again while reporting"));
        exit(death);
    }
}

fn exit(death: Death) -> ! {
    // SAFETY: the port ends QEMU, or does nothing on a machine without the device.
    unsafe { cpu::out32(EXIT_PORT, death as u32) };
    cpu::halt_forever()
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
    finish(Death::Panic, None, cpu::frame_pointer())
}

/// Stack frame that `interrupts.s` pushes: `pushad`, then the vector, then the CPU's own frame.
#[repr(C)]
pub struct ExceptionFrame {
    edi: u32,
    esi: u32,
    ebp: u32,
    esp: u32,
    ebx: u32,
    edx: u32,
    ecx: u32,
    eax: u32,
    vector: u32,
    code: u32,
    eip: u32,
    cs: u32,
    eflags: u32,
}

/// Called by the stub of every CPU exception but the double fault.
pub extern "C" fn exception(frame: &ExceptionFrame) -> ! {
    enter(Death::Exception);
    let ExceptionFrame {
        edi,
        esi,
        ebp,
        esp,
        ebx,
        edx,
        ecx,
        eax,
        vector,
        code,
        eip,
        ..
    } = frame;
    let name = exception_name(*vector);
    report(format_args!(
        "exception {vector} ({name}), error code {code:#x}, at {eip:#010x}"
    ));
    report(format_args!(
        "eax {eax:08x} ebx {ebx:08x} ecx {ecx:08x} edx {edx:08x}"
    ));
    report(format_args!(
        "esi {esi:08x} edi {edi:08x} ebp {ebp:08x} esp {esp:08x}"
    ));
    report(format_args!(
        "eflags {:08x} cr2 {:08x}",
        frame.eflags,
        cpu::fault_address()
    ));
    finish(Death::Exception, Some(frame.eip), frame.ebp)
}

/// Called on the fault stack: the firmware's own stack could not take an exception.
pub extern "C" fn double_fault() -> ! {
    enter(Death::DoubleFault);
    let task = descriptors::faulted_task();
    let address = cpu::fault_address();
    let guard = image::guard_start()..image::stack_bottom();
    if guard.contains(&(address as usize)) {
        let size = stack::size_bytes();
        report(format_args!(
            "stack overflow: all {size} bytes are used, at {:#010x}",
            task.eip
        ));
    } else {
        report(format_args!(
            "double fault at {:#010x}, cr2 {address:08x}",
            task.eip
        ));
    }
    report(format_args!("esp {:08x} ebp {:08x}", task.esp, task.ebp));
    finish(Death::DoubleFault, Some(task.eip), task.ebp)
}

fn finish(death: Death, fault: Option<u32>, frame_pointer: u32) -> ! {
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
        let frame = self.0 as usize;
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
        is_code.then_some(address - 1)
    }
}

fn exception_name(vector: u32) -> &'static str {
    match vector {
        0 => "division by zero",
        3 => "breakpoint",
        6 => "invalid instruction",
        7 => "no floating-point unit",
        10 => "invalid task state",
        11 => "segment not present",
        12 => "stack segment",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 floating point",
        17 => "alignment",
        18 => "machine check",
        19 => "SSE floating point",
        _ => "unexpected",
    }
}
