//! Runs under way: `zfl ps`, `zfl logs`, `zfl stop`.

use crate::output;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zfl_experiment::Refusal;
use zfl_files::{Dir, Signal};
use zfl_run_dir::{MAX_TABLE, holder, is_under_way};

/// Time limit of a clean stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Says which files of a run are not as they were written.
pub fn warn_of_damage(run: &Path) {
    for line in zfl_run_dir::damage(run) {
        output::warn(&line);
    }
}

/// The runs under way in a folder of runs.
pub fn under_way(runs: &Path) -> Vec<(PathBuf, u32)> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some((entry.path(), holder(&entry.path())?.pid?)))
        .collect();
    found.sort();
    found
}

/// `zfl ps`: runs by themselves, and those of sweeps.
///
/// # Errors
/// If it cannot be printed.
pub fn list(runs: &Path, sweeps: &Path) -> Result<()> {
    let mut found = under_way(runs);
    let of_sweeps = fs::read_dir(sweeps).into_iter().flatten().flatten();
    found.extend(of_sweeps.flat_map(|sweep| under_way(&sweep.path().join("runs"))));
    if found.is_empty() {
        return output::line(&format!(
            "no run is under way in {} or {}",
            runs.display(),
            sweeps.display()
        ));
    }
    let mut table = format!("{:>8}  {:>9}  run\n", "process", "round");
    for (run, pid) in found {
        table += &format!("{pid:>8}  {:>9}  {}\n", progress(&run), run.display());
    }
    output::print(&table)
}

/// Progress of a run: the last round of its table.
pub fn progress(run: &Path) -> String {
    let table = Dir::open(run).and_then(|dir| dir.read_text("rounds.csv", MAX_TABLE));
    let table = table.unwrap_or_default();
    // A row that is being written, or was cut off, names no round yet.
    let whole = table.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole
        .lines()
        .last()
        .and_then(|line| line.split(',').next()?.parse::<u32>().ok());
    last.map_or_else(|| "starting".to_owned(), |round| round.to_string())
}

/// The run that a person means: a directory, or the name of one in the folder of runs, or, if
/// nothing is said, the only one under way, else the latest.
///
/// # Errors
/// A [`Refusal`] if there is no such run.
pub fn find(runs: &Path, named: Option<&Path>) -> Result<PathBuf, Refusal> {
    if let Some(name) = named {
        for candidate in [name.to_owned(), runs.join(name)] {
            if candidate.join("config.toml").is_file() {
                return Ok(candidate);
            }
        }
        let why = fs::metadata(name.join("config.toml")).err();
        let why = why.filter(|error| error.kind() != ErrorKind::NotFound);
        let why = why.map_or(String::new(), |error| format!(": {error}"));
        return Err(Refusal(format!(
            "{} is no run directory, nor one in {}{why}",
            name.display(),
            runs.display()
        )));
    }
    if let [(only, _)] = &under_way(runs)[..] {
        return Ok(only.clone());
    }
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let latest = entries
        .filter(|entry| entry.path().join("config.toml").is_file())
        .max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok());
    latest
        .map(|entry| entry.path())
        .ok_or_else(|| Refusal(format!("there is no run in {}; name one", runs.display())))
}

/// The run that `zfl stop` means: the named one, or the only one under way.
///
/// # Errors
/// A [`Refusal`] if several are under way, or none is.
pub fn to_stop(runs: &Path, named: Option<&Path>) -> Result<PathBuf, Refusal> {
    if named.is_some() {
        return find(runs, named);
    }
    match &under_way(runs)[..] {
        [] => Err(Refusal(format!(
            "no run is under way in {}; name one that is elsewhere",
            runs.display()
        ))),
        [(only, _)] => Ok(only.clone()),
        several => {
            let names = several.iter().map(|(run, _)| run.display().to_string());
            let names = names.collect::<Vec<_>>().join("\n  ");
            Err(Refusal(format!(
                "{} runs are under way, name the one to stop:\n  {names}",
                several.len()
            )))
        }
    }
}

