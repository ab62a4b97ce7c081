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

/// Greatest number that divides both.
const fn common(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common(b, a % b) }
}

/// Least shift at which the timer tells instructions apart; a slower clock only makes it easier.
const LEAST_SHIFT: u8 = 3;
/// Nanoseconds of the finest grid on which an instruction can begin, and steps of it in a tick.
const GRID_NS: u64 = common(NS_PER_TICK, 1 << LEAST_SHIFT);
const STEPS: u64 = NS_PER_TICK / GRID_NS;

/// Time of a machine that counts its instructions with `-icount shift=<shift>`, for differences: each takes 2^shift.
///
/// `None` if they cannot be counted at that speed, with this timer.
///
/// A tick of the timer is longer than an instruction: 40 ns and 8 ns, say. As many readings as a tick has steps, two
/// instructions apart, lie on different steps of their ticks, since the numbers of steps are odd and the distance is
/// a power of two. So their *sum* goes up by one with each step, wherever in its tick the first was.
#[inline(always)]
pub fn counted_ns(shift: u8) -> Option<u64> {
    const {
        assert!(STEPS % 2 == 1, "a tick has an odd number of steps");
    }
    if shift < LEAST_SHIFT {
        return None;
    }
    let (first, sum): (u32, u32);
    // SAFETY: reads a register of the timer.
    unsafe {
        core::arch::asm!(
            "ldr {first}, [{value}]",
            "mov {sum}, {first}",
            ".rept {more}",
            "ldr {next}, [{value}]",
            "add {sum}, {sum}, {next}",
            ".endr",
            first = out(reg) first, sum = out(reg) sum, next = out(reg) _,
            value = in(reg) FREE.value_at(), more = const STEPS - 1,
            options(nostack),
        )
    }
    // The timer counts down.
    let gained = first.wrapping_mul(STEPS as u32).wrapping_sub(sum);
    Some((extend(!first) * STEPS + u64::from(gained)) * GRID_NS)
}
