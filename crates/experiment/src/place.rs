//! Folders for the results of runs: their names, and which are free.

use crate::refusal::{Refusal, require};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// `20260228-235959-bare-50x20`: sorts by time, and tells what was run.
pub fn default_name(kind: &str, clients: u32, rounds: u32) -> String {
    format!("{}-{kind}-{clients}x{rounds}", timestamp_now())
}

/// The time as `20260228-235959`, UTC.
pub fn timestamp_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    timestamp(now.map_or(0, |since| since.as_secs()))
}

/// The folder for a run: `out` if it is given, else `runs/<name>`, with a number behind it where
/// another run of the same second has that name.
///
/// # Errors
/// A [`Refusal`] if the folder has something in it already.
pub fn choose(out: Option<&Path>, runs: &Path, name: &str) -> Result<PathBuf, Refusal> {
    if let Some(out) = out {
        require(is_vacant(out), || {
            format!(
                "{} is not an empty folder: give --out another",
                out.display()
            )
        })?;
        return Ok(std::path::absolute(out).unwrap_or_else(|_| out.to_owned()));
    }
    let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
    let free = std::iter::once(runs.join(name))
        .chain(numbered)
        .find(|path| is_vacant(path));
    free.ok_or_else(|| Refusal(format!("no free name in {}: clear it up", runs.display())))
}

/// Tells whether nothing is there, or an empty folder.
fn is_vacant(path: &Path) -> bool {
    match path.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Seconds since 1970 as `yyyymmdd-hhmmss`, UTC.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Days since 1970 as year, month, day. Hinnant's `civil_from_days`, for days that are not negative:
/// <https://howardhinnant.github.io/date_algorithms.html>.
fn date(days: u64) -> (u64, u64, u64) {
    // Years here begin in March, so that a leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + 400 * era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        // As `date -u -d @N` has them.
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_782_399), "20000228-235959");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
        assert_eq!(timestamp(1_709_251_199), "20240229-235959");
        assert_eq!(timestamp(4_107_542_400), "21000301-000000");
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number() {
        let root = tempfile::tempdir().unwrap();
        let first = choose(None, root.path(), "night").unwrap();
        assert_eq!(first, root.path().join("night"));
        std::fs::create_dir_all(&first).unwrap();
        assert_eq!(
            choose(None, root.path(), "night").unwrap(),
            first,
            "still empty"
        );
        std::fs::write(first.join("summary.json"), "{}").unwrap();
        let second = choose(None, root.path(), "night").unwrap();
        assert_eq!(second, root.path().join("night-2"));
    }

    #[test]
    fn results_are_never_overwritten() {
        let out = tempfile::tempdir().unwrap();
        assert!(choose(Some(out.path()), out.path(), "x").is_ok());
        std::fs::write(out.path().join("rounds.csv"), "").unwrap();
        assert!(choose(Some(out.path()), out.path(), "x").is_err());
        assert!(
            choose(Some(&out.path().join("rounds.csv")), out.path(), "x").is_err(),
            "a file"
        );
    }
}
