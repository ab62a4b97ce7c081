//! Parts of a few classes each, whose sizes follow a power law.
//!
//! The split of MNIST of FedProx, Li et al. 2020 (<https://arxiv.org/abs/1812.06127>, section 5.1): 1,000 clients with
//! two digits each. Client `i` has the classes `i`, `i + 1`, … modulo their number: a few examples of each, and of
//! the rest of the class a share that is drawn from a log-normal distribution. In Flower it is a
//! `DistributionPartitioner`.

use super::gamma::normal;
use super::{Partition, PartitionError, PartitionRequest, Partitioner, pool};
use fl_param::{ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

/// Partitioner of few classes in log-normal sizes.
pub(super) struct PowerLaw;

impl Partitioner for PowerLaw {
    fn name(&self) -> &'static str {
        "power-law"
    }

    fn doc(&self) -> &'static str {
        "With few classes in sizes of a power law: few devices have many examples, many have few (FedProx)"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[
            pool::CLASSES_PER_CLIENT,
            ParamSpec {
                name: "min_per_class",
                default: 5.0,
                min: 1.0,
                max: 1e6,
                whole: true,
                doc: "Examples that a device has of each of its classes before the rest is shared out",
            },
            ParamSpec {
                name: "sigma",
                default: 2.0,
                min: 0.0,
                max: 10.0,
                whole: false,
                doc: "Spread of the sizes: the standard deviation of their logarithm; 0 for all alike",
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
        let mut rng = Pcg32::new(Purpose::SkewedPartition, request.seed);
        let classes = pool::by_class(request, pool::examples(request)?, &mut rng);
        let (clients, least) = (request.sizes.len(), params.whole("min_per_class") as usize);
        let takers = takers(
            &classes,
            clients,
            params.whole(pool::CLASSES_PER_CLIENT.name) as usize,
        )?;
        let mut parts = vec![Vec::new(); clients];
        for (class, (examples, takers)) in classes.iter().zip(&takers).enumerate() {
            let needed = takers.len().saturating_mul(least);
            let Some(spare) = examples.len().checked_sub(needed) else {
                return Err(runs_out(class, examples.len(), takers.len(), least));
            };
            let mut rest = examples.as_slice();
            let shares = shares(takers.len(), params.get("sigma"), &mut rng);
            for (&client, share) in takers.iter().zip(shares) {
                let count = least + (share * spare as f64) as usize;
                parts[client].extend_from_slice(pool::take(&mut rest, count));
            }
        }
        for part in &mut parts {
            rng.shuffle(part);
        }
        Ok(Partition::new(parts))
    }
}

/// The clients that have each class.
///
/// # Shapes
/// `[num_classes][clients of the class]`, in the order of clients.
fn takers(
    classes: &[Vec<u32>],
    clients: usize,
    each: usize,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    let there = pool::classes_there(classes, each)?;
    let mut takers = vec![Vec::new(); classes.len()];
    for client in 0..clients {
        for next in 0..each {
            takers[there[(client + next) % there.len()] as usize].push(client);
        }
    }
    Ok(takers)
}

/// Draws log-normal shares that add up to 1.
fn shares(count: usize, sigma: f64, rng: &mut Pcg32) -> Vec<f64> {
    let weights: Vec<f64> = (0..count).map(|_| libm::exp(sigma * normal(rng))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn runs_out(class: usize, examples: usize, takers: usize, least: usize) -> PartitionError {
    PartitionError::Refused(format!(
        "class {class} runs out: {takers} clients take {least} of it each, and {examples} of its examples are \
         dealt out: take fewer clients, deal out more examples, or lower min_per_class"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(labels: &[u8], clients: usize, sigma: f64) -> Result<Partition, PartitionError> {
        let sizes = vec![labels.len() / clients; clients];
        let request = PartitionRequest {
            labels,
            num_classes: 10,
            sizes: &sizes,
            seed: 1,
            natural: None,
        };
        let mut params = Params::defaults(PowerLaw.params());
        params.set("sigma", sigma).unwrap();
        PowerLaw.deal(&request, &params)
    }

    fn labels(examples: usize) -> Vec<u8> {
        (0..examples).map(|index| (index % 10) as u8).collect()
    }

    /// Li's 1,000 clients: two digits and ten examples at least, and a few that have very many.
    #[test]
    fn sizes_have_a_long_tail_and_two_classes() {
        let labels = labels(60_000);
        let partition = deal(&labels, 1_000, 2.0).unwrap();
        for (client, part) in partition.clients().enumerate() {
            let own = [client % 10, (client + 1) % 10];
            assert!(
                part.iter()
                    .all(|&index| own.contains(&usize::from(labels[index as usize])))
            );
        }
        let mut sizes: Vec<usize> = partition.sizes().collect();
        sizes.sort_unstable();
        assert!(
            sizes[0] >= 10 && sizes[500] < 30,
            "{} {}",
            sizes[0],
            sizes[500]
        );
        assert!(sizes[999] > 1_000, "{}", sizes[999]);
        let dealt: usize = sizes.iter().sum();
        assert!((58_000..=60_000).contains(&dealt), "{dealt}");
    }

    #[test]
    fn without_spread_all_have_as_many() {
        let partition = deal(&labels(2_000), 20, 0.0).unwrap();
        assert!(partition.sizes().all(|size| (98..=100).contains(&size)));
    }

    #[test]
    fn a_class_that_runs_out_is_named_with_a_way_out() {
        let text = deal(&labels(900), 100, 2.0).unwrap_err().to_string();
        assert!(
            text.contains("class 0 runs out: 20 clients take 5"),
            "{text}"
        );
        assert!(text.contains("lower min_per_class"), "{text}");
    }
}
