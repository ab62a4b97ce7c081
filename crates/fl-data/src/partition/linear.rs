//! Parts whose sizes grow with its number: Flower's `LinearPartitioner`.

use super::{Partition, PartitionError, PartitionRequest, Partitioner, sizes};
use fl_param::Params;

/// Partitioner of parts in proportion to its number.
pub(super) struct Linear;

impl Partitioner for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn doc(&self) -> &'static str {
        "At random, in sizes that differ: a device has examples in proportion to its number"
    }

    fn decides_sizes(&self) -> bool {
        true
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        _: &Params,
    ) -> Result<Partition, PartitionError> {
        let weight = |number: f64| libm::log(number);
        let change = "take fewer clients, or deal out more examples";
        sizes::deal(request, weight, change)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sizes::tests::sizes;
    use super::*;

    #[test]
    fn sizes_are_as_the_numbers_of_the_clients() {
        assert_eq!(sizes(&Linear, 1_000, 4, &[]).unwrap(), [100, 200, 300, 400]);
        let text = sizes(&Linear, 10, 5, &[]).unwrap_err().to_string();
        assert!(
            text.contains("1 of 5 clients") && text.contains("fewer clients"),
            "{text}"
        );
    }
}
