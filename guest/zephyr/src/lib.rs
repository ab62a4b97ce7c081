//! The zfl device as a Zephyr application.
//!
//! [`fl_client`] is the device; this crate is its body on Zephyr: a port over zsock ([`port`]), a
//! thread for the exchanges and one for the training ([`device`]), the shell's commands ([`shell`])
//! and a last line for a device that dies ([`fatal`]). It knows no board and no architecture.
//!
//! Nothing of it runs in an interrupt, where no floating-point state would be saved.

#![no_std]

extern crate alloc;

mod clock;
mod console;
mod crash;
mod device;
mod fatal;
mod glue;
mod heap;
mod instructions;
mod mailbox;
mod port;
mod shell;
mod tcp;
mod threads;

/// Entry of Zephyr's main thread into Rust; the shell does the rest.
#[unsafe(no_mangle)]
extern "C" fn rust_main() {
    heap::init();
    console::log(format_args!("booted on {}", zephyr::kconfig::CONFIG_BOARD));
}
