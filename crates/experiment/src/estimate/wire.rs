//! Bytes on the wire.

use crate::experiment::Experiment;
use fl_algo::VectorSpec;
use fl_proto::codec::{Codec, F32};
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`, and of an update: the longer of the two.
pub fn message_bytes(experiment: &Experiment) -> u64 {
    let num_params = experiment.model.shape().num_params();
    let request = |model: &'static dyn Codec, is_sent: fn(&VectorSpec) -> bool| {
        let vectors = experiment.strategy.vectors().iter();
        let beside = vectors.filter(|spec| is_sent(spec)).map(|spec| {
            // An algorithm's own vectors are sent exactly, but for updates that nobody keeps.
            let codec = if spec.up && !spec.kept { model } else { &F32 };
            (codec, spec.length.of(num_params) as u64)
        });
        wire_len::request(std::iter::once((model, num_params as u64)).chain(beside))
    };
    let down = request(experiment.encoding_down, |spec| spec.down);
    down.max(request(experiment.encoding_up, |spec| spec.up))
}
