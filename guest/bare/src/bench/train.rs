//! A step of training on one sample: 650-25-3 with momentum, in single precision, by plain loops. It is the net of the
//! keyword spotting whose federated rounds were published for three Arduino Nano 33 BLE.

#![no_std]
#![no_main]

mod machine;

use machine::{Numbers, counted, end, print};

const INPUTS: usize = 650;
const HIDDEN: usize = 25;
const OUTPUTS: usize = 3;
const RATE: f32 = 0.3;
const MOMENTUM: f32 = 0.9;

struct Layer<const IN: usize, const OUT: usize> {
    weights: [[f32; IN]; OUT],
    velocity: [[f32; IN]; OUT],
    biases: [f32; OUT],
}

impl<const IN: usize, const OUT: usize> Layer<IN, OUT> {
    const ZERO: Self = Self {
        weights: [[0.0; IN]; OUT],
        velocity: [[0.0; IN]; OUT],
        biases: [0.0; OUT],
    };

    #[inline(never)]
    fn forward(&self, input: &[f32; IN]) -> [f32; OUT] {
        core::array::from_fn(|unit| {
            let products = self.weights[unit].iter().zip(input).map(|(w, x)| w * x);
            let sum = self.biases[unit] + products.sum::<f32>();
            // A sigmoid with a division instead of the exponential of libm: one of 28 a sample.
            0.5 + 0.5 * sum / (1.0 + if sum < 0.0 { -sum } else { sum })
        })
    }

    #[inline(never)]
    fn errors(&self, errors: &[f32; OUT]) -> [f32; IN] {
        let mut back = [0.0; IN];
        for (row, error) in self.weights.iter().zip(errors) {
            for (back, weight) in back.iter_mut().zip(row) {
                *back += weight * error;
            }
        }
        back
    }

    #[inline(never)]
    fn learn(&mut self, input: &[f32; IN], errors: &[f32; OUT]) {
        for (unit, error) in errors.iter().enumerate() {
            let step = RATE * error;
            let rows = self.weights[unit].iter_mut().zip(&mut self.velocity[unit]);
            for ((weight, velocity), x) in rows.zip(input) {
                *velocity = MOMENTUM * *velocity + step * x;
                *weight += *velocity;
            }
            self.biases[unit] += step;
        }
    }
}

static mut FIRST: Layer<INPUTS, HIDDEN> = Layer::ZERO;
static mut SECOND: Layer<HIDDEN, OUTPUTS> = Layer::ZERO;

/// Called by `boot.s`.
unsafe extern "C" fn start() -> ! {
    // SAFETY: called once, and by nobody else.
    let (first, second) = unsafe { (&mut *(&raw mut FIRST), &mut *(&raw mut SECOND)) };
    let mut numbers = Numbers(3);
    let mut small = || (numbers.next().unwrap_or(0) as f32 / 16_777_216.0 - 0.5) / 10.0;
    first.weights.as_flattened_mut().fill_with(&mut small);
    second.weights.as_flattened_mut().fill_with(&mut small);
    let input: [f32; INPUTS] = core::array::from_fn(|_| small());
    let target = [1.0, 0.0, 0.0];
    counted(|| {
        let hidden = first.forward(&input);
        let output = second.forward(&hidden);
        let errors: [f32; OUTPUTS] = core::array::from_fn(|unit| {
            (target[unit] - output[unit]) * output[unit] * (1.0 - output[unit])
        });
        let back = second.errors(&errors);
        let inner: [f32; HIDDEN] =
            core::array::from_fn(|unit| back[unit] * hidden[unit] * (1.0 - hidden[unit]));
        second.learn(&hidden, &errors);
        first.learn(&input, &inner);
    });
    let bits = first.weights[0][0].to_bits() ^ second.weights[0][0].to_bits();
    print(format_args!("{bits:08x}"));
    end()
}
