//! The part of the data that a node has: the examples of its cluster, one client behind the other.

use fl_data::{Dataset, Partition, Splits};
use std::ops::Range;
use zfl_experiment::DataPart;

/// Most classes that a label, which is an octet, tells apart.
const MOST_CLASSES: u32 = 256;

/// Octets of the examples of a cluster: all labels, then all inputs.
pub(super) fn octets(train: &Dataset, partition: &Partition, cluster: Range<u32>) -> Vec<u8> {
    let indices: Vec<u32> = cluster
        .flat_map(|client| partition.indices(client as usize).iter().copied())
        .collect();
    let mut octets = train.gather_labels(&indices);
    octets.extend(train.gather_inputs(&indices));
    octets
}

/// Sizes of a part, as the root tells them.
#[derive(Debug)]
pub(super) struct Sizes {
    pub cluster: Range<u32>,
    pub num_inputs: u32,
    pub num_classes: u32,
    pub num_train: u32,
    pub each: Vec<u32>,
}

/// The part that these octets are; none if they are none of these sizes.
pub(super) fn read(sizes: Sizes, clients: u32, mut octets: Vec<u8>) -> Option<DataPart> {
    let examples: u64 = sizes.each.iter().map(|&size| u64::from(size)).sum();
    let needed = examples.checked_mul(u64::from(sizes.num_inputs) + 1);
    let is_whole = needed == Some(octets.len() as u64)
        && sizes.each.len() == sizes.cluster.len()
        && sizes.cluster.end <= clients
        && (1..=MOST_CLASSES).contains(&sizes.num_classes);
    if !is_whole {
        return None;
    }
    let inputs = octets.split_off(usize::try_from(examples).ok()?);
    let num_classes = sizes.num_classes as usize;
    if octets
        .iter()
        .any(|&label| usize::from(label) >= num_classes)
    {
        return None;
    }
    let num_inputs = sizes.num_inputs as usize;
    let dataset = |inputs, labels| Dataset {
        inputs,
        labels,
        num_inputs,
        num_classes,
    };
    Some(DataPart {
        splits: Splits {
            train: dataset(inputs, octets),
            test: dataset(Vec::new(), Vec::new()),
        },
        partition: Partition::of_part(clients, sizes.cluster, &sizes.each),
        num_train: sizes.num_train,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_examples_of_its_clients_and_no_others() {
        let train = fl_data::digits().unwrap().splits.train;
        let whole = fl_data::iid(train.len(), &[3, 5, 1, 7], 1).unwrap();
        let octets = octets(&train, &whole, 1..4);
        let sizes = |each: &[u32]| Sizes {
            cluster: 1..4,
            num_inputs: train.num_inputs as u32,
            num_classes: train.num_classes as u32,
            num_train: train.len() as u32,
            each: each.to_vec(),
        };
        let part = read(sizes(&[5, 1, 7]), 4, octets.clone()).unwrap();
        assert_eq!(part.splits.train.len(), 13);
        for client in 0..4 {
            let (own, all) = (part.partition.indices(client), whole.indices(client));
            let own = part.splits.train.gather_inputs(own);
            let expected = match client {
                0 => Vec::new(),
                _ => train.gather_inputs(all),
            };
            assert_eq!(own, expected, "client {client}");
        }
        assert!(read(sizes(&[5, 1, 8]), 4, octets.clone()).is_none());
        assert!(read(sizes(&[5, 7]), 4, octets.clone()).is_none());
        assert!(read(sizes(&[5, 1, 7]), 3, octets).is_none());
    }
}
