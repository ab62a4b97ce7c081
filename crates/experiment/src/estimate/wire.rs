//! Bytes on the wire.

use crate::experiment::Experiment;
use fl_algo::{Sizes, Way};
use fl_proto::codec::{Codec, of_section};
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`.
pub fn start_bytes(experiment: &Experiment) -> u64 {
    message_bytes(experiment, Way::Down, experiment.encoding_down.0)
}

/// Estimated bytes of an update.
pub fn update_bytes(experiment: &Experiment) -> u64 {
    message_bytes(experiment, Way::Up, experiment.encoding_up.0)
}

fn message_bytes(experiment: &Experiment, way: Way, codec: &'static dyn Codec) -> u64 {
    let sizes = Sizes::from(experiment.model.shape());
    let sections = experiment.strategy.sections(way, &sizes);
    wire_len::request(
        sections.map(|section| (of_section(section.exact, codec), section.count as u64)),
    )
}
