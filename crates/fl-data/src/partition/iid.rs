//! Independent and identically distributed parts, of the sizes asked for.

use super::{Partition, PartitionError, PartitionRequest, Partitioner};
use fl_param::Params;
use fl_rng::{Pcg32, Purpose};

/// Partitioner that deals at random: clients differ in how many examples they have, not in which kind.
pub(super) struct Iid;

impl Partitioner for Iid {
    fn name(&self) -> &'static str {
        "iid"
    }

    fn doc(&self) -> &'static str {
        "At random: every device has examples of the same kinds"
    }

    fn decides_sizes(&self) -> bool {
        false
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        _: &Params,
    ) -> Result<Partition, PartitionError> {
        iid(request.labels.len(), request.sizes, request.seed)
    }
}

/// Size of each of `clients` equal parts of `num_examples`: rounded down. The at most
/// `clients - 1` examples left over are used by no one, so that all clients weigh the same.
pub fn equal_share(num_examples: usize, clients: u32) -> usize {
    num_examples.checked_div(clients as usize).unwrap_or(0)
}

/// Deals examples out independently and identically distributed: client `i` gets the `sizes[i]`
/// next ones of a random permutation.
///
/// The permutation is [`Pcg32::shuffle`] with [`Purpose::IidPartition`] of `seed`.
///
/// # Errors
/// [`PartitionError`] if there are too few examples or a size is 0.
pub fn iid(num_examples: usize, sizes: &[usize], seed: u64) -> Result<Partition, PartitionError> {
    let available = super::available(num_examples)?;
    let asked = sizes
        .iter()
        .fold(0_u64, |sum, &size| sum.saturating_add(size as u64));
    if asked > u64::from(available) {
        return Err(PartitionError::TooFewExamples {
            asked,
            available: available.into(),
        });
    }
    if let Some(client) = sizes.iter().position(|&size| size == 0) {
        return Err(PartitionError::EmptyClient { client });
    }
    let mut order: Vec<u32> = (0..available).collect();
    Pcg32::new(Purpose::IidPartition, seed).shuffle(&mut order);
    let mut rest = order.as_slice();
    let mut take = |&size: &usize| {
        let (own, others) = rest.split_at(size);
        rest = others;
        own.to_vec()
    };
    Ok(Partition::new(sizes.iter().map(&mut take).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_same_seed_deals_the_same_for_ever() {
        // Computed with an implementation apart, in Python, from the description above.
        let partition = iid(10, &[3, 4], 42).unwrap();
        assert_eq!(partition.indices(0), [4, 0, 6]);
        assert_eq!(partition.indices(1), [9, 7, 2, 3]);
        assert_ne!(partition, iid(10, &[3, 4], 43).unwrap());
    }

    #[test]
    fn the_partitioner_deals_by_the_sizes_asked_for() {
        let request = PartitionRequest {
            labels: &[0; 10],
            num_classes: 1,
            sizes: &[3, 4],
            seed: 42,
            natural: None,
        };
        let dealt = Iid.deal(&request, &Params::defaults(Iid.params()));
        assert_eq!(dealt, iid(10, &[3, 4], 42));
    }

    #[test]
    fn what_cannot_be_dealt_is_refused() {
        let error = iid(10, &[6, 5], 0).unwrap_err();
        assert_eq!(
            error,
            PartitionError::TooFewExamples {
                asked: 11,
                available: 10
            }
        );
        assert_eq!(
            iid(10, &[6, 0], 0).unwrap_err(),
            PartitionError::EmptyClient { client: 1 }
        );
        assert!(iid(10, &[usize::MAX, usize::MAX], 0).is_err());
    }

    #[test]
    fn an_equal_share_is_rounded_down() {
        assert_eq!(equal_share(60_000, 50), 1200);
        assert_eq!(equal_share(60_000, 7), 8571);
        assert_eq!(equal_share(3, 7), 0);
        assert_eq!(equal_share(3, 0), 0);
    }

    #[test]
    fn a_client_that_is_unknown_has_nothing() {
        assert!(iid(10, &[10], 0).unwrap().indices(1).is_empty());
    }

    proptest! {
        #[test]
        fn every_example_is_dealt_at_most_once(
            sizes in prop::collection::vec(1_usize..20, 1..10), spare in 0_usize..20, seed: u64
        ) {
            let asked: usize = sizes.iter().sum();
            let partition = iid(asked + spare, &sizes, seed).unwrap();
            for (client, &size) in sizes.iter().enumerate() {
                prop_assert_eq!(partition.indices(client).len(), size);
            }
            let mut all: Vec<u32> = partition.clients().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), asked);
            prop_assert!(all.iter().all(|&index| (index as usize) < asked + spare));
        }
    }
}
