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

/// Most bytes of stack ever in use, to a few bytes.
pub fn peak_bytes() -> usize {
    /// Bytes that are looked at together: a device looks twice in each round.
    const STEP: usize = 16;
    let steps = (image::stack_bottom()..image::stack_top()).step_by(STEP);
    let deepest = steps.into_iter().find(|&address| {
        let word = |at: usize| {
            let word = ptr::with_exposed_provenance::<u32>(address).wrapping_add(at);
            // SAFETY: aligned memory of the stack, which is mapped, and whole steps of it. What a live frame writes
            // there meanwhile is read as it happens to be: the read is volatile and its value only compared.
            unsafe { word.read_volatile() }
        };
        word(0) | word(1) | word(2) | word(3) != 0
    });
    deepest.map_or(0, |address| image::stack_top() - address)
}
