//! Parts of a few classes each.
//!
//! Client `i` has class `i` modulo the number of classes, so that every class is somebody's, and others drawn at
//! random. The clients that have a class share its examples equally. This is Flower's `PathologicalPartitioner` with
//! `class_assignment_mode = "first-deterministic"`; the name is that of McMahan et al. 2017,
//! <https://arxiv.org/abs/1602.05629>.

use super::{Partition, PartitionError, PartitionRequest, Partitioner, pool};
use fl_param::{ParamSpec, Params};
use fl_rng::{Pcg32, Purpose};

/// Partitioner that gives each client a few classes.
pub(super) struct Pathological;

impl Partitioner for Pathological {
    fn name(&self) -> &'static str {
        "pathological"
    }

    fn doc(&self) -> &'static str {
        "With few classes: each device has examples of classes_per_client classes alone"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[pool::CLASSES_PER_CLIENT]
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
        let each = params.whole(pool::CLASSES_PER_CLIENT.name) as usize;
        let takers = takers(&classes, request.sizes.len(), each, &mut rng)?;
        let mut parts = vec![Vec::new(); request.sizes.len()];
        for (class, (examples, takers)) in classes.iter().zip(&takers).enumerate() {
            if takers.len() > examples.len() {
                return Err(runs_out(class, examples.len(), takers.len()));
            }
            let mut rest = examples.as_slice();
            for (at, &client) in takers.iter().enumerate() {
                let more = usize::from(at < examples.len() % takers.len());
                let own = pool::take(&mut rest, examples.len() / takers.len() + more);
                parts[client].extend_from_slice(own);
            }
        }
        for part in &mut parts {
            rng.shuffle(part);
        }
        Ok(Partition::new(parts))
    }
}

/// Draws the clients that have each class.
///
/// # Shapes
/// `[num_classes][clients of the class]`, in the order of clients.
fn takers(
    classes: &[Vec<u32>],
    clients: usize,
    each: usize,
    rng: &mut Pcg32,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    let there = pool::classes_there(classes, each)?;
    let mut takers = vec![Vec::new(); classes.len()];
    for client in 0..clients {
        let first = there[client % there.len()];
        let mut others: Vec<u32> = there.iter().copied().filter(|&c| c != first).collect();
        rng.shuffle(&mut others);
        takers[first as usize].push(client);
        for &class in others.iter().take(each - 1) {
            takers[class as usize].push(client);
        }
    }
    Ok(takers)
}

fn runs_out(class: usize, examples: usize, takers: usize) -> PartitionError {
    PartitionError::Refused(format!(
        "class {class} runs out: {takers} clients take from it, and {examples} of its examples are dealt out: \
         take fewer clients, deal out more examples, or lower classes_per_client"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(labels: &[u8], clients: usize, each: u32) -> Result<Partition, PartitionError> {
        let sizes = vec![labels.len() / clients; clients];
        let request = PartitionRequest {
            labels,
            num_classes: 10,
            sizes: &sizes,
            seed: 3,
            natural: None,
        };
        let mut params = Params::defaults(Pathological.params());
        params.set("classes_per_client", each.into()).unwrap();
        Pathological.deal(&request, &params)
    }

    fn classes(labels: &[u8], part: &[u32]) -> Vec<u8> {
        let mut classes: Vec<u8> = part.iter().map(|&index| labels[index as usize]).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    #[test]
    fn every_client_has_as_many_classes_as_asked_for_and_every_class_is_somebodys() {
        let labels: Vec<u8> = (0..3000_u32).map(|index| (index % 10) as u8).collect();
        for each in [1, 2, 5, 10] {
            let partition = deal(&labels, 20, each).unwrap();
            for (client, part) in partition.clients().enumerate() {
                let own = classes(&labels, part);
                assert_eq!(own.len(), each as usize);
                assert!(own.contains(&(client as u8 % 10)));
            }
            assert_eq!(partition.sizes().sum::<usize>(), 3000, "all are dealt out");
        }
    }

    #[test]
    fn a_class_that_runs_out_is_named_with_a_way_out() {
        let labels: Vec<u8> = (0..100).map(|index| u8::from(index < 3)).collect();
        let text = deal(&labels, 10, 1).unwrap_err().to_string();
        assert!(text.contains("class 1 runs out: 5 clients") && text.contains("and 3 of its"));
        let text = deal(&labels, 10, 3).unwrap_err().to_string();
        assert!(
            text.contains("of 2 classes: lower classes_per_client"),
            "{text}"
        );
    }
}