/// `zfl stop`: ends a run as Ctrl-C would, and waits for it.
///
/// # Errors
/// If it is not under way, or does not stop.
pub fn stop(run: &Path) -> Result<()> {
    let over = || Refusal(format!("{} is not under way", run.display()));
    let holder = holder(run).ok_or_else(over)?;
    holder.signal(Signal::TERM).context("signal the run")?;
    // One that stands still, by ^Z, hears of the end only when it goes on; another may be over already.
    let _ = holder.signal(Signal::CONT);
    let deadline = Instant::now() + STOP_WITHIN;
    while is_under_way(run) {
        if Instant::now() > deadline {
            let pid = holder.pid.unwrap_or_default();
            bail!(
                "process {pid} has not stopped after {STOP_WITHIN:?}; kill -9 {pid} leaves nothing behind"
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    output::say(&format!("{} is stopped", run.display()));
    Ok(())
}

/// `zfl logs CLIENT`: the path of a device's serial log.
///
/// # Errors
/// A [`Refusal`] if the run has no such device.
pub fn log_path(run: &Path, client: u32) -> Result<PathBuf, Refusal> {
    let name = format!("serial/{client}.log");
    if !Dir::open(run).is_ok_and(|dir| dir.is_file(&name)) {
        let run = run.display();
        return Err(Refusal(format!("{run} has no log of a device {client}")));
    }
    Ok(run.join(name))
}

/// Prints a log, and, if asked, what comes behind it until the run ends.
///
/// # Errors
/// If it cannot be read.
pub fn print_log(run: &Path, client: u32, follow: bool) -> Result<()> {
    use std::io::Read;
    log_path(run, client)?;
    let mut file = zfl_run_dir::log(run, client)?;
    let mut text = Text::default();
    loop {
        // Asked before the read, so that nothing written before the end is missed.
        let under_way = is_under_way(run);
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        output::print(&text.printable(&bytes))?;
        if !follow || !under_way {
            return output::print(&text.rest());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Printable text of a device, without sequences that steer a terminal.
#[derive(Default)]
struct Text {
    /// A character that is not whole yet.
    pending: Vec<u8>,
}

impl Text {
    /// Printable part of all that was read so far; bytes that are not UTF-8 are replaced.
    fn printable(&mut self, bytes: &[u8]) -> String {
        let bytes = [&self.pending[..], bytes].concat();
        let last = bytes.utf8_chunks().last().map_or(&[][..], |c| c.invalid());
        // The end of a character may still come, if that is how it begins.
        let begins = std::str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
        let (whole, pending) = bytes.split_at(bytes.len() - if begins { last.len() } else { 0 });
        self.pending = pending.to_vec();
        zfl_text::plain_lines(&String::from_utf8_lossy(whole))
    }

    /// Rest that will never be whole.
    fn rest(&mut self) -> String {
        let pending = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&pending).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zfl_run_dir::lock;

    fn run_in(runs: &Path, name: &str) -> PathBuf {
        let run = runs.join(name);
        fs::create_dir(&run).unwrap();
        fs::write(run.join("config.toml"), "").unwrap();
        run
    }

    #[test]
    fn a_run_is_under_way_while_its_mark_is_set() {
        let runs = tempfile::tempdir().unwrap();
        let run = run_in(runs.path(), "a");
        assert!(!is_under_way(&run));
        let mark = lock(&run).unwrap();
        assert_eq!(under_way(runs.path()), [(run.clone(), std::process::id())]);
        drop(mark);
        assert!(!is_under_way(&run));
        assert!(
            stop(&run)
                .unwrap_err()
                .to_string()
                .contains("not under way")
        );
    }

    #[test]
    fn half_a_row_is_no_progress() {
        let run = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(run.path().join("rounds.csv"), text).unwrap();
        assert_eq!(progress(run.path()), "starting");
        write("round,x\n10,1\n1");
        assert_eq!(progress(run.path()), "10");
        write("round,x\n0");
        assert_eq!(progress(run.path()), "starting");
    }

    #[test]
    fn runs_are_found_by_name_path_and_default() {
        let runs = tempfile::tempdir().unwrap();
        assert!(find(runs.path(), None).is_err());
        let (a, b) = (run_in(runs.path(), "a"), run_in(runs.path(), "b"));
        assert_eq!(find(runs.path(), Some(Path::new("a"))).unwrap(), a);
        assert_eq!(find(runs.path(), Some(&b)).unwrap(), b);
        assert!(find(runs.path(), Some(Path::new("c"))).is_err());
        let _mark = lock(&a).unwrap();
        assert_eq!(find(runs.path(), None).unwrap(), a);
    }

    #[test]
    fn what_is_stopped_is_under_way_and_the_only_one() {
        let runs = tempfile::tempdir().unwrap();
        let (a, b) = (run_in(runs.path(), "a"), run_in(runs.path(), "b"));
        let said = |named| to_stop(runs.path(), named).unwrap_err();
        assert!(said(None).to_string().contains("no run is under way"));
        let _of_a = lock(&a).unwrap();
        assert_eq!(to_stop(runs.path(), None).unwrap(), a);
        let _of_b = lock(&b).unwrap();
        let several = said(None);
        for part in ["2 runs", a.to_str().unwrap(), b.to_str().unwrap()] {
            assert!(several.to_string().contains(part), "{several}");
        }
        assert_eq!(to_stop(runs.path(), Some(Path::new("b"))).unwrap(), b);
    }

    #[test]
    fn a_log_cannot_drive_the_terminal() {
        let printable = |bytes: &[u8]| Text::default().printable(bytes);
        assert_eq!(printable(b"a\x1b[2Jb\r\n\x07"), "a[2Jb\n");
        // U+009B is CSI to a terminal, and U+202E turns the line round.
        assert_eq!(printable(b"a\xc2\x9b31mb"), "a31mb");
        assert_eq!(
            printable("gr\u{fc}n \u{202e}txt".as_bytes()),
            "gr\u{fc}n txt"
        );
        assert_eq!(printable(b"\x9b31m\xff"), "\u{fffd}31m\u{fffd}");
    }

    #[test]
    fn a_character_may_arrive_in_pieces() {
        let mut text = Text::default();
        let pieces: [&[u8]; 4] = [b"a\xc2", b"\x9b\xe2\x82", b"\xac\xf0", b"b\xc2"];
        let said = pieces.map(|piece| text.printable(piece));
        assert_eq!(said, ["a", "", "\u{20ac}", "\u{fffd}b"]);
        assert_eq!(
            (text.rest(), text.rest()),
            ("\u{fffd}".into(), String::new())
        );
    }
}
