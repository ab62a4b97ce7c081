//! `ad` with the DSP extension: two products an instruction, two outputs at a time, as CMSIS-NN does it.

#![no_std]
#![no_main]

mod ad;
mod machine;

use core::arch::asm;

/// Octets 0 and 2, sign-extended to halves.
#[inline(always)]
fn even(four: u32) -> u32 {
    let halves;
    // SAFETY: reads and writes registers.
    unsafe {
        asm!("sxtb16 {}, {}", out(reg) halves, in(reg) four, options(pure, nomem, nostack, preserves_flags))
    };
    halves
}

/// Octets 1 and 3.
#[inline(always)]
fn odd(four: u32) -> u32 {
    let halves;
    // SAFETY: reads and writes registers.
    unsafe {
        asm!("sxtb16 {}, {}, ror #8", out(reg) halves, in(reg) four, options(pure, nomem, nostack, preserves_flags))
    };
    halves
}

/// Sum of two products of halves and another sum.
#[inline(always)]
fn dual(a: u32, b: u32, sum: i32) -> i32 {
    let result;
    // SAFETY: reads and writes registers, and a flag that nobody reads.
    unsafe {
        asm!("smlad {}, {}, {}, {}", out(reg) result, in(reg) a, in(reg) b, in(reg) sum, options(pure, nomem, nostack))
    };
    result
}

fn word(octets: &[i8; 4]) -> u32 {
    u32::from_le_bytes(octets.map(i8::cast_unsigned))
}

#[inline(never)]
fn dense(input: &[i8], weights: &[i8], biases: &[i32], output: &mut [i8]) {
    let rows = weights.chunks_exact(2 * input.len());
    let outputs = output.as_chunks_mut::<2>().0;
    for ((rows, biases), outputs) in rows.zip(biases.as_chunks::<2>().0).zip(outputs) {
        let (first, second) = rows.split_at(input.len());
        let [mut s, mut t] = *biases;
        let values = input.as_chunks::<4>().0.iter();
        let pairs = first
            .as_chunks::<4>()
            .0
            .iter()
            .zip(second.as_chunks::<4>().0);
        for (values, (a, b)) in values.zip(pairs) {
            let (values, a, b) = (word(values), word(a), word(b));
            let (x, y) = (even(values), odd(values));
            s = dual(y, odd(a), dual(x, even(a), s));
            t = dual(y, odd(b), dual(x, even(b), t));
        }
        *outputs = [ad::requantised(s), ad::requantised(t)];
    }
}

/// Called by `boot.s`.
unsafe extern "C" fn start() -> ! {
    ad::run(dense)
}
