//! Exceptions of the processor, each the firmware's end.

use super::{cpu, descriptors};
use crate::fatal::{Death, enter, finish, report};
use crate::{image, stack};

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
