//! The choice of a cohort.

use alloc::vec::Vec;

use fl_rng::{Pcg32, Purpose};

/// Chooses a cohort, sorted: the first `size` that are available of a permutation of all IDs that the
/// seed and the round alone decide.
pub(crate) fn choose(
    seed: u64,
    round: u32,
    clients: u32,
    size: usize,
    is_available: impl Fn(u32) -> bool,
) -> Vec<u32> {
    let mut order: Vec<u32> = (0..clients).collect();
    Pcg32::for_round(Purpose::Cohort, seed, round).shuffle(&mut order);
    let there = order.into_iter().filter(|&id| is_available(id));
    let mut cohort: Vec<u32> = there.take(size).collect();
    cohort.sort_unstable();
    cohort
}
