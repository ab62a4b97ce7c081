//! SplitMix64: single words at fixed places, each a pure function of its arguments.

use crate::purpose::Decision;

/// The step of SplitMix64's state, Steele, Lea and Flood 2014:
/// <https://doi.org/10.1145/2714064.2660195>.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The seed of one client in one round, derived from the run's.
///
/// Neighbouring seeds, clients and rounds give unrelated streams.
pub fn derive_seed(seed: u64, client: u32, round: u32) -> u64 {
    output(
        output(seed, 0) ^ (u64::from(client) << 32 | u64::from(round)),
        0,
    )
}

impl Decision {
    /// The word that decides about `client` in `round`.
    pub fn word(self, seed: u64, client: u32, round: u32) -> u64 {
        let parts = [u64::from(client), u64::from(round), self as u64];
        parts.into_iter().fold(seed, |word, part| {
            finalise(word.wrapping_add(GAMMA).wrapping_add(part))
        })
    }
}

/// A sequence of words that can be read at any place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    origin: u64,
}

impl Lane {
    /// The sequence of lane `number`, for example of [`crate::link_lane`].
    pub fn new(seed: u64, number: u64) -> Self {
        Self {
            origin: finalise(output(seed, 0) ^ number),
        }
    }

    /// Word `index` of the sequence.
    pub fn word(&self, index: u64) -> u64 {
        output(self.origin, index)
    }
}

/// The upper 53 bits of a word as a number in `[0, 1)`.
pub fn fraction(word: u64) -> f64 {
    const UNIT: f64 = 1.0 / (1_u64 << 53) as f64;
    (word >> 11) as f64 * UNIT
}

/// Output `index` of the generator that starts from `seed`.
fn output(seed: u64, index: u64) -> u64 {
    finalise(seed.wrapping_add(index.wrapping_add(1).wrapping_mul(GAMMA)))
}

fn finalise(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_mix_gives_the_reference_sequence() {
        let outputs = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!([0, 1, 2].map(|index| output(1_234_567, index)), outputs);
    }

    #[test]
    fn derived_seeds_differ_in_every_argument() {
        let mut seeds: Vec<u64> = Vec::new();
        for (seed, client, round) in
            (0..8 * 8 * 8).map(|i| (i / 64, (i / 8 % 8) as u32, (i % 8) as u32))
        {
            seeds.push(derive_seed(seed, client, round));
        }
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 512);
        assert_ne!(derive_seed(0, 1, 0), derive_seed(0, 0, 1));
    }

    #[test]
    fn fractions_stay_below_one() {
        assert_eq!([0, u64::MAX].map(|w| fraction(w) < 1.0), [true, true]);
        assert_eq!(fraction(1 << 63), 0.5);
    }
}
