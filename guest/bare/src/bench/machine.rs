//! The least of a Cortex-M machine that a benchmark needs: start, a line of text, the end.

use core::arch::global_asm;
use core::fmt::{self, Write};
use core::ptr::with_exposed_provenance_mut;

#[allow(dead_code)]
mod board {
    include!(concat!(env!("OUT_DIR"), "/board.rs"));
}

global_asm!(include_str!("../arch/armv7m/boot.s"), start = sym crate::start, exception = sym exception);

unsafe extern "C" fn exception() -> ! {
    end()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    end()
}

fn write(address: usize, value: u32) {
    // SAFETY: registers of the machine's UART and of the processor's reset.
    unsafe { with_exposed_provenance_mut::<u32>(address).write_volatile(value) }
}

/// Ends QEMU, which takes a reset for an end.
pub fn end() -> ! {
    loop {
        write(0xe000_ed0c, 0x05fa_0004);
    }
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes()
            .for_each(|octet| write(board::UART_AT, octet.into()));
        Ok(())
    }
}

/// Prints a line.
pub fn print(line: fmt::Arguments<'_>) {
    // Sender on.
    write(board::UART_AT + 0x10, 16);
    write(board::UART_AT + 8, 1);
    // The UART takes everything.
    let _ = Uart.write_fmt(format_args!("{line}\n"));
}

/// Does what is to be counted, between the marks of the plugin (crates/tcg-cost).
#[inline(never)]
pub fn counted<R>(act: impl FnOnce() -> R) -> R {
    // SAFETY: changes no register and no memory.
    unsafe { core::arch::asm!("mov r11, r11", options(nostack, preserves_flags)) };
    let result = act();
    // SAFETY: as above.
    unsafe { core::arch::asm!("mov r10, r10", options(nostack, preserves_flags)) };
    result
}

/// Numbers without a pattern: Numerical Recipes' linear congruence.
pub struct Numbers(pub u32);

impl Iterator for Numbers {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(self.0 >> 8)
    }
}
