//! The shell on the serial line: reads lines, runs commands.

use alloc::boxed::Box;
use core::hint::black_box;

use fl_shell::command::{self, Command, Crash, HELP, Hog, Run};
use fl_shell::line::{Edit, LINE_BYTES, LineEditor};

use super::device::RunningDevice;
use crate::arch::{clock, interrupts, uart};
use crate::console::{self, print};
use crate::driver::card::Card;
use crate::{arch, heap, stack};

const PROMPT: &str = "zfl:~$ ";

/// The shell.
pub struct Shell {
    line: LineEditor,
}

impl Shell {
    /// Greets and prompts.
    pub fn new() -> Self {
        print!("{PROMPT}");
        Self {
            line: LineEditor::new(),
        }
    }

    /// Takes what was typed. Commands return at once; `run` leaves a device in `device`.
    pub fn poll(&mut self, device: &mut Option<Box<RunningDevice>>) {
        while let Some(byte) = console::read() {
            match self.line.push(byte) {
                Edit::Nothing => {}
                Edit::Append(byte) => print!("{}", char::from(byte)),
                Edit::Erase => print!("\x08 \x08"),
                Edit::Complete => self.execute(device),
            }
        }
    }

    fn execute(&mut self, device: &mut Option<Box<RunningDevice>>) {
        print!("\n");
        self.line.take(|line| match line.map(command::parse) {
            Err(_) => print!("the line has more than {LINE_BYTES} characters\n"),
            Ok(Err(error)) => print!("{error}\n"),
            Ok(Ok(command)) => match command {
                Command::Nothing => {}
                Command::Help => print!("{HELP}"),
                Command::Stat => print_counters(device.as_deref()),
                Command::Run(run) => start(run, device),
                Command::Hog(amount) => hog(amount, device.as_deref_mut()),
                Command::Selftest => {
                    fl_client::selftest(|line| print!("{line}\n"));
                }
                Command::Crash(crash) => die(crash),
            },
        });
        print!("{PROMPT}");
    }
}

fn start(run: Run, device: &mut Option<Box<RunningDevice>>) {
    if device.is_some() {
        print!("this machine is a device already; reset it to change that\n");
        return;
    }
    match RunningDevice::start(&run) {
        Ok(started) => *device = Some(started),
        Err(error) => print!("{error}\n"),
    }
}

/// Takes heap away from the device, or gives it back.
fn hog(amount: Hog, device: Option<&mut RunningDevice>) {
    let Some(device) = device else {
        print!("nothing runs here that could lack memory; try 'run' first\n");
        return;
    };
    device.reserve_network();
    heap::release();
    let available_kib = heap::available_bytes() / 1024;
    let wanted_kib = match amount {
        Hog::All => available_kib,
        Hog::Kib(kib) => kib as usize,
    };
    if wanted_kib > available_kib {
        print!("only {available_kib} KiB could be taken; nothing is\n");
        return;
    }
    let taken_kib = heap::take(wanted_kib * 1024).div_ceil(1024);
    let left_kib = heap::usage().free_bytes() / 1024;
    print!("{taken_kib} KiB taken, {left_kib} KiB left\n");
}

fn print_counters(device: Option<&RunningDevice>) {
    let now_us = clock::now_us();
    print!(
        "uptime: {}.{:03} s\n",
        now_us / 1_000_000,
        now_us / 1000 % 1000
    );
    let heap = heap::usage();
    print!(
        "heap: {} used, {} peak, {} total",
        heap.used_bytes, heap.peak_bytes, heap.size_bytes
    );
    match heap.taken_bytes {
        0 => print!("\n"),
        taken => print!(", {taken} taken away\n"),
    }
    print!(
        "stack: {} peak, {} total\n",
        stack::peak_bytes(),
        stack::size_bytes()
    );
    print!("interrupts: timer {}", interrupts::count(interrupts::TIMER));
    print!(", serial {}", interrupts::count(uart::LINE));
    let Some(nic) = device.and_then(RunningDevice::nic) else {
        print!("\nnetwork: off\n");
        return;
    };
    print!(", network {}\n", interrupts::count(nic.line()));
    nic.counters(|counters| {
        print!(
            "received: {} frames, {} bytes",
            counters.frames_in, counters.bytes_in
        );
        print!(", {} TCP segments\n", counters.segments.received);
        print!(
            "sent: {} frames, {} bytes",
            counters.frames_out, counters.bytes_out
        );
        let (sent, again) = (counters.segments.sent, counters.segments.sent_again);
        print!(", {sent} TCP segments, {again} of them again\n");
    });
}

fn die(crash: Crash) {
    match crash {
        Crash::Panic => panic!("asked to"),
        Crash::Fault => arch::fault(),
        Crash::Stack => {
            black_box(recurse(black_box(u32::MAX)));
        }
        Crash::Heap => {
            black_box(alloc::vec![0u8; isize::MAX as usize]);
        }
    }
}

#[expect(unconditional_recursion, reason = "that is its purpose")]
fn recurse(depth: u32) -> u32 {
    let frame = black_box([depth; 64]);
    recurse(depth - 1) + black_box(frame)[0]
}
