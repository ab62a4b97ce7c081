//! Faults of the processor, each the firmware's end.

use core::ptr;

use crate::driver::mmio::read32;
use crate::fatal::{Death, enter, finish, report};
use crate::{image, stack};

/// Status of the fault.
const STATUS: usize = 0xe000_ed28;
const MEMORY_ADDRESS: usize = 0xe000_ed34;
const BUS_ADDRESS: usize = 0xe000_ed38;

/// ARMv8-M: the stack's limit was passed.
const STACK_LIMIT: u32 = 1 << 20;
/// Longest frame that the processor saves: with floating-point registers.
const FRAME_BYTES: usize = 104;

/// Called by `boot.s` on the fault stack, with the firmware's own and its frame pointer.
pub extern "C" fn exception(sp: u32, frame_pointer: u32) -> ! {
    let status = read32(STATUS);
    let stack = image::stack_bottom()..image::stack_top() - 32;
    let is_overflow =
        (sp as usize) < image::stack_bottom() + FRAME_BYTES || status & STACK_LIMIT != 0;
    let death = match is_overflow {
        true => Death::DoubleFault,
        false => Death::Exception,
    };
    enter(death);
    if is_overflow {
        let size = stack::size_bytes();
        report(format_args!("stack overflow: all {size} bytes are used"));
    }
    report(format_args!(
        "fault {status:08x} ({}), memory {:08x}, bus {:08x}",
        name(status),
        read32(MEMORY_ADDRESS),
        read32(BUS_ADDRESS)
    ));
    // There is no room for the frame of an overflow.
    let is_saved = !is_overflow && stack.contains(&(sp as usize)) && sp.is_multiple_of(4);
    let frame = is_saved.then(|| {
        // SAFETY: the eight words lie in the stack, and are aligned.
        unsafe { ptr::with_exposed_provenance::<[u32; 8]>(sp as usize).read_volatile() }
    });
    if let Some([r0, r1, r2, r3, r12, lr, pc, flags]) = frame {
        report(format_args!(
            "r0 {r0:08x} r1 {r1:08x} r2 {r2:08x} r3 {r3:08x}"
        ));
        report(format_args!(
            "r12 {r12:08x} lr {lr:08x} pc {pc:08x} flags {flags:08x}"
        ));
    }
    finish(death, frame.map(|frame| frame[6]), frame_pointer)
}

fn name(status: u32) -> &'static str {
    match status {
        status if status & STACK_LIMIT != 0 => "stack limit",
        status if status & 0xff != 0 => "memory that may not be touched so",
        status if status & 0xff00 != 0 => "nothing at that address",
        status if status & 1 << 25 != 0 => "division by zero",
        status if status & 1 << 24 != 0 => "alignment",
        status if status & 1 << 19 != 0 => "no floating-point unit",
        status if status & 1 << 16 != 0 => "invalid instruction",
        _ => "unexpected",
    }
}
