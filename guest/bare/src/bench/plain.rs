//! `ad` with the loop that one writes first.

#![no_std]
#![no_main]

mod ad;
mod machine;

#[inline(never)]
fn dense(input: &[i8], weights: &[i8], biases: &[i32], output: &mut [i8]) {
    let rows = weights.chunks_exact(input.len());
    for ((row, bias), output) in rows.zip(biases).zip(output) {
        let products = row.iter().zip(input);
        let products = products.map(|(&weight, &value)| i32::from(weight) * i32::from(value));
        *output = ad::requantised(bias + products.sum::<i32>());
    }
}

/// Called by `boot.s`.
unsafe extern "C" fn start() -> ! {
    ad::run(dense)
}
