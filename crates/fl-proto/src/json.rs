//! JSON by serde-json-core, for the side that has no heap.

use serde::{Deserialize, Serialize};

/// Writes `message` into `buffer`, returns the number of bytes; `None` if it does not fit.
pub fn encode<T: Serialize>(message: &T, buffer: &mut [u8]) -> Option<usize> {
    serde_json_core::to_slice(message, buffer).ok()
}

/// Reads one message; `None` for anything that is not exactly one such JSON object.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (message, used) = serde_json_core::from_slice(bytes).ok()?;
    bytes[used..]
        .iter()
        .all(u8::is_ascii_whitespace)
        .then_some(message)
}
