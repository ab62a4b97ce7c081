//! `zfl data get`: fetches a data set by the package manager that has it, checks it, and puts it into the user's cache.

use crate::{firmware, output};
use anyhow::{Context, Result};
use clap::Args;
use fl_data::{Set, Windows, watch_tables};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zfl_experiment::{Refusal, Root, require};
use zfl_files::Dir;

/// Debian's package of Fashion-MNIST, and where its files are in it.
const DEBIAN: (&str, &str) = ("dataset-fashion-mnist", "usr/share/datasets/fashion-mnist");

/// The package of Python that has the watch recordings, its SHA-256, and where they are in it.
const SEGLEARN: (&str, &str, &str) = (
    "seglearn==1.2.5",
    "ec6b952c85c9627050102854b372d85951563d3b990df677d7c55547e87413dd",
    "seglearn/data/watch_dataset.npy",
);

/// Most of a file that is fetched.
const MAX_BYTES: u64 = 64 << 20;

/// The set to fetch, and how to cut it.
#[derive(Args)]
pub struct GetArgs {
    /// fashion-mnist or watch
    #[arg(value_name = "SET")]
    pub set: String,

    /// Take the file of the set from there instead of fetching it: for watch, watch_dataset.npy
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,

    /// Length of a window of the watch recordings, in seconds
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    pub window: f64,

    /// Share of a window that the next one has, too
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = share)]
    pub overlap: f64,
}

/// Samples a second of the watch recordings.
const WATCH_HZ: f64 = 50.0;

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.1, 20.0)
}

fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0, 0.95)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok();
    let within = number.filter(|number| (least..=most).contains(number));
    within.ok_or_else(|| format!("give a number from {least} to {most}"))
}

/// The folder of data sets that are fetched.
pub fn folder() -> Option<PathBuf> {
    firmware::cache(|name| std::env::var_os(name)).map(|cache| cache.join("data"))
}

/// Fetches a data set.
///
/// # Errors
/// A [`Refusal`] if it is none that is fetched, or cannot be, with the way to have it by hand.
pub fn get(args: &GetArgs, root: &Root) -> Result<()> {
    let set = fl_data::set(&args.set).filter(|set| !set.files.is_empty());
    let set = set.ok_or_else(|| {
        let name = &args.set;
        Refusal(format!(
            "there is no data set {name:?} to fetch: take fashion-mnist or watch; the others of `zfl data list` \
             are there already"
        ))
    })?;
    let sets = root.sets().ok_or_else(|| {
        Refusal("there is no folder for data sets: set XDG_CACHE_HOME or HOME to one".to_owned())
    })?;
    let target = sets.join(set.name);
    firmware::make(&target).with_context(|| format!("make {}", target.display()))?;
    let work = Work::new(&target)?;
    match &args.from {
        Some(file) => {
            require(set.name == "watch", || {
                format!(
                    "--from is for watch; a folder of IDX files is taken as it is: --data {}",
                    file.display()
                )
            })?;
            watch(set, file, args, &target)?;
        }
        None if set.name == "watch" => watch(set, &seglearn(set, &work)?, args, &target)?,
        None => fashion(set, &work, &target)?,
    }
    output::line(&format!(
        "{} is in {}; licence: {}; use it with --data {}",
        set.name,
        target.display(),
        set.licence,
        set.name
    ))
}

/// Folder for what is fetched, until it is checked.
struct Work(PathBuf);

