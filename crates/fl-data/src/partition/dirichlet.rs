//! Parts with skewed labels, by Dirichlet's distribution.
//!
//! For each class the shares of the clients are drawn from a symmetric Dirichlet distribution: a small
//! `alpha` gives a class to few clients, a large one gives every client the same mix. The method is
//! that of Yurochkin et al. 2019 (<https://arxiv.org/abs/1905.12022>) and Hsu, Qi and Brown 2019
//! (<https://arxiv.org/abs/1909.06335>), with the parameters of Flower's `DirichletPartitioner`.

use super::gamma::log_gamma;
use super::{Partition, PartitionError, PartitionRequest, Partitioner, pool};
use fl_param::{ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

/// Draws before the partition is given up.
const MAX_DRAWS: u32 = 100;

/// Partitioner that skews labels.
pub(super) struct Dirichlet;

impl Partitioner for Dirichlet {
    fn name(&self) -> &'static str {
        "dirichlet"
    }

    fn doc(&self) -> &'static str {
        "With skewed labels: each class is shared out by Dirichlet's distribution"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[
            ParamSpec {
                name: "alpha",
                default: 0.5,
                min: 1e-6,
                max: 1e6,
                whole: false,
                doc: "Concentration: small for devices with few kinds of examples, large for all alike",
            },
            ParamSpec {
                name: "min_partition_size",
                default: 10.0,
                min: 1.0,
                max: 1e9,
                whole: true,
                doc: "Least examples of a device; the shares are drawn again until all have as many",
            },
            ParamSpec {
                name: "self_balancing",
                default: 1.0,
                min: 0.0,
                max: 1.0,
                whole: true,
                doc: "Gives nothing more to a device that has the mean number of examples already",
            },
        ]
    }

    fn decides_sizes(&self) -> bool {
        true
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        params: &Params,
    ) -> Result<Partition, PartitionError> {
        let examples = pool::examples(request)?;
        let clients = request.sizes.len();
        let least = params.get("min_partition_size") as usize;
        if clients.saturating_mul(least) > examples {
            return Err(PartitionError::Refused(format!(
                "{clients} clients with at least {least} examples each, and {examples} examples are dealt \
                 out: take fewer clients, deal out more examples, or lower min_partition_size"
            )));
        }
        let mut rng = Pcg32::new(Purpose::SkewedPartition, request.seed);
        let classes = pool::by_class(request, examples, &mut rng);
        let draw = Draw {
            alpha: params.get("alpha"),
            self_balancing: params.get("self_balancing") != 0.0,
            clients,
            mean: examples as f64 / clients as f64,
        };
        let mut draws = (0..MAX_DRAWS).map(|_| draw.counts(&classes, &mut rng));
        let enough = draws.find(|(_, sizes)| sizes.iter().all(|&size| size >= least));
        let Some((counts, _)) = enough else {
            return Err(PartitionError::Refused(format!(
                "after {MAX_DRAWS} draws with alpha = {} the smallest of {clients} clients never had \
                 {least} examples: raise alpha, take fewer clients, or lower min_partition_size",
                draw.alpha
            )));
        };
        Ok(deal(&classes, &counts, clients, &mut rng))
    }
}

/// Distribution that shares are drawn from.
struct Draw {
    alpha: f64,
    self_balancing: bool,
    clients: usize,
    /// Examples of a client on average.
    mean: f64,
}

impl Draw {
    /// Draws how many examples of each class each client has, and adds up the sizes of the clients.
    ///
    /// # Shapes
    /// `[num_classes][clients]` and `[clients]`.
    fn counts(&self, classes: &[Vec<u32>], rng: &mut Pcg32) -> (Vec<Vec<usize>>, Vec<usize>) {
        let mut sizes = vec![0; self.clients];
        let mut counts = Vec::with_capacity(classes.len());
        for class in classes {
            let shares = self.shares(&sizes, rng);
            let row = split(class.len(), &shares);
            for (size, count) in sizes.iter_mut().zip(&row) {
                *size += count;
            }
            counts.push(row);
        }
        (counts, sizes)
    }

    /// Draws the shares of the clients in a class. They add up to 1 as long as there are examples left.
    fn shares(&self, sizes: &[usize], rng: &mut Pcg32) -> Vec<f64> {
        let is_full = |size: usize| self.self_balancing && size as f64 >= self.mean;
        let weights = sizes.iter().map(|&size| {
            // Drawn for all, so that who is full changes nothing for the others.
            let weight = log_gamma(rng, self.alpha);
            if is_full(size) {
                f64::NEG_INFINITY
            } else {
                weight
            }
        });
        let weights: Vec<f64> = weights.collect();
        // Gamma samples divided by their sum are Dirichlet's; taking the largest out first keeps both
        // within the range of numbers.
        let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            // All are full, so nothing is left to share out.
            return vec![0.0; self.clients];
        }
        let shares = weights.iter().map(|weight| libm::exp(weight - largest));
        let shares: Vec<f64> = shares.collect();
        let sum: f64 = shares.iter().sum();
        shares.iter().map(|share| share / sum).collect()
    }
}

