//! Time: the CPU's time-stamp counter, and the local APIC's timer for waking up.
//!
//! There is no tick: the timer is set only before the CPU sleeps, for the moment at which somebody
//! has to wake up. The time-stamp counter's rate is found by comparing it with the APIC's timer,
//! which QEMU runs at exactly 1 GHz.

use core::ptr;

use super::descriptors::{SPURIOUS_VECTOR, TIMER_VECTOR};
use super::{cpu, interrupts};
use crate::boot_cell::BootCell;

const APIC: usize = 0xfee0_0000;
const SPURIOUS: usize = 0xf0;
const TIMER_ENTRY: usize = 0x320;
const LINT0_ENTRY: usize = 0x350;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;

const APIC_ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
/// The 8259's interrupts pass through.
const EXTERNAL: u32 = 0b111 << 8;
const DIVIDE_BY_1: u32 = 0b1011;
const DIVIDE_BY_128: u32 = 0b1010;

/// Length of the rate's measurement, in nanoseconds. With readings a microsecond apart at both ends,
/// the rate is right to a tenth of a percent.
const CALIBRATION_NS: u32 = 2_000_000;
/// Readings at either end, of which the one least disturbed counts: the host may take the CPU away
/// in the middle of any of them.
const READINGS: usize = 16;

#[derive(Clone, Copy)]
struct Clock {
    ticks_per_ms: u32,
    boot_ticks: u64,
}

static CLOCK: BootCell<Clock> = BootCell::new(Clock {
    ticks_per_ms: 1,
    boot_ticks: 0,
});

/// Copies the clock out: no reference to it ever exists.
fn clock() -> Clock {
    // SAFETY: one thread, interrupts run no Rust, and the value is whole: `set_clock` alone writes it.
    unsafe { CLOCK.get().read() }
}

fn set_clock(clock: Clock) {
    // SAFETY: as above.
    unsafe { CLOCK.get().write(clock) }
}

fn apic_write(register: usize, value: u32) {
    // SAFETY: the APIC's page is mapped and holds nothing of Rust's; the registers named above do
    // no more than raise interrupts, whose vectors are in place.
    unsafe { ptr::with_exposed_provenance_mut::<u32>(APIC + register).write_volatile(value) }
}

fn apic_read(register: usize) -> u32 {
    // SAFETY: as above.
    unsafe { ptr::with_exposed_provenance::<u32>(APIC + register).read_volatile() }
}

/// Stops the timers the machine started, finds the clock's rate and starts the clock.
///
/// # Safety
/// The interrupt table must be loaded.
pub unsafe fn init() {
    // A one-shot count that has run out: masking the old timer would leave it running on the host.
    for (port, value) in [(0x43, 0x30), (0x40, 1), (0x40, 0)] {
        // SAFETY: the 8254 touches no memory.
        unsafe { cpu::out8(port, value) };
    }
    apic_write(SPURIOUS, APIC_ENABLED | u32::from(SPURIOUS_VECTOR));
    apic_write(LINT0_ENTRY, EXTERNAL);
    let ticks_per_ms = calibrate();
    apic_write(DIVIDE, DIVIDE_BY_128);
    apic_write(TIMER_ENTRY, u32::from(TIMER_VECTOR));
    set_clock(Clock {
        ticks_per_ms,
        boot_ticks: cpu::timestamp(),
    });
}

fn calibrate() -> u32 {
    apic_write(DIVIDE, DIVIDE_BY_1);
    apic_write(TIMER_ENTRY, MASKED);
    apic_write(INITIAL_COUNT, u32::MAX);
    let start = reading();
    while start.apic_left - apic_read(CURRENT_COUNT) < CALIBRATION_NS {}
    let end = reading();
    apic_write(INITIAL_COUNT, 0);
    let ns = u64::from(start.apic_left - end.apic_left);
    let ticks = end.ticks - start.ticks;
    u32::try_from(ticks * 1_000_000 / ns)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Both clocks at one moment.
struct Reading {
    ticks: u64,
    apic_left: u32,
}

fn reading() -> Reading {
    let mut best = Reading {
        ticks: 0,
        apic_left: 0,
    };
    let mut least_width = u64::MAX;
    for _ in 0..READINGS {
        let before = cpu::timestamp();
        let apic_left = apic_read(CURRENT_COUNT);
        let width = cpu::timestamp() - before;
        if width < least_width {
            least_width = width;
            best = Reading {
                ticks: before + width / 2,
                apic_left,
            };
        }
    }
    best
}

/// Microseconds since boot.
pub fn now_us() -> u64 {
    let Clock {
        ticks_per_ms,
        boot_ticks,
    } = clock();
    (cpu::timestamp() - boot_ticks) * 1000 / u64::from(ticks_per_ms)
}

/// Sleeps until an interrupt is pending or the clock reads `wake_at_us`.
pub fn sleep_until(wake_at_us: Option<u64>) {
    let delay_us = match wake_at_us {
        Some(wake_at_us) => match wake_at_us.saturating_sub(now_us()) {
            0 => return,
            delay_us => Some(delay_us),
        },
        None => None,
    };
    interrupts::sleep(|| {
        // 128 ns a count; a longer sleep than the 9 minutes that fit is cut into several. Zero
        // stops the timer.
        let count = delay_us.map_or(0, |us| (us.saturating_mul(1000) / 128).max(1));
        apic_write(INITIAL_COUNT, u32::try_from(count).unwrap_or(u32::MAX));
    });
}
