//! The choice of a cohort.

use alloc::vec::Vec;

use fl_nn::Pcg32;

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
    Pcg32::new(seed ^ (u64::from(round) << 32), COHORT_STREAM).shuffle(&mut order);
    let there = order.into_iter().filter(|&id| is_available(id));
    let mut cohort: Vec<u32> = there.take(size).collect();
    cohort.sort_unstable();
    cohort
}

/// The stream of PCG32 that cohorts are drawn from: "cohort" in ASCII, to be no one else's.
const COHORT_STREAM: u64 = 0x636f_686f_7274;
