//! The serial line: a UART of the CMSDK.

use crate::board;
use crate::driver::uart::cmsdk::CmsdkUart;

/// Its interrupt line.
pub const LINE: u8 = board::UART_LINE as u8;

/// The line itself.
pub const UART: CmsdkUart = CmsdkUart(board::UART_AT);
