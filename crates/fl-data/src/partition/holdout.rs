//! The examples that each client holds out of its training, to evaluate models on.

use super::Partition;
use crate::dataset::Dataset;
use fl_rng::{Pcg32, Purpose};

impl Partition {
    /// Splits the examples of each client into those to train on and those held out, each in the order of
    /// before.
    ///
    /// Stratified: a client holds out of each of its classes as many as its share says, to less than one. It
    /// follows from the seed, the client and its labels. A client with one example holds none out.
    pub fn hold_out(&self, data: &Dataset, share: f64, seed: u64) -> (Self, Self) {
        if share <= 0.0 {
            return (
                self.clone(),
                Self::new(vec![Vec::new(); self.num_clients()]),
            );
        }
        let each = self.clients().enumerate();
        let each = each.map(|(client, indices)| split(client, indices, data, share, seed));
        let (train, holdout) = each.unzip();
        (Self::new(train), Self::new(holdout))
    }
}

fn split(
    client: usize,
    indices: &[u32],
    data: &Dataset,
    share: f64,
    seed: u64,
) -> (Vec<u32>, Vec<u32>) {
    let total = indices.len() as u64;
    let held = ((share * total as f64).round() as u64).clamp(1, total.max(2) - 1);
    if total < 2 {
        return (indices.to_vec(), Vec::new());
    }
    let labels = data.gather_labels(indices);
    let mut order: Vec<u32> = (0..indices.len() as u32).collect();
    let seed = fl_rng::derive_seed(seed, client as u32, 0);
    let mut rng = Pcg32::new(Purpose::Holdout, seed);
    rng.shuffle(&mut order);
    order.sort_by_key(|&at| labels[at as usize]);
    // Every so many-th of all in the order of their classes, from a random place on.
    let offset = u64::from(rng.below(indices.len() as u32));
    let strides = |place: u64| (place * held + offset) / total;
    let mut is_held = vec![false; indices.len()];
    for (place, &at) in (0..).zip(&order) {
        is_held[at as usize] = strides(place + 1) > strides(place);
    }
    let part = |wanted: bool| {
        let those = indices.iter().zip(&is_held);
        let those = those.filter(|(_, held)| **held == wanted);
        those.map(|(index, _)| *index).collect()
    };
    (part(false), part(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(labels: Vec<u8>) -> Dataset {
        Dataset {
            inputs: vec![0; labels.len()],
            labels,
            num_inputs: 1,
            num_classes: 10,
        }
    }

    #[test]
    fn every_example_is_in_one_part_and_each_class_gives_its_share() {
        let data = data((0..1000).map(|at| (at * at % 7) as u8).collect());
        let partition = Partition::new(vec![(0..600).rev().collect(), (600..1000).collect()]);
        let (train, holdout) = partition.hold_out(&data, 0.2, 1);
        for client in 0..2 {
            let (kept, held) = (train.indices(client), holdout.indices(client));
            let all = partition.indices(client);
            assert_eq!(held.len(), all.len() / 5);
            let mut both = [kept, held].concat();
            let place = |index: &u32| all.iter().position(|one| one == index);
            assert!(kept.is_sorted_by_key(place) && held.is_sorted_by_key(place));
            both.sort_unstable_by_key(place);
            assert_eq!(both, all);
        }
        let (whole, held) = (partition.label_counts(&data), holdout.label_counts(&data));
        for (whole, held) in whole.iter().flatten().zip(held.iter().flatten()) {
            let share = f64::from(*whole) * 0.2;
            assert!((f64::from(*held) - share).abs() < 1.0, "{held} of {whole}");
        }
    }

    #[test]
    fn the_split_is_of_the_seed_and_of_the_client_alone() {
        let data = data((0..400).map(|at| (at % 10) as u8).collect());
        let two = Partition::new(vec![(0..200).collect(), (200..400).collect()]);
        let one = Partition::new(vec![(0..200).collect()]);
        let held = |partition: &Partition, seed| partition.hold_out(&data, 0.1, seed).1;
        assert_eq!(held(&two, 3).indices(0), held(&one, 3).indices(0));
        assert_ne!(held(&two, 3), held(&two, 4));
        let (first, second) = (held(&two, 3), held(&two, 3));
        let moved: Vec<u32> = second.indices(1).iter().map(|index| index - 200).collect();
        assert_ne!(first.indices(0), moved, "clients are drawn apart");
    }

    #[test]
    fn something_is_left_on_either_side_or_nothing_is_held_out() {
        let data = data(vec![0; 10]);
        let partition = Partition::new(vec![vec![0], vec![1, 2], (3..10).collect(), vec![]]);
        for (share, sizes) in [(0.01, [0, 1, 1, 0]), (0.99, [0, 1, 6, 0]), (0.0, [0; 4])] {
            let (train, holdout) = partition.hold_out(&data, share, 1);
            assert_eq!(holdout.sizes().collect::<Vec<_>>(), sizes);
            let both = train.sizes().zip(holdout.sizes()).map(|(a, b)| a + b);
            assert!(both.eq(partition.sizes()));
        }
    }
}
