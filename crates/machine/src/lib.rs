//! Emulated machines: boards, QEMU found and its command line built, processes started and waited for,
//! and the dialogue with a guest's shell over a serial line.
//!
//! A [`Board`] says what to emulate, [`arguments()`] turns it into QEMU's command line, [`Emulator`] says
//! what QEMU needs of the host, [`Machines`] starts the processes and waits for them, [`Serial`] and [`Dialogue`] type commands into the guest's
//! shell, and [`HostUsage`] tells what a machine costs its host.
//!
//! # Invariants
//! - A machine dies with the thread that started it, whatever ends that thread.
//! - A machine gets nothing of the environment that this program was started in but where libraries are,
//!   and is put into a jail.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("machines run on Linux: they are watched through /proc and pidfds");

mod accelerator;
mod arguments;
pub mod board;
mod emulator;
mod environment;
mod process;
mod program;
mod qemu;
mod serial;
mod speed;
mod sys;
mod usage;

pub use accelerator::try_kvm;
pub use arguments::{Card, Tuning, arguments, debugger, plugin};
pub use board::{Board, BoardError, Guest, MemoryPart};
pub use emulator::Emulator;
pub use process::{Launch, Machine, Machines};
pub use qemu::{Qemu, QemuError, Version};
pub use serial::{Action, Dialogue, Patience, Serial, read_now};
pub use speed::{Speed, SpeedError};
pub use usage::{HostUsage, Turns};
