//! The UART of ARM's Cortex-M System Design Kit.

use super::Uart;
use crate::driver::mmio::{read32, write32};

const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CONTROL: usize = 0x8;
const INTERRUPTS: usize = 0xc;
const DIVISOR: usize = 0x10;

const SENDING: u32 = 1 << 0;
const RECEIVED: u32 = 1 << 1;
/// Sending, receiving, and an interrupt for what is received.
const ON: u32 = 0b1011;

/// A UART by its address.
pub struct CmsdkUart(pub usize);

impl CmsdkUart {
    fn write(&self, register: usize, value: u32) {
        // SAFETY: it does no DMA.
        unsafe { write32(self.0 + register, value) }
    }
}

impl Uart for CmsdkUart {
    fn init(&self) {
        self.write(DIVISOR, 16);
        self.write(CONTROL, ON);
    }

    fn read(&self) -> Option<u8> {
        if read32(self.0 + STATE) & RECEIVED == 0 {
            return None;
        }
        self.write(INTERRUPTS, RECEIVED);
        Some(read32(self.0 + DATA) as u8)
    }

    fn has_room(&self) -> bool {
        read32(self.0 + STATE) & SENDING == 0
    }

    fn send(&self, byte: u8) {
        self.write(DATA, byte.into());
    }
}
