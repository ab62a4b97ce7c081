//! Unsafe calls of this crate, each behind a safe function of few lines.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

/// A new tap called `name` in the network namespace of the caller; it lives as long as the
/// descriptor. At most 15 bytes of `name` are used.
///
/// `vnet_header`: each frame comes with a header of the tap's own, which lets the kernel hand over
/// checksums and segments unfinished; QEMU finds out by itself and is faster with it.
pub(crate) fn open_tap(name: &str, vnet_header: bool) -> io::Result<OwnedFd> {
    nix::ioctl_write_int!(tun_set_iff, b'T', 202);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    // SAFETY: all fields of ifreq are integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(room)) {
        *to = from as libc::c_char;
    }
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if vnet_header {
        flags |= libc::IFF_VNET_HDR;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads one ifreq, which outlives the call.
    unsafe { tun_set_iff(file.as_raw_fd(), &raw const request as libc::c_ulong) }?;
    Ok(file.into())
}
