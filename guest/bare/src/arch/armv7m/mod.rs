//! Cortex-M with ARM's CMSDK peripherals: NVIC, timers, memory protection.

pub mod clock;
mod disk;
mod exception;
pub mod interrupts;
mod protection;
pub mod random;
pub mod uart;

pub use clock::{counted_ns, timestamp};
pub use disk::Disk;

use core::arch::{asm, global_asm};

use crate::app::Tcp;
use crate::board;
pub use crate::driver::lan9118::Nic;
use crate::driver::mmio::write32;
use crate::fatal::Death;
use crate::{console, heap, image};

global_asm!(include_str!("boot.s"), start = sym start, exception = sym exception::exception);

pub use crate::board::ISA;

/// Flash that is the examples', if the board has some: its addresses.
pub const EXAMPLES: core::ops::Range<usize> =
    board::FLASH_START..board::FLASH_START + board::FLASH_BYTES;

/// Ticks of [`timestamp`] that a byte waits for a reader: 10 ms.
pub const PATIENCE_TICKS: u64 = board::TIMER_HZ as u64 / 100;

/// Takes the memory of all connections at once, so that what is free when the device joins stays free.
pub const RESERVES_NETWORK: bool = board::RAM_BYTES <= 1024 * 1024;

/// Memory of the TCP connections.
pub const TCP: Tcp = Tcp {
    sockets: board::TCP_SOCKETS,
    receive_bytes: board::TCP_RECEIVE_BYTES,
    send_bytes: board::TCP_SEND_BYTES,
};

/// Place of a frame's record, caller's frame and return address, from its frame pointer.
pub const FRAME_RECORD: isize = 0;

/// Bytes from a return address, whose lowest bit is set, back into the call: the shorter form of it.
pub const CALL_BYTES: u32 = 3;

/// Called by `boot.s`.
///
/// # Safety
/// To be called once, on the firmware's stack, with nothing set up but data and bss.
unsafe extern "C" fn start() -> ! {
    protection::init();
    console::init();
    // SAFETY: called once, before anything allocates; the board's RAM ends there.
    unsafe { heap::init(image::heap_end()) };
    clock::init();
    interrupts::unmask(uart::LINE);
    crate::run()
}

/// The frame pointer of the calling function.
#[inline(always)]
pub fn frame_pointer() -> u32 {
    let pointer;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, r7", out(reg) pointer, options(nomem, nostack, preserves_flags)) }
    pointer
}

/// Keeps interrupts out; they never come in: the processor only wakes by them.
pub fn disable_interrupts() {}

/// Ends QEMU by a reset, which it takes for an end under `-no-reboot`: with status 0, so that the cause stands in the
/// report on the serial line alone.
pub fn exit(_: Death) -> ! {
    const RESET: usize = 0xe000_ed0c;
    // SAFETY: nothing runs after this.
    unsafe { write32(RESET, 0x05fa_0004) };
    loop {
        // SAFETY: as above.
        unsafe { asm!("wfi", options(nomem, nostack)) }
    }
}

/// Ends the firmware by an exception, for its test.
pub fn fault() {
    // SAFETY: not sound on purpose: nothing is there, so this read ends the firmware.
    let _ = unsafe { core::ptr::with_exposed_provenance::<u32>(0xdead_0000).read_volatile() };
}
