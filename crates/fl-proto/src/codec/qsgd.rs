//! `qsgd`: a few levels of the norm of a bucket, rounded at random so that the mean is right.
//!
//! Alistarh et al. 2017, *QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding*:
//! <https://arxiv.org/abs/1610.02132>. The scale of a bucket is its l2 norm. Codes are a level and, in the
//! highest bit, the sign. They have a fixed width in place of the paper's Elias codes: with that, the length of an update
//! is known before it is made.

use super::blocks::{self, Quantiser};
use super::{Encodes, Plan};
use fl_param::ParamSpec;
use fl_rng::Pcg32;

/// Numbers as a sign and a level each.
#[derive(Clone, Copy, Debug)]
pub struct Qsgd;

static PARAMS: [ParamSpec; 2] = [
    ParamSpec {
        name: "levels",
        default: 7.0,
        min: 1.0,
        max: 127.0,
        whole: true,
        doc: "levels of a magnitude; 1, 3, 7 … use all codes of 2, 3, 4 … bits",
    },
    ParamSpec {
        name: "bucket_size",
        default: 512.0,
        min: 16.0,
        max: 65536.0,
        whole: true,
        doc: "numbers of a tensor that share a norm",
    },
];

impl Quantiser for Qsgd {
    const NAME: &'static str = "qsgd";
    const CODE: u8 = 3;
    const DOC: &'static str =
        "Levels of the norm of a bucket, rounded at random: half a byte a number with 7 levels";
    const PARAMS: &'static [ParamSpec] = &PARAMS;
    const ENCODES: Encodes = Encodes::Changes;

    fn levels(&self, plan: &Plan<'_>) -> u32 {
        plan.args[0] as u32
    }

    fn bucket(&self, plan: &Plan<'_>) -> u32 {
        plan.args[1] as u32
    }

    fn width(&self, levels: u32) -> u32 {
        match levels {
            1..=127 => 1 + (u32::BITS - levels.leading_zeros()),
            _ => 0,
        }
    }

    fn scale(&self, numbers: &[f32]) -> f32 {
        libm::sqrtf(numbers.iter().map(|number| number * number).sum())
    }

    fn code_of(&self, steps: f32, is_negative: bool, levels: u32, draws: &mut Pcg32) -> u32 {
        let level = blocks::stochastic(steps, levels, draws);
        match is_negative && level > 0 {
            true => level | 1 << (self.width(levels) - 1),
            false => level,
        }
    }

    fn steps(&self, code: u32, levels: u32) -> Option<f32> {
        let sign = 1 << (self.width(levels) - 1);
        let (level, is_negative) = (code & (sign - 1), code & sign != 0);
        if level > levels || (is_negative && level == 0) {
            return None;
        }
        let steps = level as f32;
        Some(if is_negative { -steps } else { steps })
    }
}
