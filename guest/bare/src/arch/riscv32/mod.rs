//! RISC-V of 32 bits in machine mode: PLIC, CLINT, physical memory protection.

pub mod clock;
mod csr;
mod exception;
pub mod interrupts;
mod protection;
pub mod random;
pub mod uart;

pub use csr::{disable_interrupts, frame_pointer, timestamp};

use core::arch::global_asm;

use virtio_drivers::transport::DeviceType;

use crate::app::Tcp;
use crate::board;
use crate::driver::mmio::write32;
pub use crate::driver::virtio::disk::Disk;
use crate::driver::virtio::find::{Found, Slots};
pub use crate::driver::virtio::nic::Nic;
use crate::fatal::Death;
use crate::{console, heap, image};

global_asm!(include_str!("boot.s"), start = sym start, exception = sym exception::exception);

pub use crate::board::ISA;

/// Flash that is the examples', if the board has some: its addresses.
pub const EXAMPLES: core::ops::Range<usize> =
    board::FLASH_START..board::FLASH_START + board::FLASH_BYTES;

/// Ticks of [`timestamp`] that a byte waits for a reader: some 5-20 ms on hosts of 1-4 GHz.
pub const PATIENCE_TICKS: u64 = 20_000_000;

/// Takes the memory of all connections at once, so that what is free when the device joins stays free.
pub const RESERVES_NETWORK: bool = board::RAM_BYTES <= 1024 * 1024;

/// Memory of the TCP connections.
pub const TCP: Tcp = Tcp {
    sockets: board::TCP_SOCKETS,
    receive_bytes: board::TCP_RECEIVE_BYTES,
    send_bytes: board::TCP_SEND_BYTES,
};

/// Place of a frame's record, caller's frame and return address, from its frame pointer.
pub const FRAME_RECORD: isize = -8;

/// Bytes from a return address back into the call: the shorter form of it.
pub const CALL_BYTES: u32 = 2;

/// The slots of virtio devices.
const SLOTS: Slots = Slots {
    first: board::VIRTIO_AT,
    bytes: board::VIRTIO_STRIDE,
    count: board::VIRTIO_COUNT as u8,
    first_line: board::VIRTIO_LINE as u8,
};

/// Called by `boot.s`.
///
/// # Safety
/// To be called once, on the firmware's stack, with nothing set up but data and bss.
unsafe extern "C" fn start() -> ! {
    console::init();
    protection::init();
    // SAFETY: called once, before anything allocates; the board's RAM ends there.
    unsafe { heap::init(image::heap_end()) };
    interrupts::init();
    interrupts::unmask(uart::LINE);
    crate::run()
}

/// Looks for the first virtio device of a kind.
pub fn virtio_device(kind: DeviceType) -> virtio_drivers::Result<Option<Found>> {
    Ok(SLOTS.find(kind))
}

/// Time of a machine that counts its instructions with `-icount shift=<shift>`, for differences: each takes 2^shift.
///
/// `None` if they cannot be counted at that speed.
#[inline(always)]
pub fn counted_ns(_shift: u8) -> Option<u64> {
    Some(timestamp())
}

/// Ends QEMU with a status that tells the cause, as `isa-debug-exit` would: 3, 5 or 7.
pub fn exit(death: Death) -> ! {
    const FAIL: u32 = 0x3333;
    let status = (death as u32) << 1 | 1;
    // SAFETY: the test device ends QEMU and touches no memory.
    unsafe { write32(board::EXIT_AT, status << 16 | FAIL) };
    csr::halt_forever()
}

/// Ends the firmware by an exception, for its test.
pub fn fault() {
    // SAFETY: not sound on purpose: page 0 may not be touched, so this read ends the firmware.
    let _ = unsafe { core::ptr::with_exposed_provenance::<u32>(8).read_volatile() };
}
