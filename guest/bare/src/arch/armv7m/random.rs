//! Random bytes for the word of the device. These machines have no source of them: the count of their timer is all
//! there is, and the secret that the device was told (`app/port.rs`).

use super::timestamp;

/// Bytes that are weakly random.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let ticks = timestamp().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bytes[..8].copy_from_slice(&ticks.to_le_bytes());
    bytes
}
