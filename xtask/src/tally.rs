//! Results of tests: counted from libtest's output, and summed up per tier in a closing table.

use anyhow::{Result, bail};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// Results of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that ran and passed.
    pub passed: u32,
    /// Tests that ran and failed.
    pub failed: u32,
    /// Tests left out for lack of something, such as a browser.
    pub skipped: u32,
    /// Time of the tests themselves, without builds.
    pub time: Duration,
}

impl Tally {
    /// Reads libtest's line `test result: ok. 5 passed; 0 failed; 1 ignored; …; finished in 0.01s`.
    pub fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let mut tally = Self::default();
        for part in counts.split(';').map(str::trim) {
            let (number, kind) = part.split_once(' ')?;
            match kind {
                "passed" => tally.passed = number.parse().ok()?,
                "failed" => tally.failed = number.parse().ok()?,
                "ignored" => tally.skipped = number.parse().ok()?,
                _ => tally.time += duration(part).unwrap_or_default(),
            }
        }
        Some(tally)
    }

    /// Adds tests that were counted as skipped before.
    pub fn have_now_run(&mut self, tests: Self) {
        self.skipped = self.skipped.saturating_sub(tests.passed + tests.failed);
        *self += tests;
    }
}

/// Reads libtest's `finished in 0.01s`.
fn duration(part: &str) -> Option<Duration> {
    let seconds = part.strip_prefix("finished in ")?.strip_suffix('s')?;
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.time += other.time;
    }
}

/// The tiers that ran, in their order.
#[derive(Default)]
pub struct Tiers(Vec<Tier>);

struct Tier {
    name: &'static str,
    tally: Tally,
    /// Time from the tier's first command to its last, builds included.
    wall: Duration,
}

impl Tiers {
    /// Runs a tier and notes its results and its time.
    ///
    /// # Errors
    /// If the tier cannot run.
    pub fn run(&mut self, name: &'static str, tier: impl FnOnce() -> Result<Tally>) -> Result<()> {
        let began = Instant::now();
        let tally = tier()?;
        let wall = began.elapsed();
        self.0.push(Tier { name, tally, wall });
        Ok(())
    }

    /// Prints the table of tiers and the sum of all tests.
    ///
    /// # Errors
    /// If a test failed, or none ran.
    pub fn conclude(self) -> Result<()> {
        println!("\n{}", self.table());
        let mut all = Tally::default();
        self.0.iter().for_each(|tier| all += tier.tally);
        println!(
            "\n{} passed, {} failed, {} skipped",
            all.passed, all.failed, all.skipped
        );
        if all.failed > 0 {
            bail!("{} tests failed", all.failed);
        }
        if all.passed == 0 {
            bail!("no test ran");
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut lines = vec![format!(
            "{:<10} {:>6} {:>8} {:>8} {:>8} {:>14}",
            "tier", "passed", "failed", "skipped", "tests s", "with builds s"
        )];
        lines.extend(self.0.iter().map(|Tier { name, tally, wall }| {
            format!(
                "{name:<10} {:>6} {:>8} {:>8} {:>8.1} {:>14.1}",
                tally.passed,
                tally.failed,
                tally.skipped,
                tally.time.as_secs_f64(),
                wall.as_secs_f64(),
            )
        }));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: u32, failed: u32, skipped: u32) -> Tally {
        Tally {
            passed,
            failed,
            skipped,
            time: Duration::ZERO,
        }
    }

    fn concluded(tally: Tally) -> Result<()> {
        let mut tiers = Tiers::default();
        tiers.run("host", || Ok(tally))?;
        tiers.conclude()
    }

    #[test]
    fn reads_libtest() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 3 filtered \
                    out; finished in 1.25s";
        let time = Duration::from_millis(1250);
        let read = Tally {
            time,
            ..tally(5, 2, 1)
        };
        assert_eq!(Tally::parse(line), Some(read));
        assert_eq!(Tally::parse("test tests::reads_libtest ... ok"), None);
        let without_time = "test result: ok. 5 passed; 0 failed; 0 ignored";
        assert_eq!(Tally::parse(without_time), Some(tally(5, 0, 0)));
    }

    #[test]
    fn a_test_that_ran_after_all_is_counted_once() {
        let mut all = tally(5, 0, 2);
        all.have_now_run(tally(1, 0, 0));
        assert_eq!(all, tally(6, 0, 1));
        all.have_now_run(tally(0, 1, 0));
        assert_eq!(all, tally(6, 1, 0));
    }

    #[test]
    fn failures_and_silence_are_failures() {
        assert!(concluded(tally(3, 0, 0)).is_ok());
        assert!(concluded(tally(3, 1, 0)).is_err());
        assert!(concluded(tally(0, 0, 0)).is_err());
    }

    #[test]
    fn a_table_has_a_line_for_each_tier() {
        let tier = |name, tests, wall| Tier {
            name,
            tally: Tally {
                time: Duration::from_millis(tests),
                ..tally(700, 0, 3)
            },
            wall: Duration::from_millis(wall),
        };
        let tiers = Tiers(vec![
            tier("host", 61_240, 301_000),
            tier("fleets", 100, 9_990),
        ]);
        let expected = "\
            tier       passed   failed  skipped  tests s  with builds s\n\
            host          700        0        3     61.2          301.0\n\
            fleets        700        0        3      0.1           10.0";
        assert_eq!(tiers.table(), expected);
    }
}
