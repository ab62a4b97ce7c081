//! `int8`: a quarter of the octets, a scale a tensor, rounded at random so that the mean is right.
//!
//! The scale is the largest magnitude of the tensor, the codes are -127 to 127.

use super::blocks::{self, Quantiser};
use super::{Encodes, Plan};
use fl_rng::Pcg32;

/// Numbers as an octet each.
#[derive(Clone, Copy, Debug)]
pub struct Int8;

const LEVELS: u32 = 127;

impl Quantiser for Int8 {
    const NAME: &'static str = "int8";
    const CODE: u8 = 2;
    const DOC: &'static str =
        "Integers from -127 to 127 with a scale a tensor, rounded at random: 1 byte a number";
    const ENCODES: Encodes = Encodes::Changes;

    fn levels(&self, _: &Plan<'_>) -> u32 {
        LEVELS
    }

    fn width(&self, levels: u32) -> u32 {
        if levels == LEVELS { 8 } else { 0 }
    }

    fn scale(&self, numbers: &[f32]) -> f32 {
        blocks::largest(numbers)
    }

    fn code_of(&self, steps: f32, is_negative: bool, levels: u32, draws: &mut Pcg32) -> u32 {
        let level = blocks::stochastic(steps, levels, draws) as i32;
        u32::from((if is_negative { -level } else { level }) as u8)
    }

    fn steps(&self, code: u32, _: u32) -> Option<f32> {
        let level = code as u8 as i8;
        (level != i8::MIN).then_some(f32::from(level))
    }
}
