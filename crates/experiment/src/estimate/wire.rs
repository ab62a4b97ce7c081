//! Bytes on the wire.

use crate::experiment::Experiment;
use fl_algo::VectorSpec;
use fl_proto::codec::{Codec, F32};
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`.
pub fn start_bytes(experiment: &Experiment) -> u64 {
    // Vectors beside the model go down as they are.
    message_bytes(experiment, experiment.encoding_down.0, |spec| {
        spec.down.then_some(&F32 as &dyn Codec)
    })
}

/// Estimated bytes of an update.
pub fn update_bytes(experiment: &Experiment) -> u64 {
    let codec = experiment.encoding_up.0;
    // Kept vectors go up as they are.
    message_bytes(experiment, codec, |spec| {
        let own: &dyn Codec = if spec.kept { &F32 } else { codec };
        spec.up.then_some(own)
    })
}

fn message_bytes(
    experiment: &Experiment,
    codec: &'static dyn Codec,
    codec_of: impl Fn(&VectorSpec) -> Option<&'static dyn Codec>,
) -> u64 {
    let num_params = experiment.model.shape().num_params();
    let vectors = experiment.strategy.vectors().iter();
    let beside = vectors.filter_map(|spec| {
        let count = spec.length.of(num_params) as u64;
        Some((codec_of(spec)?, count))
    });
    wire_len::request(std::iter::once((codec, num_params as u64)).chain(beside))
}
