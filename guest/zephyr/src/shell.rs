//! The shell's commands, which are those of the bare firmware and parsed by its code. `glue.c`
//! registers them; each returns to the prompt at once.

use crate::crash::crash;
use crate::glue::{self, Shell, errno};
use crate::{client, console, heap, threads};
use core::ffi::{CStr, c_char, c_int};
use core::fmt;
use fl_shell::command::{self, Command, Hog, Run};

/// Zephyr's shell takes no longer line (`CONFIG_SHELL_CMD_BUFF_SIZE`).
const LINE_BYTES: usize = 256;

type Line = heapless::String<LINE_BYTES>;

/// Every command of this application.
#[unsafe(no_mangle)]
extern "C" fn zfl_shell_command(
    shell: *const Shell,
    argc: usize,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the shell passes its own arguments.
    let Some(line) = (unsafe { line(argc, argv) }) else {
        return refuse(shell, format_args!("the line is too long, or not UTF-8"));
    };
    match command::parse(&line) {
        Ok(Command::Run(args)) => return run(shell, &args),
        Ok(Command::Crash(way)) => crash(way),
        Ok(Command::Stat) => stat(shell),
        Ok(Command::Hog(amount)) => return hog(shell, amount),
        Ok(Command::Selftest) => return selftest(shell),
        // The shell keeps these to itself.
        Ok(Command::Help | Command::Nothing) => {}
        Err(error) => return refuse(shell, format_args!("{error}")),
    }
    0
}

/// Sets the address and starts the client's thread.
fn run(shell: *const Shell, args: &Run) -> c_int {
    if client::is_started() {
        return refuse(
            shell,
            format_args!("this machine is a device already; reset it to change that"),
        );
    }
    if let Err(error) = glue::set_address(args.ip, args.mask, args.gateway) {
        return refuse(shell, format_args!("cannot set the address: {error}"));
    }
    client::start(*args);
    0
}

/// Takes heap away from the device, or gives it back.
fn hog(shell: *const Shell, amount: Hog) -> c_int {
    if !client::is_started() {
        return refuse(
            shell,
            format_args!("nothing runs here that could lack memory; try 'run' first"),
        );
    }
    heap::release();
    let available_kib = heap::available_bytes() / 1024;
    let wanted_kib = match amount {
        Hog::All => available_kib,
        Hog::Kib(kib) => kib as usize,
    };
    if wanted_kib > available_kib {
        return refuse(
            shell,
            format_args!("only {available_kib} KiB could be taken; nothing is"),
        );
    }
    let taken_kib = heap::take(wanted_kib * 1024).div_ceil(1024);
    let left_kib = heap::free_bytes() / 1024;
    print(
        shell,
        format_args!("{taken_kib} KiB taken, {left_kib} KiB left"),
    );
    0
}

/// Trains small models here and now; the shell's thread keeps the state of the FPU like any other.
fn selftest(shell: *const Shell) -> c_int {
    if fl_client::selftest(|line| print(shell, line)) {
        0
    } else {
        -errno::EINVAL
    }
}

/// Prints the high-water marks of heap and stacks, in bytes.
fn stat(shell: *const Shell) {
    let heap = heap::usage();
    print(
        shell,
        format_args!(
            "heap: {} used, {} peak, {} total, {} taken away",
            heap.used_bytes,
            heap.peak_bytes,
            heap::SIZE_BYTES,
            heap.taken_bytes
        ),
    );
    threads::for_each_stack(|stack| {
        print(
            shell,
            format_args!(
                "stack {}: {} peak, {} total",
                stack.thread, stack.peak_bytes, stack.size_bytes
            ),
        );
    });
}

/// The words of a command, with its name, as one line again.
///
/// # Safety
/// `argv` has `argc` pointers to terminated strings.
unsafe fn line(argc: usize, argv: *const *const c_char) -> Option<Line> {
    let mut line = Line::new();
    for index in 0..argc {
        // SAFETY: the caller's promise.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        line.push_str(word.to_str().ok()?).ok()?;
        line.push(' ').ok()?;
    }
    Some(line)
}

fn refuse(shell: *const Shell, message: fmt::Arguments<'_>) -> c_int {
    print(shell, message);
    -errno::EINVAL
}

fn print(shell: *const Shell, text: fmt::Arguments<'_>) {
    console::with_c_str(text, |text| {
        // SAFETY: the shell is the one that called the command, the text is terminated.
        unsafe { glue::zfl_shell_line(shell, text.as_ptr()) };
    });
}
