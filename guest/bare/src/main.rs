//! One federated-learning device as firmware: boots on a machine of QEMU, and waits on its serial line for `run`.
//!
//! One CPU, one thread, one loop: it polls the shell, the network and the device, trains a little
//! if there is something to train, and otherwise sleeps until an interrupt or until the next
//! moment at which somebody wants to be woken. There is no tick.
//!
//! Invariants:
//! - No Rust code runs on an interrupt (`arch/`), so nothing here is ever interrupted by something that shares its
//!   memory.
//! - Memory is mapped to itself, and the stack ends in a guard.
//! - Whatever ends the firmware prints lines that begin with `zfl: fatal: ` and ends QEMU (`fatal.rs`).
//! - Only `arch/` and `driver/` know a machine: `app/` is the same on all.

#![no_std]
#![no_main]
#![cfg_attr(
    feature = "gateway",
    allow(
        dead_code,
        reason = "a gateway trains nothing, and counts nothing of it"
    )
)]

extern crate alloc;

mod app;
mod arch;
#[cfg(not(target_arch = "x86"))]
mod board;
mod boot_cell;
mod console;
mod driver;
mod fatal;
mod heap;
mod image;
mod stack;

use alloc::boxed::Box;

use app::Next;
use app::device::RunningDevice;
use app::shell::Shell;
use arch::{clock, interrupts};

/// Loop of the device, which each `arch` enters when its machine is set up.
fn run() -> ! {
    let mut shell = Shell::new();
    let mut device: Option<Box<RunningDevice>> = None;
    loop {
        let interrupts = interrupts::take_pending();
        shell.poll(&mut device);
        if interrupts.contains(arch::uart::LINE) {
            interrupts::unmask(arch::uart::LINE);
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
