//! The serial line: a 16550 in memory.

use crate::board;
use crate::driver::mmio::Bytes;
use crate::driver::uart::ns16550::Ns16550;

/// Its interrupt line.
pub const LINE: u8 = board::UART_LINE as u8;

/// The line itself.
pub const UART: Ns16550<Bytes> = Ns16550(Bytes(board::UART_AT));
