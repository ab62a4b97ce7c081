//! The client's thread, which waits for `run` and then plays the role of this image.

use crate::mailbox::Mailbox;
use crate::{HTTP_PORT, console, role};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use fl_shell::command::Run;

static STARTED: AtomicBool = AtomicBool::new(false);
static TO_RUN: Mailbox<Run> = Mailbox::new();

/// Set once the client's thread has started. A machine is one device until it is reset.
pub fn is_started() -> bool {
    STARTED.load(Ordering::Acquire)
}

/// Sets the client's thread going, the first time that it is called.
pub fn start(args: Run) {
    if !STARTED.swap(true, Ordering::AcqRel) {
        TO_RUN.put(args);
    }
}

/// The client's thread; `glue.c` defines it.
#[unsafe(no_mangle)]
extern "C" fn zfl_client_thread(_: *mut c_void, _: *mut c_void, _: *mut c_void) {
    match role::run(&TO_RUN.take()) {
        Ok(()) => console::log(format_args!("stopped")),
        Err(error) => console::log(format_args!("cannot listen on port {HTTP_PORT}: {error}")),
    }
}
