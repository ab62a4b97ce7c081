//! Models of a device's time and energy, with their coefficients in
//! the board's file.
//!
//! QEMU has neither caches nor a pipeline nor a radio. What it can tell exactly is how many
//! instructions ran and how many bytes went; these models turn that into seconds and joules of a
//! device that is named in the file. They are estimates, good for comparing one run with another.

use serde::Deserialize;

use crate::speed::Speed;

/// The clock rate at which virtual time is told, at one instruction per cycle.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clock {
    /// Million instructions a second: 1000, halved up to ten times, so that a guest whose
    /// instructions QEMU counts (`-icount`) has the very same time.
    pub mips: f64,
}

/// The energy that a device takes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Energy {
    /// An instruction, with everything that is powered meanwhile; the radio is not.
    pub joule_per_instruction: f64,
    /// A byte sent, with everything that is powered meanwhile.
    pub joule_per_byte_sent: f64,
    /// A byte received, likewise.
    pub joule_per_byte_received: f64,
    /// While it neither computes nor sends nor receives.
    pub idle_watt: f64,
}

impl Clock {
    /// The speed at which QEMU has this clock.
    ///
    /// # Errors
    /// If there is none; the message says which there are.
    pub fn speed(&self, throttle: bool) -> Result<Speed, String> {
        Speed::of_mips(self.mips, throttle).map_err(|error| format!("clock.mips: {error}"))
    }

    /// Seconds that so many instructions take.
    pub fn seconds(&self, instructions: u64) -> f64 {
        instructions as f64 / (self.mips * 1e6)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let exact = self.speed(false)?.mips();
        if self.mips == exact {
            return Ok(());
        }
        // Rounded, the two clocks would go apart.
        Err(format!("clock.mips is {}: write {exact}", self.mips))
    }
}

impl Energy {
    /// Joules that a device takes; an estimate.
    ///
    /// The terms are added up: a device that receives while it computes is charged for both. What
    /// is negative or no number counts for nothing.
    ///
    /// # Units
    /// `idle_s`: seconds in which nothing of the other three happens.
    pub fn estimate(
        &self,
        instructions: u64,
        bytes_sent: u64,
        bytes_received: u64,
        idle_s: f64,
    ) -> f64 {
        // `max` also turns NaN into 0.
        instructions as f64 * self.joule_per_instruction
            + bytes_sent as f64 * self.joule_per_byte_sent
            + bytes_received as f64 * self.joule_per_byte_received
            + idle_s.max(0.0) * self.idle_watt
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let coefficients = [
            ("joule_per_instruction", self.joule_per_instruction),
            ("joule_per_byte_sent", self.joule_per_byte_sent),
            ("joule_per_byte_received", self.joule_per_byte_received),
            ("idle_watt", self.idle_watt),
        ];
        let bad = coefficients
            .into_iter()
            .find(|(_, value)| !(value.is_finite() && *value > 0.0));
        bad.map_or(Ok(()), |(name, value)| {
            Err(format!(
                "energy.{name} is {value}: give a finite number above 0, or leave [energy] out"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENERGY: Energy = Energy {
        joule_per_instruction: 1e-9,
        joule_per_byte_sent: 2e-7,
        joule_per_byte_received: 1e-7,
        idle_watt: 0.5,
    };

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1.0)
    }

    #[test]
    fn energy_is_the_sum_of_its_four_terms() {
        // By hand: 2 J of instructions, 0.2 J sent, 0.3 J received, 2 J in 4 s of waiting.
        let joule = ENERGY.estimate(2_000_000_000, 1_000_000, 3_000_000, 4.0);
        assert!(close(joule, 4.5), "{joule}");
        assert!(close(ENERGY.estimate(5, 0, 0, 0.0), 5e-9));
        assert!(close(ENERGY.estimate(0, 7, 0, 0.0), 14e-7));
        assert!(close(ENERGY.estimate(0, 0, 9, 0.0), 9e-7));
        assert!(close(ENERGY.estimate(0, 0, 0, 3.0), 1.5));
    }

    #[test]
    fn a_time_that_is_none_costs_nothing() {
        for idle_s in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(ENERGY.estimate(0, 0, 0, idle_s), 0.0);
        }
        let most = ENERGY.estimate(u64::MAX, u64::MAX, u64::MAX, 1e9);
        assert!(most.is_finite());
    }

    #[test]
    fn coefficients_are_finite_and_positive() {
        assert_eq!(ENERGY.check(), Ok(()));
        for bad in [0.0, -1e-9, f64::NAN, f64::INFINITY] {
            let broken = [
                Energy {
                    joule_per_instruction: bad,
                    ..ENERGY
                },
                Energy {
                    joule_per_byte_sent: bad,
                    ..ENERGY
                },
                Energy {
                    joule_per_byte_received: bad,
                    ..ENERGY
                },
                Energy {
                    idle_watt: bad,
                    ..ENERGY
                },
            ];
            let names = ["instruction", "byte_sent", "byte_received", "idle_watt"];
            for (energy, name) in broken.into_iter().zip(names) {
                let problem = energy.check().unwrap_err();
                assert!(problem.contains(name), "{problem}");
            }
        }
    }

    #[test]
    fn virtual_time_is_instructions_over_the_clock() {
        let clock = Clock { mips: 125.0 };
        assert!(close(clock.seconds(51_392_825), 0.4111426));
        assert_eq!(clock.seconds(0), 0.0);
        assert_eq!(clock.speed(false).unwrap().shift, 3);
        assert_eq!(clock.check(), Ok(()));
    }

    #[test]
    fn the_clock_is_one_that_qemu_has() {
        assert_eq!(Clock { mips: 31.25 }.check(), Ok(()));
        assert!(Clock { mips: 31.2 }.check().unwrap_err().contains("31.25"));
        for mips in [0.0, -125.0, 160.0, f64::NAN, f64::INFINITY] {
            let problem = Clock { mips }.check().unwrap_err();
            assert!(problem.contains("1000, 500, 250, 125"), "{problem}");
        }
    }
}
