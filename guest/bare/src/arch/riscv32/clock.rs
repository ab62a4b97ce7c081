//! Time: the CLINT's count, and its comparator for waking up. There is no tick.

use super::interrupts;
use crate::board;
use crate::driver::mmio::{read32, write32};

const COMPARE: usize = board::TIMER_AT + 0x4000;
const TIME: usize = board::TIMER_AT + 0xbff8;
const TICKS_PER_US: u64 = board::TIMER_HZ as u64 / 1_000_000;

/// A moment that does not come. The last one of 64 bits would keep QEMU busy where it counts instructions.
const NEVER: u64 = 1 << 52;

/// Ticks since boot.
fn ticks() -> u64 {
    loop {
        let high = read32(TIME + 4);
        let low = read32(TIME);
        if high == read32(TIME + 4) {
            return u64::from(high) << 32 | u64::from(low);
        }
    }
}

fn wake_at(ticks: u64) {
    // SAFETY: the comparator raises an interrupt and touches no memory.
    unsafe {
        write32(COMPARE + 4, u32::MAX); // no moment in between that is near
        write32(COMPARE, ticks as u32);
        write32(COMPARE + 4, (ticks >> 32) as u32);
    }
}

/// Stops the timer.
pub(super) fn stop() {
    wake_at(NEVER);
}

/// Microseconds since boot.
pub fn now_us() -> u64 {
    ticks() / TICKS_PER_US
}

/// Sleeps until an interrupt is pending or the clock reads `wake_at_us`.
pub fn sleep_until(wake_at_us: Option<u64>) {
    if wake_at_us.is_some_and(|us| us <= now_us()) {
        return;
    }
    interrupts::sleep(|| {
        if let Some(us) = wake_at_us {
            wake_at(us.saturating_mul(TICKS_PER_US).min(NEVER));
        }
    });
}
