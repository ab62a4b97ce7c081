//! The switch's unsafe calls, each behind a safe function of few lines.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::libc;

/// Puts the calling thread, and none that it starts, before all threads of the normal class.
///
/// It is allowed to root and to whoever has a limit of real-time priority (RLIMIT_RTPRIO) of 1. What
/// it brings stands in docs/network.md; a niceness of -10 and a slice of 0.1 ms, tried instead,
/// brought nothing that could be measured.
pub(crate) fn become_real_time() -> io::Result<()> {
    let class = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the call reads one sched_param, which outlives it, and changes nothing but the
    // calling thread's (0) class.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const class) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// True if a tap puts a header of its own before each frame; `None` if it is no tap.
pub(crate) fn tap_has_vnet_header(fd: impl AsFd) -> Option<bool> {
    nix::ioctl_read!(tun_get_iff, b'T', 210, libc::c_uint);
    // SAFETY: all fields of ifreq are integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: despite the type in its number, TUNGETIFF writes one whole ifreq, which is there.
    unsafe { tun_get_iff(fd.as_fd().as_raw_fd(), (&raw mut request).cast()) }.ok()?;
    // SAFETY: TUNGETIFF sets the flags, and every bit pattern is one.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Some(libc::c_int::from(flags) & libc::IFF_VNET_HDR != 0)
}
