//! Parts drawn apart from one another, each from all examples.

use super::{Partition, PartitionError, PartitionRequest, Partitioner};
use fl_param::Params;
use fl_rng::{Pcg32, Purpose, derive_seed};
use std::collections::HashSet;

/// Partitioner that lets clients share examples: there may be more clients than examples.
pub(super) struct Overlapping;

impl Partitioner for Overlapping {
    fn name(&self) -> &'static str {
        "overlapping"
    }

    fn doc(&self) -> &'static str {
        "At random, for each device from all examples: devices share some, and may be more than there are examples"
    }

    fn decides_sizes(&self) -> bool {
        false
    }

    fn shares(&self) -> bool {
        true
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        _: &Params,
    ) -> Result<Partition, PartitionError> {
        let available = super::available(request.labels.len())?;
        for (client, &size) in request.sizes.iter().enumerate() {
            if size == 0 {
                return Err(PartitionError::EmptyClient { client });
            }
            if size > available as usize {
                let (asked, available) = (size as u64, available.into());
                return Err(PartitionError::TooFewExamples { asked, available });
            }
        }
        let sizes = (0..).zip(request.sizes);
        let own = sizes.map(|(client, &size)| draw(available, size as u32, client, request.seed));
        Ok(Partition::of(own))
    }
}

/// Draws `size` of the examples below `available`, none twice, in random order (Floyd's algorithm, Bentley 1987).
fn draw(available: u32, size: u32, client: u32, seed: u64) -> Vec<u32> {
    let mut rng = Pcg32::new(Purpose::SkewedPartition, derive_seed(seed, client, 0));
    let (mut own, mut drawn) = (Vec::with_capacity(size as usize), HashSet::new());
    for last in available - size..available {
        let any = rng.below(last + 1);
        let index = if drawn.insert(any) { any } else { last };
        drawn.insert(index);
        own.push(index);
    }
    rng.shuffle(&mut own);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(sizes: &[usize], seed: u64) -> Result<Partition, PartitionError> {
        let request = PartitionRequest {
            labels: &[0; 10],
            num_classes: 1,
            sizes,
            seed,
            natural: None,
        };
        Overlapping.deal(&request, &Params::defaults(Overlapping.params()))
    }

    #[test]
    fn more_devices_than_examples_have_each_their_own_draw_without_repeats() {
        let dealt = deal(&[7; 40], 1).unwrap();
        for own in dealt.clients() {
            let mut own = own.to_vec();
            own.sort_unstable();
            own.dedup();
            assert!(own.len() == 7 && own.iter().all(|&index| index < 10));
        }
        let of_each = (0..10).map(|index| dealt.clients().flatten().filter(|&&one| one == index).count());
        assert!(of_each.clone().all(|count| (14..40).contains(&count)), "28 each on the mean");
        assert_ne!(dealt.indices(0), dealt.indices(1));
    }

    #[test]
    fn a_device_has_the_same_examples_however_many_others_there_are() {
        let (few, many) = (deal(&[3, 4], 9).unwrap(), deal(&[3, 4, 10, 1], 9).unwrap());
        assert_eq!((few.indices(0), few.indices(1)), (many.indices(0), many.indices(1)));
        assert_ne!(few, deal(&[3, 4], 8).unwrap());
    }

    #[test]
    fn nobody_has_more_than_there_is_nor_nothing() {
        let asked = PartitionError::TooFewExamples { asked: 11, available: 10 };
        assert_eq!(deal(&[1, 11], 1), Err(asked));
        assert_eq!(deal(&[1, 0], 1), Err(PartitionError::EmptyClient { client: 1 }));
    }
}
