//! QEMU's PCs with an i386 processor: `microvm` and `q35`, booted by PVH.

pub mod clock;
mod cpu;
mod descriptors;
mod exception;
pub mod interrupts;
mod paging;
mod pci;
mod pvh;
pub mod random;

pub use cpu::{disable_interrupts, frame_pointer, timestamp};
pub use pci::virtio_device;

use core::arch::global_asm;
use core::ptr;

use fl_shell::command::Shift;

use crate::app::{Tcp, counter};
use crate::driver::uart::ns16550::{Ns16550, Registers};
pub use crate::driver::virtio::disk::Disk;
pub use crate::driver::virtio::nic::Nic;
use crate::fatal::Death;
use crate::{console, heap};
use pvh::BootInformation;

global_asm!(include_str!("boot.s"), start = sym start);
global_asm!(include_str!("memory.s"));

/// Name of the instruction set.
pub const ISA: &str = "i686";

/// Ticks of [`timestamp`] that a byte waits for a reader: some 5-20 ms on hosts of 1-4 GHz.
pub const PATIENCE_TICKS: u64 = 20_000_000;

/// Takes the memory of connections as they come.
pub const RESERVES_NETWORK: bool = false;

/// Flash that is the examples': none, they lie in RAM.
#[cfg(not(feature = "radio"))]
pub const EXAMPLES: core::ops::Range<usize> = 0..0;

/// Memory of the TCP connections.
pub const TCP: Tcp = Tcp {
    sockets: 8,
    receive_bytes: 16 * 1024,
    send_bytes: 8 * 1024,
};

/// Place of a frame's record, caller's frame and return address, from its frame pointer.
pub const FRAME_RECORD: isize = 0;

/// Bytes from a return address back into the call.
pub const CALL_BYTES: u32 = 1;

/// QEMU's `isa-debug-exit` port: QEMU exits with `(value << 1) | 1`.
const EXIT_PORT: u16 = 0xf4;

/// Called by `boot.s` with what the boot loader left in `ebx`.
///
/// # Safety
/// To be called once, on the firmware's stack, with nothing set up yet.
unsafe extern "C" fn start(information: *const u32) -> ! {
    console::init();
    // SAFETY: the caller's promise; each step is taken once, in the order that its own conditions
    // ask for: the tables before what may fault or interrupt, the boot information before anything else
    // has its memory, the heap before anything allocates.
    let information = unsafe {
        descriptors::init();
        let information = BootInformation::read(information);
        paging::init();
        heap::init(information.memory_end);
        interrupts::init();
        clock::init();
        information
    };
    interrupts::unmask(uart::LINE);
    if let Some(icount) = information.option("icount") {
        match icount.parse() {
            Ok(Shift(shift)) => counter::set_instruction_shift(Some(shift)),
            Err(()) => console::log(format_args!(
                "zfl: icount={icount} on the kernel's command line is no shift from 0 to 10: \
                 instructions are not counted"
            )),
        }
    }
    crate::run()
}

/// The serial line: a 16550 at COM1.
pub mod uart {
    use super::{Ns16550, Ports};

    /// The interrupt line of COM1.
    pub const LINE: u8 = 4;

    /// The line itself.
    pub const UART: Ns16550<Ports> = Ns16550(Ports(0x3f8));
}

/// The serial line of the radio: a 16550 at COM2.
#[cfg(feature = "radio")]
pub mod radio_uart {
    use super::{Ns16550, Ports};

    /// The interrupt line of COM2.
    pub const LINE: u8 = 3;

    /// The line itself.
    pub const UART: Ns16550<Ports> = Ns16550(Ports(0x2f8));
}

/// Registers of a device, one an I/O port.
pub struct Ports(u16);

impl Registers for Ports {
    fn read(&self, register: u16) -> u8 {
        cpu::in8(self.0 + register)
    }

    fn write(&self, register: u16, value: u8) {
        // SAFETY: a 16550 does no DMA.
        unsafe { cpu::out8(self.0 + register, value) }
    }
}

/// Time of a machine that counts its instructions with `-icount shift=<shift>`, for differences: each takes 2^shift.
///
/// `None` if they cannot be counted at that speed.
#[inline(always)]
pub fn counted_ns(_shift: u8) -> Option<u64> {
    Some(timestamp())
}

/// Ends QEMU with a status that tells the cause.
pub fn exit(death: Death) -> ! {
    // SAFETY: the port ends QEMU, or does nothing on a machine without the device.
    unsafe { cpu::out32(EXIT_PORT, death as u32) };
    cpu::halt_forever()
}

/// Ends the firmware by an exception, for its test.
pub fn fault() {
    // SAFETY: not sound on purpose: page 0 is not mapped, so this read ends the firmware.
    let _ = unsafe { ptr::with_exposed_provenance::<u32>(8).read_volatile() };
}
