//! A static that is written while booting, or by code that is the only one to touch it.

use core::cell::UnsafeCell;

/// Memory at a fixed place, reached by raw pointer only.
#[repr(transparent)]
pub struct BootCell<T>(UnsafeCell<T>);

// SAFETY: the guest has one CPU and its interrupt stubs run no Rust, so there is one thread of
// execution. Every access goes through `get`, whose users see to it that references do not overlap.
unsafe impl<T> Sync for BootCell<T> {}

impl<T> BootCell<T> {
    /// A cell with its first value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Address of the value.
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}
