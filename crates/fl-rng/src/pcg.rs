//! PCG32: long sequences of numbers.

use crate::purpose::Purpose;

/// PCG-XSH-RR 64/32, O'Neill 2014: <https://www.pcg-random.org/paper.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pcg32 {
    state: u64,
    increment: u64,
}

impl Pcg32 {
    /// The generator of `purpose` for `seed`: the run's, or one made by [`crate::derive_seed`].
    pub fn new(purpose: Purpose, seed: u64) -> Self {
        Self::on_stream(seed, purpose.stream())
    }

    /// The generator of `purpose` in one round.
    pub fn for_round(purpose: Purpose, seed: u64, round: u32) -> Self {
        Self::new(purpose, seed ^ u64::from(round) << 32)
    }

    /// The generator on any of 2^63 streams, seeded as the reference does it: for tests.
    pub fn on_stream(seed: u64, stream: u64) -> Self {
        let mut rng = Self {
            state: 0,
            increment: (stream << 1) | 1,
        };
        rng.next_u32();
        rng.state = rng.state.wrapping_add(seed);
        rng.next_u32();
        rng
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(self.increment);
        let shifted = (((old >> 18) ^ old) >> 27) as u32;
        shifted.rotate_right((old >> 59) as u32)
    }

    /// Uniform in `0..bound` without bias; 0 if `bound` is 0.
    ///
    /// Lemire 2019, "Fast Random Integer Generation in an Interval": <https://arxiv.org/abs/1805.10941>.
    pub fn below(&mut self, bound: u32) -> u32 {
        let mut wide = u64::from(self.next_u32()) * u64::from(bound);
        if (wide as u32) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (wide as u32) < threshold {
                wide = u64::from(self.next_u32()) * u64::from(bound);
            }
        }
        (wide >> 32) as u32
    }

    /// Uniform in `[-1, 1)` in steps of 2^-23; every value is exact in f32.
    pub fn symmetric(&mut self) -> f32 {
        let steps = (self.next_u32() >> 8) as i32 - (1 << 23);
        steps as f32 * (1.0 / (1 << 23) as f32)
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates, from the back).
    pub fn shuffle(&mut self, items: &mut [u32]) {
        for last in (1..items.len() as u32).rev() {
            let chosen = self.below(last + 1);
            items.swap(last as usize, chosen as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pcg32_gives_the_reference_sequence() {
        // The output of pcg32-demo of the reference implementation, round 1.
        let mut rng = Pcg32::on_stream(42, 54);
        let expected = [
            0xa15c_02b7,
            0x7b47_f409,
            0xba1d_3330,
            0x83d2_f293,
            0xbfa4_784b,
            0xcbed_606e,
        ];
        assert_eq!(core::array::from_fn(|_| rng.next_u32()), expected);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn below_reaches_every_value_equally_often() {
        let mut rng = Pcg32::on_stream(1, 1);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[rng.below(6) as usize] += 1;
        }
        // Standard deviation 91: five of them.
        assert!(
            counts.iter().all(|&n| n.abs_diff(10_000) < 460),
            "{counts:?}"
        );
        assert_eq!(rng.below(1), 0);
        assert_eq!(rng.below(0), 0);
        assert!(rng.below(u32::MAX) < u32::MAX);
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn symmetric_covers_its_interval() {
        let mut rng = Pcg32::on_stream(2, 1);
        let values: Vec<f32> = (0..10_000).map(|_| rng.symmetric()).collect();
        assert!(values.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(values.iter().any(|&x| x < -0.999) && values.iter().any(|&x| x > 0.999));
    }

    #[test]
    #[cfg_attr(miri, ignore = "slow")]
    fn shuffle_is_a_permutation_and_every_place_is_reached() {
        let mut first = [0_u32; 8];
        for seed in 0..8_000 {
            let mut items: [u32; 8] = core::array::from_fn(|i| i as u32);
            Pcg32::on_stream(seed, 3).shuffle(&mut items);
            first[items[0] as usize] += 1;
            items.sort_unstable();
            assert_eq!(items, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
        assert!(first.iter().all(|&n| n.abs_diff(1_000) < 150), "{first:?}");
    }
}