impl Work {
    fn new(target: &Path) -> Result<Self> {
        let folder = target.join(".fetching");
        // Of a fetch that was broken off.
        let _ = std::fs::remove_dir_all(&folder);
        firmware::make(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What is left is removed by the next fetch.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Fetches Debian's package, and takes its files over.
fn fashion(set: &Set, work: &Work, target: &Path) -> Result<()> {
    let (package, inside) = DEBIAN;
    output::note(&format!("fetching Debian's package {package} with apt-get"));
    execute(set, work, "apt-get", &["download", package])?;
    let file = only_file(&work.0, "deb").map_err(|_| by_hand(set, "apt-get left no package"))?;
    let name = file.to_string_lossy().into_owned();
    execute(set, work, "dpkg-deb", &["-x", &name, "."])?;
    let target = Dir::open(target)?;
    let mut sums = String::new();
    for (name, sum) in set.files {
        let content = checked(set, &work.0.join(inside).join(name), sum)?;
        target.write(name, &content)?;
        sums += &format!("{sum}  {name}\n");
    }
    // Every run holds the files to it.
    Ok(target.write("SHA256SUMS", sums.as_bytes())?)
}

/// Fetches the package of Python, and returns the path of the recordings.
fn seglearn(set: &Set, work: &Work) -> Result<PathBuf> {
    let (package, sum, inside) = SEGLEARN;
    output::note(&format!(
        "fetching the package {package} of Python with pip"
    ));
    let download = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest=.",
        package,
    ];
    execute(set, work, "python3", &download)?;
    let file = only_file(&work.0, "whl").map_err(|_| by_hand(set, "pip left no package"))?;
    checked(set, &file, sum)?;
    let name = file.to_string_lossy().into_owned();
    execute(set, work, "python3", &["-m", "zipfile", "-e", &name, "."])?;
    Ok(work.0.join(inside))
}

/// Cuts the recordings into windows, and writes their features down as CSV.
fn watch(set: &Set, file: &Path, args: &GetArgs, target: &Path) -> Result<()> {
    let [(_, sum)] = set.files else {
        return Err(by_hand(set, "the catalogue has no checksum for it").into());
    };
    let content = checked(set, file, sum)?;
    let length = (args.window * WATCH_HZ).round() as usize;
    let step = (length as f64 * (1.0 - args.overlap)).round() as usize;
    let windows = Windows {
        length,
        step: step.max(1),
    };
    let tables = watch_tables(&content, windows).map_err(|why| by_hand(set, &why))?;
    let target = Dir::open(target)?;
    for (name, table) in ["train.csv", "test.csv"].into_iter().zip(&tables) {
        target.write(name, table.as_bytes())?;
    }
    let [train, test] = tables.map(|table| table.lines().count() - 1);
    let about = format!(
        "Features of the watch recordings of seglearn 1.2.5, {}.\nWindows of {length} samples, one every {}: {train} for \
         training, {test} for testing. Clients are subjects.\n",
        set.licence, windows.step
    );
    target.write("README", about.as_bytes())?;
    output::note(about.trim_end());
    Ok(())
}

/// The content of a file that has to have this SHA-256.
fn checked(set: &Set, file: &Path, sum: &str) -> Result<Vec<u8>> {
    let content = zfl_files::read(file, MAX_BYTES)?;
    let digest = Sha256::digest(&content);
    let found: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    require(found == sum, || {
        by_hand(
            set,
            &format!(
                "{} has the SHA-256 {found}, and it has to be {sum}",
                file.display()
            ),
        )
        .0
    })?;
    Ok(content)
}

/// The only file in a folder with this ending.
fn only_file(folder: &Path, ending: &str) -> io::Result<PathBuf> {
    let files = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path());
    let mut files = files.filter(|path| path.extension().is_some_and(|own| own == ending));
    files.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Runs a program in the folder for what is fetched.
fn execute(set: &Set, work: &Work, program: &str, arguments: &[&str]) -> Result<(), Refusal> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&work.0);
    let ended = command.stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => by_hand(set, &format!("there is no {program} here")),
        _ => by_hand(set, &format!("{program} does not start: {error}")),
    })?;
    require(ended.status.success(), || {
        let text = String::from_utf8_lossy(&ended.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        let last = crate::terminal::text::clean(last.unwrap_or_default());
        by_hand(set, &format!("{program} failed: {last}")).0
    })
}

/// A refusal with the way to have the set by hand.
fn by_hand(set: &Set, why: &str) -> Refusal {
    let way = match set.files {
        [(file, _)] => format!("and give it with: zfl data get {} --from {file}", set.name),
        _ => "and give their folder with --data".to_owned(),
    };
    let names: Vec<_> = set.files.iter().map(|(name, _)| *name).collect();
    Refusal(format!(
        "{why}; load {} from {}, {way}",
        names.join(", "),
        set.address
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work() -> (tempfile::TempDir, Work) {
        let temp = tempfile::tempdir().unwrap();
        let work = Work::new(&temp.path().join("set")).unwrap();
        (temp, work)
    }

    #[test]
    fn what_cannot_be_fetched_says_where_it_can_be_had() {
        let (_temp, work) = work();
        let fashion = fl_data::set("fashion-mnist").unwrap();
        let refused = execute(fashion, &work, "no-such-program", &[])
            .unwrap_err()
            .0;
        for part in [
            "no no-such-program",
            "github.com/zalandoresearch",
            "t10k-labels",
            "--data",
        ] {
            assert!(refused.contains(part), "{refused}");
        }
        let watch = fl_data::set("watch").unwrap();
        let refused = execute(watch, &work, "false", &[]).unwrap_err().0;
        assert!(
            refused.contains("zfl data get watch --from watch_dataset.npy"),
            "{refused}"
        );
    }

    #[test]
    fn a_file_that_is_another_is_refused_with_both_checksums() {
        let (temp, _work) = work();
        let file = temp.path().join("watch_dataset.npy");
        std::fs::write(&file, "abc").unwrap();
        let set = fl_data::set("watch").unwrap();
        let refused = checked(set, &file, set.files[0].1).unwrap_err().to_string();
        assert!(
            refused.contains("ba7816bf") && refused.contains(set.files[0].1),
            "{refused}"
        );
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(checked(set, &file, abc).unwrap(), b"abc");
    }
}