/// Splits a number of examples by shares, without a remainder.
fn split(examples: usize, shares: &[f64]) -> Vec<usize> {
    let (mut sum, mut taken) = (0.0, 0);
    let mut counts: Vec<usize> = Vec::with_capacity(shares.len());
    for share in shares {
        sum += share;
        let end = (libm::floor(sum * examples as f64 + 0.5) as usize).clamp(taken, examples);
        counts.push(end - taken);
        taken = end;
    }
    debug_assert_eq!(taken, examples, "the shares add up to 1");
    counts
}

/// Gives each client its examples of every class, in random order.
fn deal(classes: &[Vec<u32>], counts: &[Vec<usize>], clients: usize, rng: &mut Pcg32) -> Partition {
    let mut parts = vec![Vec::new(); clients];
    for (class, counts) in classes.iter().zip(counts) {
        let mut rest = class.as_slice();
        for (part, &count) in parts.iter_mut().zip(counts) {
            let (own, others) = rest.split_at(count);
            part.extend_from_slice(own);
            rest = others;
        }
    }
    for part in &mut parts {
        rng.shuffle(part);
    }
    Partition::new(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// Labels of ten classes, equally many of each if that goes.
    fn labels(examples: usize) -> Vec<u8> {
        (0..examples).map(|index| (index % 10) as u8).collect()
    }

    fn params(values: &[(&str, f64)]) -> Params {
        let mut params = Params::defaults(Dirichlet.params());
        for &(name, value) in values {
            params.set(name, value).unwrap();
        }
        params
    }

    fn deal_with(
        examples: usize,
        clients: usize,
        seed: u64,
        values: &[(&str, f64)],
    ) -> Result<Partition, PartitionError> {
        let (labels, sizes) = (labels(examples), vec![examples / clients; clients]);
        let request = PartitionRequest {
            labels: &labels,
            num_classes: 10,
            sizes: &sizes,
            seed,
            natural: None,
        };
        Dirichlet.deal(&request, &params(values))
    }

    /// Label counts of each client.
    fn counts(partition: &Partition) -> Vec<[usize; 10]> {
        let count = |indices: &[u32]| {
            let mut counts = [0; 10];
            indices
                .iter()
                .for_each(|index| counts[*index as usize % 10] += 1);
            counts
        };
        partition.clients().map(count).collect()
    }

    fn digest(partition: &Partition) -> String {
        let mut hash = Sha256::new();
        for indices in partition.clients() {
            hash.update((indices.len() as u32).to_le_bytes());
            indices
                .iter()
                .for_each(|index| hash.update(index.to_le_bytes()));
        }
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_same_seed_deals_the_same_on_every_machine() {
        let partition = deal_with(6_000, 20, 42, &[]).unwrap();
        assert_eq!(partition, deal_with(6_000, 20, 42, &[]).unwrap());
        assert_ne!(partition, deal_with(6_000, 20, 43, &[]).unwrap());
        assert_eq!(
            digest(&partition),
            "7534a55bd7639b251c99fbce6922ffa09127bc9c777c132c6f97389947cac573"
        );
        // The least alpha whose samples are drawn without a detour.
        let partition = deal_with(6_000, 20, 42, &[("alpha", 1.0)]).unwrap();
        assert_eq!(
            digest(&partition),
            "f80f13d54094a898521296ac3b2266ae6d12dfe81b462f1866d6f09fc44d9217"
        );
    }

    #[test]
    fn a_large_alpha_gives_every_client_the_same_mix() {
        let partition = deal_with(10_000, 10, 1, &[("alpha", 1e6)]).unwrap();
        for counts in counts(&partition) {
            assert!(counts.iter().all(|n| n.abs_diff(100) <= 3), "{counts:?}");
        }
    }

    #[test]
    fn a_small_alpha_gives_a_client_few_classes() {
        let partition = deal_with(10_000, 10, 1, &[("alpha", 0.05)]).unwrap();
        let counts = counts(&partition);
        let main = counts.iter().map(|counts| {
            let two = {
                let mut sorted = *counts;
                sorted.sort_unstable();
                sorted[8] + sorted[9]
            };
            two as f64 / counts.iter().sum::<usize>() as f64
        });
        let mean = main.sum::<f64>() / 10.0;
        assert!(
            mean > 0.8,
            "{mean} of the examples are of two classes: {counts:?}"
        );
    }

    #[test]
    fn balance_bounds_the_sizes() {
        let largest = |self_balancing| {
            let values = [
                ("alpha", 0.1),
                ("self_balancing", self_balancing),
                ("min_partition_size", 1.0),
            ];
            let dealt = (0..10).map(|seed| deal_with(20_000, 10, seed, &values).unwrap());
            dealt.flat_map(|partition| partition.sizes().max()).max()
        };
        // A client below the mean of 2,000 takes at most one more class of 2,000.
        assert!(largest(1.0) < Some(4_000));
        assert!(largest(0.0) > Some(4_000));
    }

    #[test]
    fn a_client_with_its_mean_of_examples_takes_no_more() {
        // Each class of ten goes to one client, and two of the four make a client full.
        let labels: Vec<u8> = (0..40).map(|index| index % 4).collect();
        for seed in 0..8 {
            let request = PartitionRequest {
                labels: &labels,
                num_classes: 4,
                sizes: &[20, 20],
                seed,
                natural: None,
            };
            let values = [("alpha", 1e-6), ("min_partition_size", 1.0)];
            let partition = Dirichlet.deal(&request, &params(&values)).unwrap();
            assert_eq!(partition.sizes().collect::<Vec<_>>(), [20, 20]);
        }
    }

    #[test]
    fn just_as_many_examples_as_are_needed_are_enough() {
        let partition = deal_with(10, 1, 1, &[]).unwrap();
        assert_eq!(partition.sizes().collect::<Vec<_>>(), [10]);
    }

    #[test]
    fn the_smallest_alpha_is_dealt_or_refused_but_never_nonsense() {
        // Each class goes to one client: ten classes, so eleven clients are one too many.
        let fits = deal_with(1_000, 2, 5, &[("alpha", 1e-6)]).unwrap();
        assert_eq!(fits.sizes().sum::<usize>(), 1_000);
        let error = deal_with(1_100, 11, 5, &[("alpha", 1e-6)]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("alpha = 0.000001") && text.contains("raise alpha"),
            "{text}"
        );
    }

    #[test]
    fn more_clients_than_examples_are_refused_with_a_way_out() {
        let sizes = [0; 50];
        let request = PartitionRequest {
            labels: &labels(40),
            num_classes: 10,
            sizes: &sizes,
            seed: 1,
            natural: None,
        };
        let text = Dirichlet
            .deal(&request, &params(&[]))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("50 clients") && text.contains("fewer clients"),
            "{text}"
        );
        let sizes = [1; 50];
        let request = PartitionRequest {
            sizes: &sizes,
            ..request
        };
        let error = Dirichlet.deal(&request, &params(&[])).unwrap_err();
        assert!(matches!(
            error,
            PartitionError::TooFewExamples {
                asked: 50,
                available: 40
            }
        ));
    }

    proptest! {
        #[test]
        fn every_example_is_dealt_at_most_once_and_all_that_were_asked_for(
            clients in 1_usize..12,
            each in 10_usize..60,
            spare in 0_usize..100,
            alpha in prop::sample::select(vec![0.01, 0.3, 1.0, 100.0]),
            self_balancing in 0_u8..2,
            seed: u64,
        ) {
            let labels = labels(clients * each + spare);
            let sizes = vec![each; clients];
            let request = PartitionRequest { labels: &labels, num_classes: 10, sizes: &sizes, seed, natural: None };
            let values = [
                ("alpha", alpha),
                ("self_balancing", self_balancing.into()),
                ("min_partition_size", 1.0),
            ];
            let partition = match Dirichlet.deal(&request, &params(&values)) {
                Err(PartitionError::Refused(_)) => return Ok(()),
                dealt => dealt.unwrap(),
            };
            prop_assert!(partition.sizes().all(|size| size > 0));
            prop_assert_eq!(partition.num_clients(), clients);
            let mut all: Vec<u32> = partition.clients().flatten().copied().collect();
            prop_assert_eq!(all.len(), clients * each);
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), clients * each);
            prop_assert!(all.iter().all(|&index| (index as usize) < labels.len()));
        }

        #[test]
        fn shares_split_without_a_remainder(
            examples in 0_usize..10_000, weights in prop::collection::vec(0.0..1.0_f64, 1..40)
        ) {
            let sum: f64 = weights.iter().sum();
            prop_assume!(sum > 0.0);
            let shares: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
            let counts = split(examples, &shares);
            prop_assert_eq!(counts.iter().sum::<usize>(), examples);
            for (count, share) in counts.iter().zip(&shares) {
                prop_assert!((*count as f64 - share * examples as f64).abs() <= 1.0 + 1e-6);
            }
        }
    }
}
