//! Ways to die on purpose, so that whoever watches over devices can be tested.

use alloc::vec::Vec;
use core::hint::black_box;
use fl_shell::command::Crash;

/// Past the end of any board's memory.
const UNMAPPED: *const u8 = core::ptr::without_provenance(0xf000_0000);

/// Dies.
pub fn crash(way: Crash) {
    match way {
        Crash::Panic => panic!("asked to"),
        Crash::Fault => {
            // SAFETY: not sound, which is the point: the processor faults.
            black_box(unsafe { UNMAPPED.read_volatile() });
        }
        Crash::Stack => {
            black_box(recurse(0));
        }
        Crash::Heap => {
            let all = crate::heap::SIZE_BYTES;
            black_box(Vec::<u8>::with_capacity(black_box(all)));
        }
    }
}

/// Frames so small that the recursion cannot step over the end of a stack.
#[expect(unconditional_recursion, reason = "it ends with the stack")]
fn recurse(depth: u32) -> u32 {
    black_box(recurse(black_box(depth) + 1)) + 1
}
