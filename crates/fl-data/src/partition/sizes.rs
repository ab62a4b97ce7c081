//! Parts of examples of the same kinds, whose sizes grow with the number of the client.

use super::{Partition, PartitionError, PartitionRequest, iid, pool};

/// Deals examples out at random, client `i` in proportion to `exp(log_weight(i + 1))`.
///
/// Sizes are rounded down, and the last client, which has most, takes what is left over.
///
/// # Errors
/// [`PartitionError`] with what to change, if a client would get no example.
pub(super) fn deal(
    request: &PartitionRequest<'_>,
    log_weight: impl Fn(f64) -> f64,
    change: &str,
) -> Result<Partition, PartitionError> {
    let (examples, clients) = (pool::examples(request)?, request.sizes.len());
    // The largest is taken out first, so that no weight is beyond the range of numbers.
    let largest = log_weight(clients as f64);
    let weights = (1..=clients).map(|number| libm::exp(log_weight(number as f64) - largest));
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let share = |weight: &f64| (weight / sum * examples as f64) as usize;
    let mut sizes: Vec<usize> = weights.iter().map(share).collect();
    let dealt: usize = sizes.iter().sum();
    if let Some(last) = sizes.last_mut() {
        *last += examples.saturating_sub(dealt);
    }
    let nothing = sizes.iter().filter(|&&size| size == 0).count();
    if nothing > 0 {
        return Err(PartitionError::Refused(format!(
            "{nothing} of {clients} clients would get no example of the {examples} that are dealt out: {change}"
        )));
    }
    iid(request.labels.len(), &sizes, request.seed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::partition::Partitioner;
    use fl_param::Params;

    /// Sizes that a rule decides, of `examples` for `clients`.
    pub(in crate::partition) fn sizes(
        rule: &dyn Partitioner,
        examples: usize,
        clients: usize,
        values: &[(&str, f64)],
    ) -> Result<Vec<usize>, PartitionError> {
        let (labels, asked) = (vec![0; examples], vec![examples / clients; clients]);
        let request = PartitionRequest {
            labels: &labels,
            num_classes: 1,
            sizes: &asked,
            seed: 1,
            natural: None,
        };
        let mut params = Params::defaults(rule.params());
        for &(name, value) in values {
            params.set(name, value).unwrap();
        }
        Ok(rule.deal(&request, &params)?.sizes().collect())
    }

    #[test]
    fn the_last_client_takes_what_is_left_over() {
        let request = PartitionRequest {
            labels: &[0; 11],
            num_classes: 1,
            sizes: &[4, 4, 3],
            seed: 1,
            natural: None,
        };
        let dealt = deal(&request, |_| 0.0, "").unwrap();
        assert_eq!(dealt.sizes().collect::<Vec<_>>(), [3, 3, 5]);
    }
}
