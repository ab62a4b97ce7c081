//! Versions of what a run depends on besides zfl and its configuration: emulator, system, firmware, data.

use crate::experiment::Experiment;
use crate::radio::Radio;
use crate::root::Data;
use anyhow::{Context, Result};
use fl_data::DIGITS;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use zfl_machine::Qemu;

/// Bytes of a file read at once.
const PIECE: usize = 64 << 10;

/// Most of a firmware or of a file of the data, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// By name: `qemu` and `linux` in their own words; as a SHA-256 `firmware <board>`, `board <board>`,
/// `link <link>`, `trace`, `partition` and `data`.
///
/// # Errors
/// If a firmware or a file of the data cannot be read.
pub fn of(experiment: &Experiment) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    let boards = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    let mut boards = boards.filter(|board| !board.is_program());
    if let Some(qemu) = boards.find_map(|board| Qemu::find(board).ok()) {
        versions.insert("qemu".to_owned(), qemu.version.to_string());
    }
    if let Ok(release) = std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        let system = format!("{} {}", release.trim(), std::env::consts::ARCH);
        versions.insert("linux".to_owned(), system);
    }
    versions.extend(of_devices(experiment)?);
    versions.extend(texts(experiment));
    versions.insert("data".to_owned(), data(&experiment.examples)?);
    Ok(versions)
}

/// SHA-256 of what devices are made of: `firmware <board>`, `board <board>`, `link <link>`.
///
/// # Errors
/// If a firmware cannot be read.
pub fn of_devices(experiment: &Experiment) -> Result<BTreeMap<String, String>> {
    let mut versions = texts(experiment);
    versions.retain(|name, _| !matches!(name.as_str(), "trace" | "partition"));
    let boards = experiment.groups.iter().filter_map(|g| g.board.as_ref());
    // One that is not built is refused, by its name, where it is booted.
    for board in boards.filter(|board| board.kernel.image.is_file()) {
        let hash = sha256(std::slice::from_ref(&board.kernel.image))?;
        versions.insert(format!("firmware {}", board.name), hash);
    }
    Ok(versions)
}

/// SHA-256 of what is small enough to be kept in a run directory: `board <board>`, `link <link>`, `trace`,
/// `partition`, `topology`.
pub fn texts(experiment: &Experiment) -> BTreeMap<String, String> {
    let of_groups = experiment.groups.iter().flat_map(|group| {
        let board = group.board.as_ref();
        let board = board.map(|board| (format!("board {}", board.name), &board.text));
        let link = group.link_name.as_ref().zip(group.link_text.as_ref());
        // Of a path the file's name: the copy in the run directory has the same.
        let name = |link: &str| format!("link {}", link.rsplit('/').next().unwrap_or(link));
        let link = link.map(|(link, text)| (name(link), text));
        board.into_iter().chain(link)
    });
    let alone = [
        ("trace", &experiment.trace),
        ("partition", &experiment.partition_text),
    ];
    let places = experiment.mesh_radio.as_ref().and_then(Radio::text);
    let alone = alone.into_iter().map(|(name, text)| (name, text.as_ref()));
    let alone = alone.chain([("topology", places)]);
    let alone = alone.filter_map(|(name, text)| Some((name.to_owned(), text?)));
    let texts = of_groups.chain(alone);
    texts
        .map(|(name, text)| (name, finish(Sha256::new().chain_update(text))))
        .collect()
}

/// Names of the inputs that are not what they were when a run began: of those that decide its model or its
/// times. The system and its emulator may be others.
pub fn changed_inputs(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let changed = |name: &&String| {
        !matches!(name.as_str(), "qemu" | "linux") && before.get(*name) != now.get(*name)
    };
    names.into_iter().filter(changed).cloned().collect()
}

/// The versions of a run that goes on: those that are different now say both.
pub fn merge_on_resume(
    before: BTreeMap<String, String>,
    mut now: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    for (name, before) in before {
        let last = before.rsplit("; resumed with ").next();
        let version = match now.remove(&name) {
            Some(other) if last != Some(&other) => format!("{before}; resumed with {other}"),
            _ => before,
        };
        now.insert(name, version);
    }
    now
}

/// Name and hash of a data set.
fn data(examples: &Data) -> Result<String> {
    Ok(match examples {
        Data::Digits => format!(
            "digits {}",
            finish(Sha256::new().chain_update(DIGITS.concat()))
        ),
        Data::Synthetic(name, _) => format!("{name} of zfl {}", env!("CARGO_PKG_VERSION")),
        Data::Folder(dir) | Data::Set(_, dir) => {
            format!("{} {}", data_name(dir), sha256(&fl_data::files(dir))?)
        }
    })
}

/// The name of a data set: its folder's.
fn data_name(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let name = dir.file_name().unwrap_or(dir.as_os_str());
    name.to_string_lossy().into_owned()
}

/// `sha256:` and the hash of these files, one behind the other.
fn sha256(files: &[PathBuf]) -> Result<String> {
    let mut hasher = Sha256::new();
    for path in files {
        take_in(&mut hasher, path).with_context(|| format!("read {}", path.display()))?;
    }
    Ok(finish(hasher))
}

fn finish(hasher: Sha256) -> String {
    let hash = hasher.finalize();
    let digits = hash.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

fn take_in(hasher: &mut Sha256, path: &Path) -> io::Result<()> {
    let mut file = zfl_files::open(path, MAX_FILE)?;
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(()),
            read => hasher.update(&piece[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_hashed_one_behind_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| dir.path().join(name));
        std::fs::write(&files[0], "ab").unwrap();
        std::fs::write(&files[1], "c").unwrap();
        // FIPS 180-4, the example "abc".
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&files).unwrap(), abc);
        let gone = sha256(&[dir.path().join("gone")]).unwrap_err();
        assert!(format!("{gone:#}").contains("gone"), "{gone:#}");
    }

    #[test]
    fn what_changes_across_a_resume_is_told_with_what_was() {
        let versions = |qemu: &str| BTreeMap::from([("qemu".to_owned(), qemu.to_owned())]);
        let once = merge_on_resume(versions("7"), versions("7"));
        assert_eq!(once, versions("7"));
        let other = merge_on_resume(once, versions("8"));
        assert_eq!(other, versions("7; resumed with 8"));
        assert_eq!(merge_on_resume(other.clone(), versions("8")), other);
        assert_eq!(merge_on_resume(other.clone(), BTreeMap::new()), other);
        assert_eq!(
            merge_on_resume(BTreeMap::new(), versions("8")),
            versions("8")
        );
    }
}
