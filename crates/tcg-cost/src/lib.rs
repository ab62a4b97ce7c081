//! Plugin of QEMU's TCG that counts the instructions of a guest by class.
//!
//! QEMU translates a block of instructions once and runs it often. Here each block is taken apart when it is
//! translated, and given one counter, which the translated code itself adds to. Between two marks, instructions
//! without effect that the firmware executes around its training, the counters are multiplied by what their blocks
//! hold, and added to the totals: a page of memory that the host reads (`totals`).
//!
//! QEMU's header for plugins is under the GPL; nothing of it is used. The declarations of the interface in `sys` are
//! our own, from its documented behaviour. One library serves interfaces 1 (QEMU to 8.2) and 2 to 5
//! (QEMU 9 and 10), and refuses newer ones.
//!
//! # Left out on purpose
//! Cycles: a table for each core turns classes into them, on the host (crate `zfl-twin`).

mod blocks;
mod decode;
#[allow(unsafe_code, reason = "the interface is C's")]
mod sys;
mod totals;
