//! Random bytes that nobody can foresee, for the word of the device: those of a virtio card, which QEMU takes from its
//! host's own source. Without one there is the count of cycles, which is weak.

use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::DeviceType;

use super::{timestamp, virtio_device};
use crate::driver::virtio::IdentityMapped;

/// Random bytes.
pub fn bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let cycles = timestamp()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_le_bytes();
    if from_card(&mut bytes).is_none() {
        bytes[..8].copy_from_slice(&cycles);
    }
    bytes
}

fn from_card(bytes: &mut [u8; 16]) -> Option<()> {
    let found = virtio_device(DeviceType::EntropySource).ok().flatten()?;
    let mut card = VirtIORng::<IdentityMapped, _>::new(found.transport).ok()?;
    (card.request_entropy(bytes).ok()? == bytes.len()).then_some(())
}
