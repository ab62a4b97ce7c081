//! JSON by serde-json-core, for the side that has no heap.

use serde::{Deserialize, Serialize};

/// Writes `message` into `buffer`, returns the number of bytes; `None` if it does not fit.
pub fn encode<T: Serialize>(message: &T, buffer: &mut [u8]) -> Option<usize> {
    serde_json_core::to_slice(message, buffer).ok()
}

/// Most `[` and `{` in a message, wherever they stand. The parser skips a field that it does not
/// know by recursion, so this is what bounds its stack; no message has more than two.
pub const MAX_BRACKETS: usize = 32;

/// Reads one message; `None` for anything that is not exactly one such JSON object.
///
/// Strings are taken as they stand: an escape such as `\n` stays two characters.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    // Counted without regard to strings and closing brackets: the parser skips malformed values
    // loosely, and a count that tried to follow it could be led astray.
    let brackets = bytes.iter().filter(|&&byte| byte == b'[' || byte == b'{');
    if brackets.count() > MAX_BRACKETS {
        return None;
    }
    let (message, _all) = serde_json_core::from_slice(bytes).ok()?;
    Some(message)
}
