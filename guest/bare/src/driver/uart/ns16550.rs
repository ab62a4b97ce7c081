//! The 16550.

use super::Uart;

const DATA: u16 = 0;
const INTERRUPTS: u16 = 1;
const FIFO: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

const RECEIVED: u8 = 1 << 0;
const ROOM_TO_SEND: u8 = 1 << 5;

/// The way to its eight registers.
pub trait Registers {
    /// Reads a register. It may have an effect on the device, none on memory.
    fn read(&self, register: u16) -> u8;

    /// Writes a register; a 16550 touches no memory.
    fn write(&self, register: u16, value: u8);
}

/// A 16550.
pub struct Ns16550<R>(pub R);

#[cfg(feature = "radio")]
impl<R: Registers> Ns16550<R> {
    /// Has it interrupt once for 14 bytes, not for each.
    pub fn interrupt_for_blocks(&self) {
        self.0.write(FIFO, 0xc7);
    }
}

impl<R: Registers> Uart for Ns16550<R> {
    /// 115200 8N1 with FIFOs.
    fn init(&self) {
        let settings = [
            (INTERRUPTS, 0),
            (LINE_CONTROL, 0x80), // the next two set the divisor
            (DATA, 1),
            (INTERRUPTS, 0),
            (LINE_CONTROL, 0x03),
            (FIFO, 0x07), // on, both cleared, an interrupt for every byte
            (MODEM_CONTROL, 0x0b),
            (INTERRUPTS, 0x01),
        ];
        for (register, value) in settings {
            self.0.write(register, value);
        }
    }

    fn read(&self) -> Option<u8> {
        (self.0.read(LINE_STATUS) & RECEIVED != 0).then(|| self.0.read(DATA))
    }

    fn has_room(&self) -> bool {
        self.0.read(LINE_STATUS) & ROOM_TO_SEND != 0
    }

    fn send(&self, byte: u8) {
        self.0.write(DATA, byte);
    }
}
