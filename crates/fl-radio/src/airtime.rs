//! Time that a packet takes in the air, by the formula of each radio.
//!
//! All results are whole microseconds, rounded up; LoRa's symbols at 125, 250 and 500 kHz are exact.

/// Modulation of a radio, as far as air time depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modulation {
    /// LoRa.
    Lora(Lora),
    /// IEEE 802.15.4 at 2.4 GHz (O-QPSK).
    Ieee802154 {
        /// Octets of the MAC's header and checksum in each frame.
        mac_bytes: u16,
    },
    /// A serial module that sends its input as a frame of bits.
    Serial {
        /// In the air, not on the wire.
        bits_per_s: u32,
        /// Octets of preamble, sync word and checksum.
        overhead_bytes: u16,
    },
}

/// Settings of LoRa that its air time depends on.
///
/// Semtech, SX1276/77/78/79 datasheet, rev. 7, section 4.1.1.7; AN1200.13, section 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lora {
    /// 7 to 12.
    pub spreading_factor: u8,
    /// In kHz, up to 500.
    pub bandwidth_khz: u32,
    /// Denominator of the coding rate 4/n, 5 to 8.
    pub coding_rate: u8,
    /// Programmed symbols; the radio adds 4.25.
    pub preamble_symbols: u16,
    /// True if header and length are in each frame.
    pub explicit_header: bool,
    /// True if a CRC of the payload is.
    pub crc: bool,
}

impl Lora {
    /// The settings of LoRaWAN in Europe at a spreading factor.
    pub const fn eu868(spreading_factor: u8) -> Self {
        Self {
            spreading_factor,
            bandwidth_khz: 125,
            coding_rate: 5,
            preamble_symbols: 8,
            explicit_header: true,
            crc: true,
        }
    }

    /// Symbols of header and payload, without the preamble.
    pub fn payload_symbols(&self, payload_bytes: usize) -> u64 {
        let sf = i64::from(self.spreading_factor);
        let bits = 8 * payload_bytes as i64 - 4 * sf + 28 + 16 * i64::from(self.crc)
            - 20 * i64::from(!self.explicit_header);
        let per_block = (4 * (sf - 2 * i64::from(self.is_low_rate()))).max(1);
        let blocks = bits
            .max(0)
            .unsigned_abs()
            .div_ceil(per_block.unsigned_abs());
        8 + blocks * u64::from(self.coding_rate)
    }

    /// Length of a symbol in nanoseconds.
    pub fn symbol_ns(&self) -> u64 {
        let khz = u64::from(self.bandwidth_khz.max(1));
        ((1_u64 << self.spreading_factor.min(31)) * 1_000_000).div_ceil(khz)
    }

    /// The optimisation for low data rates, mandated for symbols above 16 ms.
    fn is_low_rate(&self) -> bool {
        self.symbol_ns() > 16_000_000
    }

    fn airtime_us(&self, payload_bytes: usize) -> u64 {
        // Four times as many, since the preamble has a quarter of one.
        let quarters =
            4 * (u64::from(self.preamble_symbols) + self.payload_symbols(payload_bytes)) + 17;
        (quarters * self.symbol_ns()).div_ceil(4_000)
    }
}

/// Microseconds of an octet of IEEE 802.15.4 at 250 kbit/s.
const OCTET_802154_US: u64 = 32;
/// Preamble, start of frame and length of IEEE 802.15.4, section 12.1.
const PHY_802154_BYTES: u64 = 6;
/// The longest frame of IEEE 802.15.4 (aMaxPhyPacketSize).
const MAX_802154_BYTES: u64 = 127;

impl Modulation {
    /// Time in the air of a packet of so many octets, in microseconds.
    pub fn airtime_us(&self, payload_bytes: usize) -> u64 {
        let bytes = payload_bytes as u64;
        match self {
            Self::Lora(lora) => lora.airtime_us(payload_bytes),
            Self::Ieee802154 { mac_bytes } => {
                (PHY_802154_BYTES + u64::from(*mac_bytes) + bytes) * OCTET_802154_US
            }
            Self::Serial {
                bits_per_s,
                overhead_bytes,
            } => {
                let bits = (bytes + u64::from(*overhead_bytes)) * 8;
                (bits * 1_000_000).div_ceil(u64::from((*bits_per_s).max(1)))
            }
        }
    }

