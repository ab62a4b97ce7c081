//! Registers in memory.

use core::ptr;

#[cfg(not(target_arch = "arm"))]
use super::uart::ns16550::Registers;

/// Reads a register. It may have an effect on the device, none on memory.
pub fn read32(address: usize) -> u32 {
    // SAFETY: callers name registers of their board, which are aligned and hold nothing of Rust's.
    unsafe { ptr::with_exposed_provenance::<u32>(address).read_volatile() }
}

/// Writes a register.
///
/// # Safety
/// `address` must be a register's, and the device must not touch memory that Rust owns because of this write.
pub unsafe fn write32(address: usize, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { ptr::with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Registers of a byte each.
#[cfg(not(target_arch = "arm"))]
pub struct Bytes(pub usize);

#[cfg(not(target_arch = "arm"))]
impl Registers for Bytes {
    fn read(&self, register: u16) -> u8 {
        let address = self.0 + usize::from(register);
        // SAFETY: a register of the device, which holds nothing of Rust's.
        unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() }
    }

    fn write(&self, register: u16, value: u8) {
        let address = self.0 + usize::from(register);
        // SAFETY: as above; what has such registers does no DMA.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(value) }
    }
}
