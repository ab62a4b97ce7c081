//! Lengths of everything on the wire: for meters, deadlines, estimates and bounds alike.
//!
//! # Units
//! Octets.

use crate::MAX_CONTROL_BYTES;
use crate::codec::most_octets;
use crate::message::{HEAD_LEN, SECTION_HEADER_LEN};

/// Allowance for HTTP's head and a control message: both together are 200 to 500.
pub const HEAD_BYTES: u64 = 300;

/// Length of a body with these payloads of sections.
pub fn body(control_len: usize, payloads: impl IntoIterator<Item = u64>) -> u64 {
    let payloads = payloads.into_iter();
    let sections: u64 = payloads
        .map(|octets| SECTION_HEADER_LEN as u64 + octets)
        .sum();
    HEAD_LEN as u64 + control_len as u64 + sections
}

/// Greatest length of a body with sections of so many numbers, whatever their codecs: the bound of `Content-Length`.
pub fn longest_body(counts: impl IntoIterator<Item = u64>) -> u64 {
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let counts = counts.into_iter();
    body(MAX_CONTROL_BYTES, counts.map(|of| most_octets(count(of))))
}

/// Estimated length of a request with these payloads, HTTP's head included.
pub fn request(payloads: impl IntoIterator<Item = u64>) -> u64 {
    HEAD_BYTES + body(0, payloads)
}

/// Greatest length of a body in the JSON form with sections of so many numbers.
pub fn longest_json_body(counts: impl IntoIterator<Item = u64>) -> u64 {
    /// Name, quotation marks, colon and comma of a section.
    const AROUND: u64 = 24;
    let text = |count: u64| (4 * count).div_ceil(3) * 4 + AROUND;
    MAX_CONTROL_BYTES as u64 + AROUND + counts.into_iter().map(text).sum::<u64>()
}
