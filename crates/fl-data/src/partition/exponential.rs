//! Parts whose sizes grow exponentially: Flower's `ExponentialPartitioner`, which has a rate of 1.

use super::{Partition, PartitionError, PartitionRequest, Partitioner, sizes};
use fl_param::{ParamSpec, Params};

/// Partitioner of parts in proportion to `exp(rate * (i + 1))`.
pub(super) struct Exponential;

impl Partitioner for Exponential {
    fn name(&self) -> &'static str {
        "exponential"
    }

    fn doc(&self) -> &'static str {
        "At random, in sizes that differ: each device has exp(rate) times as many examples as the one before"
    }

    fn params(&self) -> &'static [ParamSpec] {
        &[ParamSpec {
            name: "rate",
            default: 1.0,
            min: 0.0,
            max: 100.0,
            whole: false,
            doc: "Growth from one device to the next, as a power of e; many devices take a small one",
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
        let rate = params.get("rate");
        let change = "lower rate, take fewer clients, or deal out more examples";
        sizes::deal(request, |number| rate * number, change)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sizes::tests::sizes;
    use super::*;

    #[test]
    fn sizes_grow_by_one_factor() {
        // e, e^2 and e^3 of their sum.
        assert_eq!(sizes(&Exponential, 1_000, 3, &[]).unwrap(), [89, 244, 666]);
        let same = sizes(&Exponential, 1_000, 4, &[("rate", 0.0)]);
        assert_eq!(same.unwrap(), [250; 4]);
    }

    #[test]
    fn many_clients_take_a_small_rate() {
        let text = sizes(&Exponential, 60_000, 50, &[])
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("39 of 50 clients") && text.contains("lower rate"),
            "{text}"
        );
        assert!(sizes(&Exponential, 60_000, 50, &[("rate", 100.0)]).is_err());
        assert!(sizes(&Exponential, 60_000, 50, &[("rate", 0.1)]).is_ok());
    }
}
