//! The zfl device as a Zephyr application.
//!
//! [`fl_client`] is the device; this crate is its body on Zephyr: a port over zsock ([`port`]), a
//! thread for the exchanges ([`client`]) and one for the training ([`role`]), the shell's commands ([`shell`])
//! and a last line for a device that dies ([`fatal`]). It knows no board and no architecture.
//!
//! Kconfig chooses the role of the image: a device, a gateway (`fl_edge`), which trains nothing, or a node of a mesh
//! (`fl_radio`).
//!
//! Nothing of it runs in an interrupt, where no floating-point state would be saved.

#![no_std]
#![cfg_attr(
    any(zfl_gateway, zfl_radio),
    allow(
        dead_code,
        reason = "a gateway trains nothing and counts nothing of it, a node of a mesh has streams of its own"
    )
)]

extern crate alloc;

mod client;
mod clock;
mod console;
mod crash;
mod fatal;
mod glue;
mod heap;
mod instructions;
mod mailbox;
mod port;
#[cfg(not(any(zfl_gateway, zfl_radio)))]
#[path = "device.rs"]
mod role;
#[cfg(zfl_gateway)]
#[path = "gateway.rs"]
mod role;
#[cfg(zfl_radio)]
#[path = "radio.rs"]
mod role;
mod shell;
mod tcp;
mod threads;

/// Port on which the machine listens at its own address.
const HTTP_PORT: u16 = 80;

/// Instruction set of this machine.
const ISA: &str = if cfg!(target_arch = "x86") {
    "i686"
} else {
    "other"
};

/// Entry of Zephyr's main thread into Rust; the shell does the rest.
#[unsafe(no_mangle)]
extern "C" fn rust_main() {
    heap::init();
    console::log(format_args!("booted on {}", zephyr::kconfig::CONFIG_BOARD));
}
