//! Declarations of what `glue.c` gives: macros and inline functions of Zephyr as plain functions.
//!
//! Results below zero are negated errno values, see [`errno`].

use crate::tcp::Errno;
use core::ffi::{c_char, c_int, c_void};
use core::net::Ipv4Addr;
use core::ptr;

/// Zephyr's shell; only ever passed back to it.
#[repr(C)]
pub struct Shell {
    _opaque: [u8; 0],
}

/// One socket to wait for; the same layout as `struct zsock_pollfd`, which `glue.c` asserts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PollFd {
    pub fd: c_int,
    pub events: i16,
    pub revents: i16,
}

/// There is something to read, or a stream to accept.
pub const POLLIN: i16 = 1;

/// TCP segments since boot; the same layout as `struct zfl_tcp_counters`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpCounters {
    pub sent: u32,
    pub received: u32,
    pub sent_again: u32,
}

unsafe extern "C" {
    pub fn zfl_heap_memory() -> *mut c_void;

    fn zfl_timing_counter() -> u64;
    fn zfl_time_passes();
    fn zfl_random(bytes: *mut u8, len: usize);

    pub fn zfl_shell_line(shell: *const Shell, line: *const c_char);

    fn zfl_net_set_address(address: *const u8, netmask: *const u8, gateway: *const u8) -> c_int;
    fn zfl_net_tcp_counters(counters: *mut TcpCounters) -> c_int;

    pub fn zfl_tcp_open() -> c_int;
    pub fn zfl_tcp_listen(port: u16, backlog: c_int) -> c_int;
    pub fn zfl_tcp_accept(fd: c_int, address: *mut u8) -> c_int;
    pub fn zfl_tcp_connect(fd: c_int, address: *const u8, port: u16) -> c_int;
    pub fn zfl_tcp_read(fd: c_int, buffer: *mut c_void, len: usize) -> c_int;
    #[cfg(zfl_radio)]
    pub fn zfl_tcp_peek(fd: c_int) -> c_int;
    pub fn zfl_tcp_write(fd: c_int, buffer: *const c_void, len: usize) -> c_int;
    pub fn zfl_tcp_close(fd: c_int) -> c_int;
    pub fn zfl_tcp_poll(fds: *mut PollFd, count: c_int, timeout_ms: c_int) -> c_int;
}

#[cfg(zfl_radio)]
unsafe extern "C" {
    fn zfl_radio_open();
    fn zfl_radio_read(octets: *mut u8, len: u32) -> u32;
    fn zfl_radio_write(octets: *const u8, len: u32);
    fn zfl_radio_wait(timeout_ms: c_int);
}

/// Lets the UART of the radio receive.
#[cfg(zfl_radio)]
pub fn radio_open() {
    // SAFETY: takes nothing.
    unsafe { zfl_radio_open() };
}

/// Takes octets that the radio sent; 0 if there are none.
#[cfg(zfl_radio)]
pub fn radio_read(octets: &mut [u8]) -> usize {
    // SAFETY: the call writes at most so many bytes.
    unsafe { zfl_radio_read(octets.as_mut_ptr(), octets.len() as u32) as usize }
}

/// Sends octets to the radio.
#[cfg(zfl_radio)]
pub fn radio_write(octets: &[u8]) {
    // SAFETY: the call reads so many bytes.
    unsafe { zfl_radio_write(octets.as_ptr(), octets.len() as u32) };
}

/// Sleeps until the radio has sent something, or so long; below zero is for ever.
#[cfg(zfl_radio)]
pub fn radio_wait(timeout_ms: i32) {
    // SAFETY: takes a plain value.
    unsafe { zfl_radio_wait(timeout_ms) };
}

/// Gives the network interface its address, in a network whose prefix has `prefix_bits`.
pub fn set_address(ip: Ipv4Addr, prefix_bits: u8, gateway: Option<Ipv4Addr>) -> Result<(), Errno> {
    let host_bits = 32 - u32::from(prefix_bits.clamp(1, 32));
    let netmask = (u32::MAX << host_bits).to_be_bytes();
    let ip = ip.octets();
    let gateway = gateway.map(|gateway| gateway.octets());
    let gateway = gateway
        .as_ref()
        .map_or(ptr::null(), |gateway| gateway.as_ptr());
    // SAFETY: each pointer is to four bytes that outlive the call, or null where that is allowed.
    let result = unsafe { zfl_net_set_address(ip.as_ptr(), netmask.as_ptr(), gateway) };
    if result < 0 {
        Err(Errno(-result))
    } else {
        Ok(())
    }
}

/// TCP's counters since boot, if this build counts.
pub fn tcp_counters() -> Option<TcpCounters> {
    let mut counters = TcpCounters::default();
    // SAFETY: the call fills in the structure, whose layout glue.c asserts.
    let result = unsafe { zfl_net_tcp_counters(&mut counters) };
    (result == 0).then_some(counters)
}

/// The counter of Zephyr's timing functions, the finest that the machine has.
pub fn timing_counter() -> u64 {
    // SAFETY: reads a counter and takes nothing.
    unsafe { zfl_timing_counter() }
}

/// Lets the time that a computation took pass on the device, where it does not pass by itself.
pub fn time_passes() {
    // SAFETY: takes nothing, and waits.
    unsafe { zfl_time_passes() };
}

/// Random bytes, as good as the board has them.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // SAFETY: the call fills in so many bytes.
    unsafe { zfl_random(bytes.as_mut_ptr(), N) };
    bytes
}

/// The errno values that a decision hangs on.
pub mod errno {
    use core::ffi::c_int;
    use zephyr::raw;

    pub const EINVAL: c_int = raw::EINVAL as c_int;
    pub const EAGAIN: c_int = raw::EAGAIN as c_int;
    pub const ENOMEM: c_int = raw::ENOMEM as c_int;
    pub const ENOBUFS: c_int = raw::ENOBUFS as c_int;
    pub const EINPROGRESS: c_int = raw::EINPROGRESS as c_int;
    pub const EALREADY: c_int = raw::EALREADY as c_int;
}
