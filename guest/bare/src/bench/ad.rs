//! `ad` of MLPerf Tiny: inference of 640-128x4-8-128x4-640 with weights and activations of eight bits.
//!
//! The weights are made up: no cycle depends on them.

use super::machine::{Numbers, counted, end, print};

const LAYERS: [usize; 11] = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640];
const WEIGHTS: usize = 264_192;
const BIASES: usize = 1_672;

/// A layer: input, weights by rows, a bias for each row, output.
pub type Dense = fn(&[i8], &[i8], &[i32], &mut [i8]);

struct Net {
    weights: [i8; WEIGHTS],
    biases: [i32; BIASES],
}

static mut NET: Net = Net {
    weights: [0; WEIGHTS],
    biases: [0; BIASES],
};

/// Sum of 32 bits as an output of eight: times 0.707, divided by 256, limited.
#[inline(always)]
pub fn requantised(sum: i32) -> i8 {
    let scaled = ((i64::from(sum) * 1_518_500_250) >> 31) as i32;
    (scaled >> 8).clamp(-128, 127) as i8
}

fn infer(net: &Net, dense: Dense) -> [i8; 640] {
    let mut values = [0_i8; 640];
    let (mut weights, mut biases) = (&net.weights[..], &net.biases[..]);
    for (value, number) in values.iter_mut().zip(Numbers(7)) {
        *value = number as i8;
    }
    counted(|| {
        for pair in LAYERS.windows(2) {
            let (inputs, outputs) = (pair[0], pair[1]);
            let mut next = [0_i8; 640];
            let (rows, others) = weights.split_at(inputs * outputs);
            let (own, rest) = biases.split_at(outputs);
            dense(&values[..inputs], rows, own, &mut next[..outputs]);
            (values, weights, biases) = (next, others, rest);
        }
    });
    values
}

/// Runs it once, and tells a sum of its outputs, which is the same with every kernel.
pub fn run(dense: Dense) -> ! {
    // SAFETY: called once, and by nobody else.
    let net = unsafe { &mut *(&raw mut NET) };
    let mut numbers = Numbers(12_345);
    net.weights.fill_with(|| numbers.next().unwrap_or(0) as i8);
    net.biases
        .fill_with(|| (numbers.next().unwrap_or(0) & 0xfff) as i32 - 2_048);
    let outputs = infer(net, dense);
    let hash = outputs.iter().fold(0_u32, |hash, &output| {
        hash.wrapping_mul(31).wrapping_add(u32::from(output as u8))
    });
    print(format_args!("{hash:08x}"));
    end()
}
