//! Parts as the data have them: by who an example is from, or by a file of indices. Flower's `NaturalIdPartitioner`.

use super::{Natural, Partition, PartitionError, PartitionRequest, Partitioner};
use fl_param::Params;

/// Partitioner that leaves each example with the one it is from.
pub(super) struct ById;

impl Partitioner for ById {
    fn name(&self) -> &'static str {
        "natural"
    }

    fn doc(&self) -> &'static str {
        "As the data have it: by their column `client`, or by the file that --partition-file names"
    }

    fn decides_sizes(&self) -> bool {
        true
    }

    fn num_clients(&self, natural: Option<&Natural>) -> Option<usize> {
        natural.map(|natural| natural.parts.len())
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        _: &Params,
    ) -> Result<Partition, PartitionError> {
        let refused = |why: String| Err(PartitionError::Refused(why));
        let Some(natural) = request.natural else {
            return refused(
                "the data do not say whom an example is from: take data with a column `client` \
                 (docs/data.md), give a file of indices with --partition-file, or take another --partition"
                    .to_owned(),
            );
        };
        let (clients, there) = (request.sizes.len(), natural.parts.len());
        if clients > there {
            return refused(format!(
                "{clients} clients, and the examples are from {there}: take {there} clients or fewer"
            ));
        }
        let parts = &natural.parts[..clients];
        if let Some(client) = parts.iter().position(Vec::is_empty) {
            return Err(PartitionError::EmptyClient { client });
        }
        natural.check(request.labels.len())?;
        Ok(Partition::new(parts.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(natural: Option<&Natural>, clients: usize) -> Result<Partition, PartitionError> {
        let request = PartitionRequest {
            labels: &[0; 6],
            num_classes: 1,
            sizes: &vec![1; clients],
            seed: 1,
            natural,
        };
        ById.deal(&request, &Params::defaults(&[]))
    }

    #[test]
    fn examples_stay_with_whom_they_are_from() {
        let natural = Natural::of_indices("0 5\n3\n# a remark\n2, 1,4").unwrap();
        assert_eq!(ById.num_clients(Some(&natural)), Some(3));
        let partition = deal(Some(&natural), 3).unwrap();
        assert_eq!(partition.indices(0), [0, 5]);
        assert_eq!(partition.indices(2), [2, 1, 4]);
        assert_eq!(deal(Some(&natural), 2).unwrap().num_clients(), 2);
    }

    #[test]
    fn what_cannot_be_dealt_is_refused_with_a_way_out() {
        let text = |natural: Option<&Natural>| deal(natural, 2).unwrap_err().to_string();
        assert!(text(None).contains("--partition-file"));
        let natural = |text| Natural::of_indices(text).unwrap();
        assert!(text(Some(&natural("0"))).contains("take 1 clients or fewer"));
        assert!(text(Some(&natural("0\n6"))).contains("client 1 has example 6"));
        assert!(text(Some(&natural("0\n1 0"))).contains("example 0 is client 0's and client 1's"));
    }

    #[test]
    fn a_file_of_indices_is_read_line_by_line() {
        let refused = |text| Natural::of_indices(text).unwrap_err();
        assert!(refused("0\n1 x").contains("line 2: `x` is no index"));
        assert!(refused("0\n\n1").contains("line 2 is empty"));
        assert!(refused("# nothing").contains("no client"));
        assert!(refused("4294967296").contains("line 1"));
    }
}
