//! Distances between updates, by which Krum tells those that agree from the others.

use alloc::vec::Vec;

use super::Update;

/// For each update the others with their squared distances, the nearest first.
pub(crate) struct Distances(Vec<Vec<(f64, usize)>>);

impl Distances {
    /// Measures between all models.
    pub fn new(updates: &[Update]) -> Self {
        let mut all: Vec<Vec<(f64, usize)>> = updates.iter().map(|_| Vec::new()).collect();
        for (a, update) in updates.iter().enumerate() {
            for (b, other) in updates.iter().enumerate().take(a) {
                let distance = squared_distance(update.model(), other.model());
                all[a].push((distance, b));
                all[b].push((distance, a));
            }
        }
        for row in &mut all {
            row.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        Self(all)
    }

    /// Krum's score of an update among those that `counts`: the sum of its squared distances to its
    /// `count - malicious - 2` nearest, or to one.
    pub fn score(&self, of: usize, counts: &[bool], malicious: usize) -> f64 {
        let count = counts.iter().filter(|counts| **counts).count();
        let near = count.saturating_sub(malicious + 2).max(1);
        let others = self.0[of].iter().filter(|(_, other)| counts[*other]);
        others.take(near).map(|(distance, _)| distance).sum()
    }
}

/// Partial sums of a distance: as many numbers at once as a host's vectors hold.
const LANES: usize = 8;

/// Square of the Euclidean distance.
///
/// The number at `i` goes into the partial sum `i % LANES`, so that the sums are no chain; the order is the same
/// on every machine.
pub(crate) fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let mut take = |a: &[f32], b: &[f32]| {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            let difference = f64::from(*a) - f64::from(*b);
            *sum += difference * difference;
        }
    };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        take(a, b);
    }
    take(a_rest, b_rest);
    sums.iter().sum()
}
