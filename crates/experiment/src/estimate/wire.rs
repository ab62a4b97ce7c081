//! Bytes on the wire.

use fl_nn::Model;

/// HTTP's head and the control part of `/start` or of an update: both are 200 to 400 bytes.
pub const HEAD_BYTES: u64 = 300;

/// Bytes of a `/start`, and of an update.
pub fn message_bytes(model: &Model) -> u64 {
    4 * model.shape().num_params() as u64 + HEAD_BYTES
}
