//! The shell's commands. `glue.c` registers them; both return to the prompt at once.

use crate::args::{Crash, RunArgs};
use crate::crash::crash;
use crate::glue::{self, Shell, errno};
use crate::{console, device, heap, threads};
use core::ffi::{CStr, c_char, c_int};
use core::fmt;

/// `run <ip> server=<ip>:<port> ...`: sets the address and starts the client's thread.
#[unsafe(no_mangle)]
extern "C" fn zfl_shell_run(shell: *const Shell, argc: usize, argv: *const *const c_char) -> c_int {
    // SAFETY: the shell passes its own arguments.
    let words = unsafe { words(argc, argv) };
    let args = match RunArgs::parse(words) {
        Ok(args) => args,
        Err(error) => return refuse(shell, format_args!("run: {error}")),
    };
    if let Err(error) = glue::set_address(args.ip, args.netmask(), args.gateway) {
        return refuse(shell, format_args!("run: cannot set the address: {error}"));
    }
    if !device::start(args) {
        return refuse(shell, format_args!("run: this device runs already"));
    }
    0
}

/// `crash panic|fault|stack|heap`: dies.
#[unsafe(no_mangle)]
extern "C" fn zfl_shell_crash(
    shell: *const Shell,
    argc: usize,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the shell passes its own arguments.
    match Crash::parse(unsafe { words(argc, argv) }) {
        Ok(way) => crash(way),
        Err(error) => return refuse(shell, format_args!("crash: {error}")),
    }
    0
}

/// `stat`: high-water marks of heap and stacks, in bytes.
#[unsafe(no_mangle)]
extern "C" fn zfl_shell_stat(shell: *const Shell, _: usize, _: *const *const c_char) -> c_int {
    let heap = heap::usage();
    line(
        shell,
        format_args!(
            "heap: {} used, {} peak, {} total",
            heap.used_bytes,
            heap.peak_bytes,
            heap::SIZE_BYTES
        ),
    );
    threads::for_each_stack(|stack| {
        line(
            shell,
            format_args!(
                "stack {}: {} peak, {} total",
                stack.thread, stack.peak_bytes, stack.size_bytes
            ),
        );
    });
    0
}

/// The words after the command's name.
///
/// # Safety
/// `argv` has `argc` pointers to terminated strings that outlive `'a`.
unsafe fn words<'a>(argc: usize, argv: *const *const c_char) -> impl Iterator<Item = &'a str> {
    (1..argc).map(move |index| {
        // SAFETY: the caller's promise.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        word.to_str().unwrap_or("?")
    })
}

fn refuse(shell: *const Shell, message: fmt::Arguments<'_>) -> c_int {
    line(shell, message);
    -errno::EINVAL
}

fn line(shell: *const Shell, text: fmt::Arguments<'_>) {
    console::with_c_str(text, |text| {
        // SAFETY: the shell is the one that called the command, the text is terminated.
        unsafe { glue::zfl_shell_line(shell, text.as_ptr()) };
    });
}