    /// Octets of the longest payload that fits a frame.
    pub fn max_payload_bytes(&self) -> usize {
        match self {
            Self::Lora(_) => 255,
            Self::Ieee802154 { mac_bytes } => {
                MAX_802154_BYTES.saturating_sub(u64::from(*mac_bytes)) as usize
            }
            // As much as fits the buffer of such a module at its shortest.
            Self::Serial { .. } => 128,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora_us(spreading_factor: u8, bytes: usize) -> u64 {
        Modulation::Lora(Lora::eu868(spreading_factor)).airtime_us(bytes)
    }

    #[test]
    fn lora_takes_the_time_of_semtechs_formula_to_the_symbol() {
        // By hand: ceil((8 PL - 4 SF + 44) / (4 (SF - 2 DE))) blocks of 5, and 8.
        let symbols = [(7, 43), (8, 38), (9, 33), (10, 33), (11, 33), (12, 28)];
        for (spreading_factor, expected) in symbols {
            let lora = Lora::eu868(spreading_factor);
            assert_eq!(lora.payload_symbols(20), expected, "SF{spreading_factor}");
            let us = (4 * (8 + expected) + 17) * (1 << spreading_factor) * 2;
            assert_eq!(lora_us(spreading_factor, 20), us, "SF{spreading_factor}");
        }
        // As Semtech's calculator has them: 56.58 ms and 1,318.91 ms for 20 octets.
        assert_eq!(lora_us(7, 20), 56_576);
        assert_eq!(lora_us(12, 20), 1_318_912);
        // LoRaWAN's longest frames: 51 octets and a head of 13 at SF12, 222 and 13 at SF7.
        assert_eq!(lora_us(12, 64), 2_793_472);
        assert_eq!(lora_us(7, 235), 368_896);
        // The header alone has eight symbols, whatever it saves elsewhere.
        assert_eq!(Lora::eu868(12).payload_symbols(0), 8);
    }

    #[test]
    fn a_setting_of_lora_changes_what_its_formula_says() {
        let base = Lora::eu868(7);
        let symbols = |lora: Lora| lora.payload_symbols(20);
        let implicit = Lora {
            explicit_header: false,
            ..base
        };
        assert_eq!(symbols(implicit), 8 + 6 * 5);
        assert_eq!(symbols(Lora { crc: false, ..base }), 8 + 6 * 5);
        let slow = Lora {
            coding_rate: 8,
            ..base
        };
        assert_eq!(symbols(slow), 8 + 7 * 8);
        // At 500 kHz the symbols of SF12 are short: no optimisation for low rates.
        let wide = Lora {
            bandwidth_khz: 500,
            ..Lora::eu868(12)
        };
        assert_eq!(symbols(wide), 8 + 4 * 5);
        assert_eq!(wide.symbol_ns(), 8_192_000);
    }

    #[test]
    fn a_frame_of_802154_takes_32_microseconds_an_octet() {
        let frame = |mac_bytes| Modulation::Ieee802154 { mac_bytes };
        // The longest frame: 133 octets with preamble and length.
        assert_eq!(frame(0).airtime_us(127), 4_256);
        assert_eq!(frame(11).airtime_us(43), 60 * 32);
        assert_eq!(frame(11).max_payload_bytes(), 116);
    }

    #[test]
    fn a_serial_module_takes_its_bits_rounded_up() {
        let hc12 = Modulation::Serial {
            bits_per_s: 15_000,
            overhead_bytes: 0,
        };
        assert_eq!(hc12.airtime_us(15), 8_000);
        assert_eq!(hc12.airtime_us(1), 534);
    }
}
