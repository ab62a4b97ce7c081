//! Single instructions that Rust has no word for.
//!
//! The guest has one CPU and takes no interrupt into Rust code (see `interrupts.s`).

use core::arch::asm;

/// Writes a byte to an I/O port.
///
/// # Safety
/// The device behind `port` must not touch memory that Rust owns because of this write.
pub unsafe fn out8(port: u16, value: u8) {
    // SAFETY: port I/O itself accesses no memory; what the device does is the caller's promise.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack)) }
}

/// Reads a byte from an I/O port. Reading may have an effect on the device, none on memory.
pub fn in8(port: u16) -> u8 {
    let value;
    // SAFETY: reading a port accesses no memory, and no device of the boards starts DMA on a read.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack)) }
    value
}

/// Writes 32 bits to an I/O port.
///
/// # Safety
/// As for [`out8`].
pub unsafe fn out32(port: u16, value: u32) {
    // SAFETY: as in `out8`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack)) }
}

/// Reads 32 bits from an I/O port.
pub fn in32(port: u16) -> u32 {
    let value;
    // SAFETY: as in `in8`.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack)) }
    value
}

/// The time-stamp counter.
pub fn timestamp() -> u64 {
    // SAFETY: every x86 that has SSE2 has `rdtsc`, and the firmware runs in ring 0.
    unsafe { core::arch::x86::_rdtsc() }
}

/// True if the processor has [`random`].
pub fn has_random() -> bool {
    const RDRAND: u32 = 1 << 30;
    core::arch::x86::__cpuid(1).ecx & RDRAND != 0
}

/// 32 random bits of the processor, if it has some at the moment. It must have the instruction, or this ends
/// in a fault.
pub fn random() -> Option<u32> {
    let (bits, there): (u32, u8);
    // SAFETY: writes two registers and the flags.
    unsafe {
        asm!("rdrand {}", "setc {}", out(reg) bits, out(reg_byte) there, options(nomem, nostack))
    }
    (there != 0).then_some(bits)
}

/// The address whose access caused the last page fault.
pub fn fault_address() -> u32 {
    let address;
    // SAFETY: reading CR2 in ring 0 has no side effect.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) }
    address
}

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> u32 {
    let pointer;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, ebp", out(reg) pointer, options(nomem, nostack, preserves_flags)) }
    pointer
}

/// Lets interrupts in.
///
/// # Safety
/// The interrupt table must be loaded.
pub unsafe fn enable_interrupts() {
    // SAFETY: the caller promises a table; its stubs keep every register.
    unsafe { asm!("sti", options(nostack)) }
}

/// Keeps interrupts out.
pub fn disable_interrupts() {
    // SAFETY: less can happen afterwards than before.
    unsafe { asm!("cli", options(nostack)) }
}

/// Lets interrupts in and sleeps until one came. Nothing can slip in between the two: `sti` takes
/// effect after the next instruction.
///
/// # Safety
/// As for [`enable_interrupts`].
pub unsafe fn enable_interrupts_and_halt() {
    // SAFETY: as in `enable_interrupts`.
    unsafe { asm!("sti", "hlt", options(nostack)) }
}

/// Stops for good.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: nothing runs after this, so nothing can be broken by it.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
