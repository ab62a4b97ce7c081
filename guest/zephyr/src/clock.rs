//! The device's clock, finer than Zephyr's tick.

use zephyr::raw;

/// Cycles of the hardware clock in a second; zephyr-lang-rust demands that it is known when it
/// builds.
const CYCLES_PER_S: u64 = zephyr::kconfig::CONFIG_SYS_CLOCK_HW_CYCLES_PER_SEC as u64;
const CYCLES_PER_TICK: u64 = CYCLES_PER_S / zephyr::kconfig::CONFIG_SYS_CLOCK_TICKS_PER_SEC as u64;

/// Cycles of the hardware clock since boot.
///
/// The counter has 32 bits and wraps within seconds, the uptime in ticks is coarse but never wraps:
/// the count is the one nearest to the uptime that ends in the counter's bits.
fn cycles() -> u64 {
    // SAFETY: both read a clock and take no arguments.
    let (ticks, low) = unsafe { (raw::k_uptime_ticks(), raw::k_cycle_get_32()) };
    let coarse = ticks.cast_unsigned() * CYCLES_PER_TICK;
    let distance = low.wrapping_sub(coarse as u32).cast_signed();
    coarse.saturating_add_signed(i64::from(distance))
}

/// Microseconds since boot.
pub fn now_us() -> u64 {
    let cycles = cycles();
    cycles / CYCLES_PER_S * 1_000_000 + cycles % CYCLES_PER_S * 1_000_000 / CYCLES_PER_S
}
