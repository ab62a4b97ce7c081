//! Frames for tests.

use alloc::vec::Vec;

/// Builds an Ethernet frame with a TCP segment in IPv4: correct lengths, no checksums, addresses zero.
pub fn frame(sequence: u32, flags: u8, payload: u16) -> Vec<u8> {
    let mut frame = alloc::vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + payload).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x1f, 0x90, 0xc0, 0x00]);
    frame.extend(sequence.to_be_bytes());
    frame.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(frame.len() + usize::from(payload), 0x2a);
    frame
}

/// Sets the source port of such a frame.
pub fn set_port(frame: &mut [u8], port: u16) {
    frame[34..36].copy_from_slice(&port.to_be_bytes());
}
