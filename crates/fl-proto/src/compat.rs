//! The compatible form: the control message with the parameters inside, as base64.
//!
//! `{"round":1, … ,"weights":"AACAPwAAAEA="}`: the same fields as the control message, and
//! `weights`, base64 (RFC 4648, padded) of the parameters as little-endian f32.

use crate::{MAX_CONTROL_BYTES, ParamDecoder};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// What stands between the control message's fields and the base64 text.
pub const WEIGHTS_KEY: &str = ",\"weights\":\"";

/// What ends the body.
pub const WEIGHTS_END: &str = "\"}";

#[derive(Deserialize)]
struct WeightsField<'a> {
    weights: &'a str,
}

/// Length of the base64 text of `count` parameters, in bytes.
pub fn base64_len(count: usize) -> Option<usize> {
    count.checked_mul(4)?.div_ceil(3).checked_mul(4)
}

/// Longest body with `count` parameters that is taken in, in bytes; what a receiver bounds
/// `Content-Length` by.
pub fn max_body_len(count: usize) -> Option<usize> {
    base64_len(count)?.checked_add(MAX_CONTROL_BYTES + WEIGHTS_KEY.len() + WEIGHTS_END.len())
}

/// Takes the parameters out of a body; `false` if they are missing, malformed or not exactly
/// `params.len()` many. `params` may then hold a part of them.
#[must_use]
pub fn decode_weights(body: &[u8], params: &mut [f32]) -> bool {
    let Some(field) = crate::json::decode::<WeightsField<'_>>(body) else {
        return false;
    };
    if base64_len(params.len()) != Some(field.weights.len()) {
        return false;
    }
    let mut decoder = ParamDecoder::new();
    let mut bytes = [0; 768];
    for chunk in field.weights.as_bytes().chunks(1024) {
        let Ok(n) = STANDARD.decode_slice(chunk, &mut bytes) else {
            return false;
        };
        if !decoder.push(&bytes[..n], params) {
            return false;
        }
    }
    decoder.is_complete(params.len())
}

/// Writes the base64 of `bytes` into `text`, returns its length; `None` if it does not fit.
/// All pieces of one text but the last must be a multiple of three bytes long.
pub fn encode_piece(bytes: &[u8], text: &mut [u8]) -> Option<usize> {
    STANDARD.encode_slice(bytes, text).ok()
}

/// Writes a whole body; `control` is the control message in JSON. `None` if `control` is not a JSON
/// object with a field or the parameters are more than [`MAX_PARAMS`](crate::MAX_PARAMS).
#[cfg(feature = "alloc")]
pub fn encode(control: &[u8], params: &[f32]) -> Option<alloc::vec::Vec<u8>> {
    let fields = control
        .strip_suffix(b"}")
        .filter(|fields| fields.len() > 1)?;
    if params.len() > crate::MAX_PARAMS as usize {
        return None;
    }
    let mut body = alloc::vec::Vec::with_capacity(max_body_len(params.len())?);
    body.extend(fields);
    body.extend(WEIGHTS_KEY.bytes());
    let mut encoder = crate::ParamEncoder::new();
    let (mut bytes, mut text) = ([0; 768], [0; 1024]);
    loop {
        let n = encoder.fill(params, &mut bytes);
        if n == 0 {
            break;
        }
        let len = encode_piece(&bytes[..n], &mut text)?;
        body.extend(&text[..len]);
    }
    body.extend(WEIGHTS_END.bytes());
    Some(body)
}
