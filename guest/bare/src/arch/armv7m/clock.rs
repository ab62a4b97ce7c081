//! Time: two timers of the CMSDK, one that runs freely and one for waking up. There is no tick.

use core::sync::atomic::{AtomicU32, Ordering};

use super::interrupts;
use crate::board;
use crate::driver::cmsdk_timer::CmsdkTimer;

const FREE: CmsdkTimer = CmsdkTimer(board::TIMER_AT);
const WAKE: CmsdkTimer = CmsdkTimer(board::TIMER_AT + 0x1000);
const TICKS_PER_US: u64 = board::TIMER_HZ as u64 / 1_000_000;
const NS_PER_TICK: u64 = 1_000_000_000 / board::TIMER_HZ as u64;

/// Longest sleep: a wrap of the free timer must not be slept over.
const LONGEST_US: u64 = (u32::MAX as u64 / TICKS_PER_US) / 2;

/// Wraps of the free timer, and its last reading.
static WRAPS: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);

/// Starts the clock.
pub fn init() {
    FREE.run();
    // QEMU looks for input only when something happens: without this, what was typed before the serial line was
    // readied would wait for ever.
    WAKE.once(1);
    interrupts::unmask(interrupts::TIMER);
}

/// A reading with the wraps before it. Without branches: it takes the same instructions every time.
#[inline(always)]
fn extend(ticks: u32) -> u64 {
    let wraps = WRAPS.load(Ordering::Relaxed) + u32::from(ticks < LAST.load(Ordering::Relaxed));
    WRAPS.store(wraps, Ordering::Relaxed);
    LAST.store(ticks, Ordering::Relaxed);
    u64::from(wraps) << 32 | u64::from(ticks)
}

/// Ticks since boot.
pub fn timestamp() -> u64 {
    extend(FREE.ticks())
}

/// Microseconds since boot.
pub fn now_us() -> u64 {
    timestamp() / TICKS_PER_US
}

/// Stops the timer that wakes.
pub(super) fn stop() {
    WAKE.stop();
}

/// Sleeps until an interrupt is pending or the clock reads `wake_at_us`.
pub fn sleep_until(wake_at_us: Option<u64>) {
    let now_us = now_us();
    if wake_at_us.is_some_and(|us| us <= now_us) {
        return;
    }
    let delay_us = wake_at_us.map_or(LONGEST_US, |us| (us - now_us).min(LONGEST_US));
    // At most half of what 32 bits hold.
    interrupts::sleep(|| WAKE.once((delay_us * TICKS_PER_US) as u32));
}

/// Readings of the free timer, this many `nop` and one load apart.
macro_rules! readings {
    ($($nop:literal)*) => {{
        let (a, b, c, d, e): (u32, u32, u32, u32, u32);
        // SAFETY: reads a register of the timer five times.
        unsafe {
            core::arch::asm!(
                "ldr {0}, [{5}]", $($nop,)*
                "ldr {1}, [{5}]", $($nop,)*
                "ldr {2}, [{5}]", $($nop,)*
                "ldr {3}, [{5}]", $($nop,)*
                "ldr {4}, [{5}]",
                out(reg) a, out(reg) b, out(reg) c, out(reg) d, out(reg) e, in(reg) FREE.value_at(),
                options(nostack, preserves_flags),
            )
        }
        [a, b, c, d, e]
    }};
}

/// Time of a machine that counts its instructions with `-icount shift=<shift>`, for differences: each takes 2^shift.
///
/// `None` if they cannot be counted at that speed, with this timer.
///
/// The timer has a tick of 40 ns, and five instructions of 8 ns in it. A vernier tells them apart: its readings are 8 ns
/// more than a whole number of ticks from one another, so the one at which a tick is gained tells where in its tick the
/// first was.
#[inline(always)]
pub fn counted_ns(shift: u8) -> Option<u64> {
    const PHASES: u64 = 5;
    if NS_PER_TICK != 40 {
        return None;
    }
    let (at, whole) = match shift {
        3 => (readings!("nop" "nop" "nop" "nop" "nop"), 1),
        4 => (readings!("nop" "nop"), 1),
        5 => (readings!("nop" "nop" "nop"), 3),
        6 => (readings!("nop"), 3),
        _ => return None,
    };
    let first = at[0];
    let gained = (1..5).map(|n| first.wrapping_sub(at[n as usize]).wrapping_sub(whole * n));
    let phase = u64::from(gained.sum::<u32>());
    Some((extend(!first) * PHASES + phase) * 8)
}
