//! Exceptions of the processor, each the firmware's end.

use super::csr;
use crate::fatal::{Death, enter, finish, report};
use crate::{image, stack};

/// Registers as `boot.s` saves them.
#[repr(C)]
pub struct Frame {
    ra: u32,
    sp: u32,
    s0: u32,
    a: [u32; 8],
}

/// Called by `boot.s` on the fault stack.
pub extern "C" fn exception(frame: &Frame) -> ! {
    let (cause, at, address) = (
        csr::read!("mcause"),
        csr::read!("mepc"),
        csr::read!("mtval"),
    );
    let guard = image::guard_start()..image::stack_bottom();
    let is_overflow = guard.contains(&(address as usize));
    let death = match is_overflow {
        true => Death::DoubleFault,
        false => Death::Exception,
    };
    enter(death);
    if is_overflow {
        let size = stack::size_bytes();
        report(format_args!(
            "stack overflow: all {size} bytes are used, at {at:#010x}"
        ));
    } else {
        let name = name(cause);
        report(format_args!(
            "exception {cause} ({name}), address {address:08x}, at {at:#010x}"
        ));
    }
    let Frame { ra, sp, s0, a } = frame;
    report(format_args!("ra {ra:08x} sp {sp:08x} s0 {s0:08x}"));
    report(format_args!(
        "a0 {:08x} a1 {:08x} a2 {:08x} a3 {:08x}",
        a[0], a[1], a[2], a[3]
    ));
    report(format_args!(
        "a4 {:08x} a5 {:08x} a6 {:08x} a7 {:08x}",
        a[4], a[5], a[6], a[7]
    ));
    finish(death, Some(at), *s0)
}

fn name(cause: u32) -> &'static str {
    match cause {
        0 => "misaligned jump",
        1 => "no code there",
        2 => "invalid instruction",
        3 => "breakpoint",
        4 => "misaligned load",
        5 => "load from where none may be",
        6 => "misaligned store",
        7 => "store to where none may be",
        _ => "unexpected",
    }
}
