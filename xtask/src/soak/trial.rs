//! Runs of one setting: twice as it is, once killed and resumed; and what they have in common.

use super::setting::{Random, Setting};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// After this long a run hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// Status with which a resume is refused.
const REFUSED: i32 = 2;

/// Time for the last process of a killed run to go.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The part of a summary that two runs of one seed have in common.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Outcome {
    rounds_completed: u32,
    model_sha256: String,
    /// Reasons for which the model depends on time, as the run states them.
    #[serde(default)]
    depends_on_time: Vec<String>,
    #[serde(skip)]
    status: Option<i32>,
}

impl Outcome {
    fn is_as(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.status, one.rounds_completed, one.model_sha256.clone());
        key(self) == key(other)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            rounds_completed,
            model_sha256,
            ..
        } = self;
        let hash = model_sha256.get(..8).unwrap_or(model_sha256);
        let status = status.map_or("a signal".to_owned(), |status| status.to_string());
        write!(f, "{hash} after {rounds_completed} rounds, status {status}")
    }
}

/// Verdict on a setting.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// All runs ended alike.
    Same(String),
    /// They differ, and say why they may.
    Stated(String),
    /// They differ without a word.
    Different(String),
}

/// Judges the outcomes of a setting's runs.
pub fn judge(outcomes: &[Outcome]) -> Verdict {
    let Some(first) = outcomes.first() else {
        return Verdict::Different("no run".to_owned());
    };
    if outcomes.iter().all(|one| one.is_as(first)) {
        return Verdict::Same(first.to_string());
    }
    let mut reasons = outcomes.iter().flat_map(|one| &one.depends_on_time);
    match reasons.next() {
        Some(reason) => Verdict::Stated(reason.clone()),
        None => {
            let all: Vec<String> = outcomes.iter().map(Outcome::to_string).collect();
            Verdict::Different(all.join("; "))
        }
    }
}

/// A setting with its folder.
pub struct Trial<'a> {
    /// The program.
    pub zfl: &'a Path,
    /// The data set.
    pub data: &'a Path,
    /// The setting.
    pub setting: &'a Setting,
    /// Its files.
    pub folder: PathBuf,
}

impl Trial<'_> {
    /// Makes all runs.
    ///
    /// # Errors
    /// If one hangs, or ends without a summary.
    pub fn run(&self, random: &mut Random) -> Result<Vec<Outcome>> {
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder)?;
        fs::write(self.file(), &self.setting.toml)?;
        let began = Instant::now();
        let first = self.whole("first")?;
        let took = began.elapsed();
        let second = busy(random.between(0, 3), || self.whole("second"))?;
        let killed = self.killed("killed", took.mul_f64(random.fraction()))?;
        Ok(vec![first, second, killed])
    }

    /// The command that makes a run of it.
    pub fn command(&self) -> String {
        let (file, data) = (self.file(), self.data);
        format!("zfl run {} --data {}", file.display(), data.display())
    }

    fn file(&self) -> PathBuf {
        self.folder.join("experiment.toml")
    }

    fn whole(&self, name: &str) -> Result<Outcome> {
        let mut child = self.start(name)?;
        self.outcome(name, wait(&mut child)?)
    }

    /// Kills a run after a while, and resumes it; begins anew if no round was complete.
    fn killed(&self, name: &str, after: Duration) -> Result<Outcome> {
        let mut child = self.start(name)?;
        let until = Instant::now() + after;
        while Instant::now() < until {
            if let Some(status) = child.try_wait()? {
                return self.outcome(name, status.code());
            }
            sleep(Duration::from_millis(5));
        }
        child.kill().context("kill a run")?;
        child.wait()?;
        let until = Instant::now() + GONE_WITHIN;
        loop {
            let mut child = self.begin(name, |command| {
                command
                    .args(["run", "--resume"])
                    .arg(self.folder.join(name));
            })?;
            let status = wait(&mut child)?;
            let said = fs::read_to_string(self.folder.join(format!("{name}.log")))?;
            if ["anew", "no run directory"]
                .iter()
                .any(|word| said.contains(word))
            {
                // It was killed before its first round was complete.
                let _ = fs::remove_dir_all(self.folder.join(name));
                return self.whole(name);
            }
            if status != Some(REFUSED) {
                return self.outcome(name, status);
            }
            if Instant::now() > until {
                bail!("a resume was refused: {}", said.trim());
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn start(&self, name: &str) -> Result<Child> {
        self.begin(name, |command| {
            command.arg("run").arg(self.file());
            command.arg("--data").arg(self.data);
            command.arg("--out").arg(self.folder.join(name));
        })
    }

    fn begin(&self, name: &str, arguments: impl FnOnce(&mut Command)) -> Result<Child> {
        let mut command = Command::new(self.zfl);
        arguments(&mut command);
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        command
            .args(["--dashboard", "off"])
            .stdout(log.try_clone()?)
            .stderr(log);
        command.spawn().context("start zfl")
    }

    fn outcome(&self, name: &str, status: Option<i32>) -> Result<Outcome> {
        let path = self.folder.join(name).join("summary.json");
        let text = fs::read_to_string(&path).with_context(|| {
            let log = fs::read_to_string(self.folder.join(format!("{name}.log")));
            let log = log.unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            format!("{name}: no summary: {last}")
        })?;
        let outcome: Outcome = serde_json::from_str(&text).context("summary.json")?;
        Ok(Outcome { status, ..outcome })
    }
}

/// Does something while so many threads keep the processors busy.
fn busy<T>(threads: u64, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = work();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Waits for the end of a run.
fn wait(child: &mut Child) -> Result<Option<i32>> {
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        sleep(Duration::from_millis(10));
    }
    // It may have ended just now.
    let _ = child.kill();
    let _ = child.wait();
    bail!("a run hangs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(hash: &str, reasons: &[&str]) -> Outcome {
        Outcome {
            rounds_completed: 3,
            model_sha256: hash.to_owned(),
            depends_on_time: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            status: Some(0),
        }
    }

    #[test]
    fn only_what_differs_without_a_word_is_a_fault() {
        let verdict = |hashes: [(&str, &[&str]); 3]| {
            judge(&hashes.map(|(hash, reasons)| outcome(hash, reasons)))
        };
        let same = verdict([("a", &[]), ("a", &[]), ("a", &["late"])]);
        assert!(matches!(same, Verdict::Same(_)), "{same:?}");
        let stated = verdict([("a", &[]), ("b", &["late"]), ("a", &[])]);
        assert!(
            matches!(&stated, Verdict::Stated(why) if why == "late"),
            "{stated:?}"
        );
        let different = verdict([("a", &[]), ("b", &[]), ("a", &[])]);
        assert!(matches!(different, Verdict::Different(_)), "{different:?}");
        let mut shorter = outcome("a", &[]);
        shorter.rounds_completed = 2;
        let different = judge(&[outcome("a", &[]), shorter]);
        assert!(matches!(different, Verdict::Different(_)), "{different:?}");
    }
}
