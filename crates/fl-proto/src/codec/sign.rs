//! `sign`: one bit a number, and a scale a tensor; what is lost goes into later updates.
//!
//! EF-signSGD, Karimireddy et al. 2019, *Error Feedback Fixes SignSGD and other Gradient Compression Schemes*:
//! <https://arxiv.org/abs/1901.09847>. The scale of a tensor is its mean magnitude.

use super::blocks::Quantiser;
use super::{Encodes, Plan};
use fl_rng::Pcg32;

/// Numbers as their signs.
#[derive(Clone, Copy, Debug)]
pub struct Sign;

impl Quantiser for Sign {
    const NAME: &'static str = "sign";
    const CODE: u8 = 5;
    const DOC: &'static str =
        "Signs with a scale a tensor; the error goes into later updates: 1 bit a number";
    const ENCODES: Encodes = Encodes::ChangesWithFeedback;

    fn levels(&self, _: &Plan<'_>) -> u32 {
        1
    }

    fn width(&self, levels: u32) -> u32 {
        if levels == 1 { 1 } else { 0 }
    }

    fn scale(&self, numbers: &[f32]) -> f32 {
        let sum: f32 = numbers.iter().map(|number| number.abs()).sum();
        sum / numbers.len() as f32
    }

    fn code_of(&self, _: f32, is_negative: bool, _: u32, _: &mut Pcg32) -> u32 {
        u32::from(is_negative)
    }

    fn steps(&self, code: u32, _: u32) -> Option<f32> {
        Some(if code == 0 { 1.0 } else { -1.0 })
    }
}
