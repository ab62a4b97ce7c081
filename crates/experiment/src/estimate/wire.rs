//! Bytes on the wire.

use fl_nn::Model;
use fl_proto::codec::{Codec, F32};
use fl_proto::wire_len;

pub use fl_proto::wire_len::HEAD_BYTES;

/// Estimated bytes of a `/start`, and of an update.
pub fn message_bytes(model: &Model) -> u64 {
    wire_len::request([(&F32 as &dyn Codec, model.shape().num_params() as u64)])
}
