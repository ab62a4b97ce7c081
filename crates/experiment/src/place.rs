//! Folders for the results of runs: their names, and which are free.

use crate::refusal::{Refusal, require};
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most runs of one name, which differ in the number behind it.
const MOST_OF_ONE_NAME: u32 = 10_000;

/// Longest name of a file, in bytes, on all file systems of Linux.
const NAME_MAX: usize = 255;

/// `20260228-235959-bare-50x20`: sorts by time, and tells what was run.
pub fn default_name(kind: &str, clients: u32, rounds: u32) -> String {
    format!("{}-{kind}-{clients}x{rounds}", timestamp_now())
}

/// The time as `20260228-235959`, UTC.
pub fn timestamp_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    timestamp(now.map_or(0, |since| since.as_secs()))
}

/// A folder for results that is chosen and not made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Given by the user.
    Given(PathBuf),
    /// A name of this folder of runs, or a number behind it where another run has that name.
    Named {
        /// The folder of runs.
        runs: PathBuf,
        /// The name.
        name: String,
    },
}

impl Place {
    /// The folder for a run: `out` if it is given, else one of this name in a folder of runs.
    pub fn of(out: Option<&Path>, runs: &Path, name: &str) -> Self {
        match out {
            Some(out) => Self::Given(std::path::absolute(out).unwrap_or_else(|_| out.to_owned())),
            None => Self::Named {
                runs: runs.to_owned(),
                name: name.to_owned(),
            },
        }
    }

    /// The path that the folder would have now. Nothing is made.
    ///
    /// # Errors
    /// A [`Refusal`] if it cannot be made, or has something in it already.
    pub fn look(&self) -> Result<PathBuf, Refusal> {
        self.first(|path| match vacancy(path)? {
            Vacancy::Nothing => can_be_made(path).map(|()| true),
            Vacancy::Empty => Ok(matches!(self, Self::Given(_))),
            Vacancy::Taken => Ok(false),
        })
    }

    /// Makes the folder. Of runs that begin at the same time each gets one of its own.
    ///
    /// # Errors
    /// As of [`Place::look`].
    pub fn make(&self) -> Result<PathBuf, Refusal> {
        self.first(|path| {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match fs::create_dir(path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let given = matches!(self, Self::Given(_));
                    Ok(given && vacancy(path)? == Vacancy::Empty)
                }
                made => made.map(|()| true),
            }
        })
    }

    /// The first path that will do.
    fn first(&self, will_do: impl Fn(&Path) -> io::Result<bool>) -> Result<PathBuf, Refusal> {
        let will_do = |path: &Path| will_do(path).map_err(|why| self.refused(path, &why));
        match self {
            Self::Given(out) => {
                require(will_do(out)?, || {
                    format!(
                        "{} is not an empty folder: give --out another",
                        out.display()
                    )
                })?;
                Ok(out.clone())
            }
            Self::Named { runs, name } => {
                let numbered = (2..=MOST_OF_ONE_NAME).map(|number| format!("{name}-{number}"));
                for name in std::iter::once(name.clone()).chain(numbered) {
                    let path = runs.join(name);
                    if will_do(&path)? {
                        return Ok(path);
                    }
                }
                let runs = runs.display();
                Err(Refusal(format!(
                    "{runs} has {MOST_OF_ONE_NAME} runs named {name}: give another --name"
                )))
            }
        }
    }

    fn refused(&self, path: &Path, why: &io::Error) -> Refusal {
        let other = match self {
            Self::Given(_) => "give another --out",
            Self::Named { .. } => "give another --name, or a folder as --out",
        };
        let path = path.display();
        Refusal(format!("no run can be written to {path}: {why}; {other}"))
    }
}

/// Checks that a folder can be written, or made.
///
/// # Errors
/// A [`Refusal`] with the reason.
pub fn may_hold(folder: &Path) -> Result<(), Refusal> {
    let can = match vacancy(folder) {
        Ok(Vacancy::Nothing) => can_be_made(folder),
        Ok(_) => may_write(folder),
        Err(why) => Err(why),
    };
    can.map_err(|why| {
        let folder = folder.display();
        Refusal(format!(
            "{folder} cannot be written: {why}; give another folder"
        ))
    })
}

/// State of a path that is to be a run's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vacancy {
    Nothing,
    Empty,
    Taken,
}

fn vacancy(path: &Path) -> io::Result<Vacancy> {
    match path.read_dir() {
        Ok(mut entries) => Ok(match entries.next() {
            None => Vacancy::Empty,
            Some(_) => Vacancy::Taken,
        }),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        // A link to nothing has that name, too.
        Err(_) if path.symlink_metadata().is_ok() => Ok(Vacancy::Taken),
        Err(_) => Ok(Vacancy::Nothing),
    }
}

/// Checks that a path can be made: the folders that it needs may be missing, too.
fn can_be_made(path: &Path) -> io::Result<()> {
    let long = |part: std::path::Component<'_>| part.as_os_str().len() > NAME_MAX;
    if path.components().any(long) {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let path = std::path::absolute(path)?;
    let above = path.ancestors().skip(1).find(|above| above.exists());
    may_write(above.unwrap_or(Path::new("/")))
}

fn may_write(folder: &Path) -> io::Result<()> {
    let name = folder.display();
    if !folder.is_dir() {
        return Err(io::Error::other(format!("{name} is no folder")));
    }
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|why| io::Error::other(format!("{name}: {}", why.desc())))
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
        let place = Place::of(None, root.path(), "night");
        let first = root.path().join("night");
        assert_eq!(place.look().unwrap(), first);
        assert!(!first.exists(), "nothing is made yet");
        assert_eq!(place.make().unwrap(), first);
        let second = root.path().join("night-2");
        assert_eq!(place.look().unwrap(), second, "another run may be about to");
        assert_eq!(place.make().unwrap(), second);
    }

    #[test]
    fn runs_of_one_name_that_begin_at_once_get_a_folder_each() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::of(None, root.path(), "night");
        let begin = || place.make().unwrap();
        let made: std::collections::BTreeSet<PathBuf> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..20).map(|_| scope.spawn(begin)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(made.len(), 20);
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_its_path_and_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
        link("loop", "loop");
        link("nowhere", "dangling");
        for (out, reason) in [
            (at(&"n".repeat(256)), "too long"),
            (at("new").join("n".repeat(256)), "too long"),
            (at("file/below"), "ot a directory"),
            (at("file/new/below"), "ot a directory"),
            (at("loop"), "symbolic link"),
            (at("loop/below"), "symbolic link"),
            (at("dangling"), "not an empty folder"),
        ] {
            let place = Place::of(Some(&out), root.path(), "x");
            let refusal = place.look().unwrap_err().to_string();
            let named = refusal.contains(&out.display().to_string());
            assert!(named && refusal.contains(reason), "{refusal}");
        }
        let place = Place::of(None, &at("file"), "x");
        assert!(place.look().unwrap_err().to_string().contains("--out"));
        assert!(!at("new").exists(), "a look makes nothing");
    }

    #[test]
    fn results_are_never_overwritten() {
        let out = tempfile::tempdir().unwrap();
        let given = |path: &Path| Place::of(Some(path), out.path(), "x");
        assert!(given(out.path()).look().is_ok() && given(out.path()).make().is_ok());
        std::fs::write(out.path().join("rounds.csv"), "").unwrap();
        let full = given(out.path());
        assert!(full.look().is_err() && full.make().is_err());
        let file = given(&out.path().join("rounds.csv"));
        assert!(file.look().is_err() && file.make().is_err());
    }
}
