//! Bytes on the wire.

use crate::experiment::Experiment;
use fl_algo::VectorSpec;
use fl_proto::codec::{Codec, F32};
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`, and of an update: the longer of the two.
pub fn message_bytes(experiment: &Experiment) -> u64 {
    let num_params = experiment.model.shape().num_params();
    let vectors = experiment.strategy.vectors().iter();
    let sections = |is_sent: fn(&VectorSpec) -> bool| {
        let beside = vectors.clone().filter(move |spec| is_sent(spec));
        let counts = beside.map(|spec| spec.length.of(num_params) as u64);
        let counts = std::iter::once(num_params as u64).chain(counts);
        wire_len::request(counts.map(|count| (&F32 as &dyn Codec, count)))
    };
    sections(|spec| spec.down).max(sections(|spec| spec.up))
}
