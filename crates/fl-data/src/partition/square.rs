//! Parts whose sizes grow with the square of its number: Flower's `SquarePartitioner`.

use super::{Partition, PartitionError, PartitionRequest, Partitioner, sizes};
use fl_param::Params;

/// Partitioner of parts in proportion to the square of its number.
pub(super) struct Square;

impl Partitioner for Square {
    fn name(&self) -> &'static str {
        "square"
    }

    fn doc(&self) -> &'static str {
        "At random, in sizes that differ: a device has examples in proportion to the square of its number"
    }

    fn decides_sizes(&self) -> bool {
        true
    }

    fn deal(
        &self,
        request: &PartitionRequest<'_>,
        _: &Params,
    ) -> Result<Partition, PartitionError> {
        let weight = |number: f64| 2.0 * libm::log(number);
        let change = "take fewer clients, or deal out more examples";
        sizes::deal(request, weight, change)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sizes::tests::sizes;
    use super::*;

    #[test]
    fn sizes_are_as_the_squares_of_the_numbers_of_the_clients() {
        assert_eq!(sizes(&Square, 1_000, 3, &[]).unwrap(), [71, 285, 643]);
        let text = sizes(&Square, 100, 10, &[]).unwrap_err().to_string();
        assert!(text.contains("1 of 10 clients"), "{text}");
    }
}
