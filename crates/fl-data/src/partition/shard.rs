//! Parts of a few shards each: the examples sorted by class are cut into shards of one size, and every client gets
//! some of them at random.
//!
//! McMahan et al. 2017, section 3 (<https://arxiv.org/abs/1602.05629>): two shards each of 300 examples of MNIST for
//! 100 clients, so that most have two digits. The name is that of Flower's `ShardPartitioner`.

use super::{Partition, PartitionError, PartitionRequest, Partitioner, pool};
use fl_param::{ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

/// Partitioner that deals out shards of examples that are sorted by class.
pub(super) struct Shard;

impl Partitioner for Shard {
    fn name(&self) -> &'static str {
        "shard"
    }

    fn doc(&self) -> &'static str {
        "With shards: examples sorted by class are cut into shards of one size, and each device gets some"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: "shards_per_client",
            default: 2.0,
            min: 1.0,
            max: 1e6,
            whole: true,
            doc: "Shards of a device; all have as many examples",
        }]
    }

    fn decides_sizes(&self) -> bool {
        true
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        params: &Params,
    ) -> Result<Partition, PartitionError> {
        let (examples, clients) = (pool::examples(request)?, request.sizes.len());
        let each = params.whole("shards_per_client") as usize;
        let shards = clients.saturating_mul(each);
        let size = examples.checked_div(shards).unwrap_or(0);
        if size == 0 {
            return Err(PartitionError::Refused(format!(
                "{clients} clients with {each} shards each, and {examples} examples are dealt out: take fewer \
                 clients, deal out more examples, or lower shards_per_client"
            )));
        }
        let mut rng = Pcg32::new(Purpose::SkewedPartition, request.seed);
        // What makes no whole shard is left out here, at random, and not from the last class.
        let sorted = pool::by_class(request, size * shards, &mut rng).concat();
        let mut order: Vec<u32> = (0..shards as u32).collect();
        rng.shuffle(&mut order);
        let part = |own: &[u32]| {
            let shard = |&at: &u32| sorted.chunks(size).nth(at as usize).unwrap_or_default();
            own.iter().map(shard).collect::<Vec<_>>().concat()
        };
        let mut parts: Vec<Vec<u32>> = order.chunks(each).map(part).collect();
        for part in &mut parts {
            rng.shuffle(part);
        }
        Ok(Partition::new(parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(examples: usize, clients: usize, each: u32) -> Result<Partition, PartitionError> {
        let labels: Vec<u8> = (0..examples).map(|index| (index % 10) as u8).collect();
        let sizes = vec![examples / clients; clients];
        let request = PartitionRequest {
            labels: &labels,
            num_classes: 10,
            sizes: &sizes,
            seed: 1,
            natural: None,
        };
        let mut params = Params::defaults(Shard.params());
        params.set("shards_per_client", each.into()).unwrap();
        Shard.deal(&request, &params)
    }

    /// McMahan's: 100 clients with two shards of 300, of classes that have 6,000 each.
    #[test]
    fn two_shards_are_of_two_classes_at_most() {
        let partition = deal(60_000, 100, 2).unwrap();
        let mut of_two = 0;
        for part in partition.clients() {
            assert_eq!(part.len(), 600);
            let mut counts = [0; 10];
            part.iter()
                .for_each(|index| counts[*index as usize % 10] += 1);
            assert!(counts.iter().all(|&count| count % 300 == 0), "{counts:?}");
            of_two += usize::from(counts.iter().filter(|&&count| count > 0).count() == 2);
        }
        assert!(of_two > 70, "{of_two} of 100 clients have two classes");
    }

    #[test]
    fn examples_that_make_no_whole_shard_are_left_out() {
        let partition = deal(1_009, 10, 3).unwrap();
        assert!(partition.sizes().all(|size| size == 99), "3 shards of 33");
        let text = deal(20, 10, 3).unwrap_err().to_string();
        assert!(
            text.contains("10 clients with 3 shards") && text.contains("lower shards"),
            "{text}"
        );
    }
}
