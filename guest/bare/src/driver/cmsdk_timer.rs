//! The timer of ARM's Cortex-M System Design Kit: 32 bits, counting down.

use super::mmio::{read32, write32};

const CONTROL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INTERRUPT: usize = 0xc;

const ENABLED: u32 = 1 << 0;
const INTERRUPTS: u32 = 1 << 3;

/// A timer by its address.
pub struct CmsdkTimer(pub usize);

impl CmsdkTimer {
    fn write(&self, register: usize, value: u32) {
        // SAFETY: it raises an interrupt at most, and does no DMA.
        unsafe { write32(self.0 + register, value) }
    }

    /// Address of the value.
    pub const fn value_at(&self) -> usize {
        self.0 + VALUE
    }

    /// Counts down for ever.
    pub fn run(&self) {
        self.write(RELOAD, u32::MAX);
        self.write(VALUE, u32::MAX);
        self.write(CONTROL, ENABLED);
    }

    /// Ticks since [`CmsdkTimer::run`], of 32 bits.
    pub fn ticks(&self) -> u32 {
        !read32(self.value_at())
    }

    /// Interrupts once, after so many ticks.
    pub fn once(&self, ticks: u32) {
        self.stop();
        self.write(RELOAD, 0);
        self.write(VALUE, ticks.max(1));
        self.write(CONTROL, ENABLED | INTERRUPTS);
    }

    /// Stops, and takes its interrupt back.
    pub fn stop(&self) {
        self.write(CONTROL, 0);
        self.write(INTERRUPT, 1);
    }
}
