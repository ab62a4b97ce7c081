//! Bytes on the wire.

use crate::experiment::Experiment;
use fl_algo::Way;
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`.
pub fn start_bytes(experiment: &Experiment) -> u64 {
    wire_len::request(experiment.aggregator().payloads(Way::Down))
}

/// Estimated bytes of an update.
pub fn update_bytes(experiment: &Experiment) -> u64 {
    wire_len::request(experiment.aggregator().payloads(Way::Up))
}
