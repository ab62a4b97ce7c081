//! Lengths of everything on the wire: for meters, deadlines, estimates and bounds alike.
//!
//! # Units
//! Octets.

use crate::MAX_CONTROL_BYTES;
use crate::codec::Codec;
use crate::message::{HEAD_LEN, SECTION_HEADER_LEN};

/// Allowance for HTTP's head and a control message: both together are 200 to 500.
pub const HEAD_BYTES: u64 = 300;

/// Length of a section of `count` numbers, its header included.
pub fn section(codec: &dyn Codec, count: u64) -> u64 {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    SECTION_HEADER_LEN as u64 + codec.octets(count)
}

/// Length of a body with these sections: codec and count of each.
pub fn body<'a>(
    control_len: usize,
    sections: impl IntoIterator<Item = (&'a dyn Codec, u64)>,
) -> u64 {
    let sections = sections.into_iter();
    let sections: u64 = sections.map(|(codec, count)| section(codec, count)).sum();
    HEAD_LEN as u64 + control_len as u64 + sections
}

/// Greatest length of a body with these sections: the bound of `Content-Length`.
pub fn longest_body<'a>(sections: impl IntoIterator<Item = (&'a dyn Codec, u64)>) -> u64 {
    body(MAX_CONTROL_BYTES, sections)
}

/// Estimated length of a request with these sections, HTTP's head included.
pub fn request<'a>(sections: impl IntoIterator<Item = (&'a dyn Codec, u64)>) -> u64 {
    HEAD_BYTES + body(0, sections)
}

/// Greatest length of a body in the JSON form with sections of so many numbers.
pub fn longest_json_body(counts: impl IntoIterator<Item = u64>) -> u64 {
    /// Name, quotation marks, colon and comma of a section.
    const AROUND: u64 = 24;
    let text = |count: u64| (4 * count).div_ceil(3) * 4 + AROUND;
    MAX_CONTROL_BYTES as u64 + AROUND + counts.into_iter().map(text).sum::<u64>()
}
