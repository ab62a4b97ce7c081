//! Memory of a microcontroller: what its firmware takes of it, and what is left for data and training.

use serde_json::Value;

use super::Firmware;

/// The stack on which a fault is reported (`guest/bare/src/arch/flash.ld`).
const FAULT_STACK_BYTES: u64 = 2048;

/// A part of a device's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// Name for people.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
}

impl MemoryPart {
    /// A part of so many bytes.
    pub fn new(name: &'static str, bytes: u64) -> Self {
        Self { name, bytes }
    }
}

impl Firmware {
    /// RAM that the board states.
    ///
    /// # Units
    /// Bytes.
    pub fn ram_bytes(&self) -> u64 {
        u64::from(self.ram.kib) << 10
    }

    /// Flash for the examples of a device, if the board states some.
    ///
    /// # Units
    /// Bytes.
    pub fn flash_bytes(&self) -> Option<u64> {
        Some(u64::from(self.flash?.kib) << 10)
    }

    /// Parts of the RAM that are taken whatever the device trains; `None` of a board that does not state them all.
    pub fn fixed(&self) -> Option<[MemoryPart; 4]> {
        let kib = |kib: u64| kib << 10;
        let tcp = |key: &str| self.devices.get("tcp")?.get(key).and_then(Value::as_u64);
        let windows = tcp("receive_kib")? + tcp("send_kib")?;
        Some([
            MemoryPart::new("stack", kib(self.stack_kib.into())),
            MemoryPart::new("stack for faults", FAULT_STACK_BYTES),
            MemoryPart::new("connections", kib(tcp("sockets")? * windows)),
            MemoryPart::new("firmware's own", kib(self.own_kib?.into())),
        ])
    }

    /// RAM that is free for data and training, where the board states it.
    ///
    /// # Units
    /// Bytes.
    pub fn free_bytes(&self) -> Option<u64> {
        let fixed: u64 = self.fixed()?.iter().map(|part| part.bytes).sum();
        Some(self.ram_bytes().saturating_sub(fixed))
    }
}

#[cfg(test)]
mod tests {
    use crate::board::tests::board;

    #[test]
    fn the_parts_of_a_real_memory_and_what_is_free_are_all_of_it() {
        for (name, ram, flash) in [
            ("stm32f103", 64, 512),
            ("nrf52840", 256, 1024),
            ("stm32f746", 320, 1024),
            ("stm32l4r5", 640, 2048),
            ("rp2350", 512, 4096),
        ] {
            let firmware = board(name).firmware.unwrap();
            assert_eq!(firmware.ram_bytes(), ram << 10, "{name}");
            // The examples lie behind the image.
            let (code, examples) = (firmware.code, firmware.flash.unwrap());
            assert_eq!(code.kib + examples.kib, flash, "{name}");
            assert_eq!(code.start + (code.kib << 10), examples.start, "{name}");
            let fixed: u64 = firmware
                .fixed()
                .unwrap()
                .iter()
                .map(|part| part.bytes)
                .sum();
            let free = firmware.free_bytes().unwrap();
            assert_eq!(fixed + free, ram << 10, "{name}");
            assert!(free > 8 << 10, "{name}: {free}");
        }
        assert_eq!(board("mps2-an386").firmware.unwrap().free_bytes(), None);
    }
}
