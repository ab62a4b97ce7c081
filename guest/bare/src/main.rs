//! One federated-learning device as firmware: boots by Multiboot on an i386 machine of QEMU, and
//! waits on its serial line for `run`.
//!
//! One CPU, one thread, one loop: it polls the shell, the network and the device, trains a little
//! if there is something to train, and otherwise sleeps until an interrupt or until the next
//! moment at which somebody wants to be woken. There is no tick.
//!
//! Invariants:
//! - No Rust code runs on an interrupt (`interrupts.s`), so nothing here is ever interrupted by
//!   something that shares its memory.
//! - Memory is mapped to itself; code and constants cannot be written, and the stack ends in a
//!   guard (`paging.rs`).
//! - Whatever ends the firmware prints lines that begin with `zfl: fatal: ` and ends QEMU with a
//!   status that is not zero (`fatal.rs`).

#![no_std]
#![no_main]

extern crate alloc;

mod boot_cell;
mod clock;
mod console;
mod cpu;
mod descriptors;
mod device;
mod disk;
mod fatal;
mod heap;
mod image;
mod interrupts;
mod multiboot;
mod net;
mod nic;
mod paging;
mod port;
mod random;
mod shell;
mod stack;
mod virtio;

use alloc::boxed::Box;
use core::arch::global_asm;

use device::{Next, RunningDevice};
use fl_shell::command::Shift;
use multiboot::BootInformation;
use shell::Shell;

global_asm!(include_str!("boot.s"), start = sym start);
global_asm!(include_str!("memory.s"));

/// Called by `boot.s` with what the boot loader left in `eax` and `ebx`.
///
/// # Safety
/// To be called once, on the firmware's stack, with nothing set up yet.
unsafe extern "C" fn start(magic: u32, information: *const u32) -> ! {
    console::init();
    // SAFETY: the caller's promise; each step is taken once, in the order that its own conditions
    // ask for: the tables before what may fault or interrupt, the boot information before paging
    // takes the guard that it lies in away, the heap before anything allocates.
    let information = unsafe {
        descriptors::init();
        let information = BootInformation::read(magic, information);
        paging::init();
        heap::init(information.memory_end);
        interrupts::init();
        clock::init();
        information
    };
    interrupts::unmask(console::INTERRUPT_LINE);
    if let Some(icount) = information.option("icount") {
        match icount.parse() {
            Ok(Shift(shift)) => device::set_instruction_shift(Some(shift)),
            Err(()) => console::log(format_args!(
                "zfl: icount={icount} on the kernel's command line is no shift from 0 to 10: \
                 instructions are not counted"
            )),
        }
    }
    run()
}

fn run() -> ! {
    let mut shell = Shell::new();
    let mut device: Option<Box<RunningDevice>> = None;
    loop {
        let interrupts = interrupts::take_pending();
        shell.poll(&mut device);
        if interrupts.contains(console::INTERRUPT_LINE) {
            interrupts::unmask(console::INTERRUPT_LINE);
        }
        let next = match &mut device {
            Some(device) => device.poll(interrupts),
            None => Next::Sleep { wake_at_us: None },
        };
        if let Next::Sleep { wake_at_us } = next {
            clock::sleep_until(wake_at_us);
        }
    }
}
