//! Peak depth of the stack.
//!
//! The stack starts out painted with zeros, by the machine itself: RAM is zero at power-on and the
//! image does not cover the stack. The lowest word that is not zero is the deepest one ever written
//! (one that was written as zero may hide a few bytes). Reading the rest costs no memory: a page
//! that was only read is the host's one page of zeros.

use core::ptr;

use crate::image;

/// Bytes of stack there are.
pub fn size_bytes() -> usize {
    image::stack_top() - image::stack_bottom()
}

/// Most bytes of stack ever in use.
pub fn peak_bytes() -> usize {
    let words = (image::stack_bottom()..image::stack_top()).step_by(size_of::<u32>());
    let deepest = words.into_iter().find(|&address| {
        // SAFETY: aligned memory of the stack, which is mapped. What a live frame writes there
        // meanwhile is read as it happens to be: the read is volatile and its value only compared.
        unsafe { ptr::with_exposed_provenance::<u32>(address).read_volatile() != 0 }
    });
    deepest.map_or(0, |address| image::stack_top() - address)
}
