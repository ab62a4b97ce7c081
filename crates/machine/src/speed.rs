//! Speed of a machine's processor, in counted instructions (QEMU's `-icount`).

use std::fmt;

/// The speed of a machine's processor: its clock advances by 2^`shift` ns with each instruction, so
/// it does 1000/2^`shift` million instructions in a second *of its own time*.
///
/// A guest's time is then counted and the same in every run, whatever else the host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// From 0 to [`Speed::MAX_SHIFT`].
    pub shift: u8,
    /// True if the guest is also held back to that speed in the host's time, where the host would be
    /// faster. A host that is slower is never made up for.
    pub throttle: bool,
}

/// A speed that cannot be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "{mips} MIPS cannot be had, only 1000 halved up to ten times: {}",
    Speed::choices()
)]
pub struct SpeedError {
    /// The request as given.
    pub mips: f64,
}

impl Speed {
    /// The slowest, 0.98 MIPS: QEMU counts no slower.
    pub const MAX_SHIFT: u8 = 10;

    /// Tolerance of a number: `31` stands for 31.25, `1` does not stand for 0.98.
    const TOLERANCE: f64 = 0.01;

    /// The speed of so many million instructions a second.
    ///
    /// # Errors
    /// If it is none of those that there are; the message names them.
    pub fn of_mips(mips: f64, throttle: bool) -> Result<Self, SpeedError> {
        let is_it = |shift: &u8| (mips / mips_of(*shift) - 1.0).abs() <= Self::TOLERANCE;
        let shift = (0..=Self::MAX_SHIFT)
            .find(is_it)
            .ok_or(SpeedError { mips })?;
        Ok(Self { shift, throttle })
    }

    /// Million instructions in a second of the guest's time.
    pub fn mips(self) -> f64 {
        mips_of(self.shift)
    }

    /// All speeds, for people: `1000, 500, …`.
    pub fn choices() -> String {
        let all = (0..=Self::MAX_SHIFT).map(|shift| {
            // Three digits do to write them by.
            let mips = mips_of(shift);
            let digits = usize::from(mips < 100.0) + usize::from(mips < 10.0);
            format!("{mips:.digits$}").trim_end_matches(".0").to_owned()
        });
        all.collect::<Vec<_>>().join(", ")
    }

    /// The value of `-icount`.
    pub(crate) fn argument(self) -> String {
        let align = if self.throttle { ",align=on" } else { "" };
        // Without sleep, a guest that waits would let its clock run ahead of the network's.
        format!("shift={},sleep=on{align}", self.shift)
    }

    /// Says what to change, if anything must be.
    pub fn check(self) -> Result<(), String> {
        if self.shift > Self::MAX_SHIFT {
            let (shift, most) = (self.shift, Self::MAX_SHIFT);
            return Err(format!("a shift of {shift}: give 0 to {most}"));
        }
        Ok(())
    }
}

fn mips_of(shift: u8) -> f64 {
    1000.0 / f64::from(shift).exp2()
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MIPS", self.mips())?;
        f.write_str(if self.throttle { " at most" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_can_be_asked_for_as_it_is_written() {
        assert_eq!(
            Speed::choices(),
            "1000, 500, 250, 125, 62.5, 31.2, 15.6, 7.81, 3.91, 1.95, 0.98"
        );
        for (shift, mips) in Speed::choices().split(", ").enumerate() {
            let speed = Speed::of_mips(mips.parse().unwrap(), true).unwrap();
            assert_eq!(usize::from(speed.shift), shift);
        }
        assert_eq!(Speed::of_mips(62.5, false).unwrap().mips(), 62.5);
    }

    #[test]
    fn other_speeds_are_refused_with_those_that_there_are() {
        for mips in [0.0, -1.0, f64::NAN, f64::INFINITY, 1.0, 100.0, 2000.0] {
            let text = Speed::of_mips(mips, false).unwrap_err().to_string();
            assert!(text.contains("1000, 500, 250"), "{text}");
        }
    }

    #[test]
    fn a_throttled_guest_is_aligned() {
        let speed = Speed::of_mips(125.0, false).unwrap();
        assert_eq!(speed.argument(), "shift=3,sleep=on");
        let slow = Speed {
            throttle: true,
            ..speed
        };
        assert_eq!(slow.argument(), "shift=3,sleep=on,align=on");
        assert_eq!(slow.to_string(), "125 MIPS at most");
        assert!(Speed { shift: 11, ..slow }.check().is_err());
    }
}
