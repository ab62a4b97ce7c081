//! Needs of an emulator among the host's files, told by the kernel, the loader and the emulator itself.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::board::Board;
use crate::environment;

/// The loader's list of libraries, where there is one.
const CACHE: &str = "/etc/ld.so.cache";

/// The words with which a process was started, the first with its whole path.
pub(super) fn command_line(pid: u32) -> io::Result<Vec<OsString>> {
    let text = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    let words = text.split(|&byte| byte == 0);
    let mut words: Vec<OsString> = words.map(|word| OsString::from_vec(word.into())).collect();
    if let Some(first) = words
        .first_mut()
        .filter(|first| !Path::new(first).is_absolute())
    {
        *first = std::fs::read_link(format!("/proc/{pid}/exe"))?.into();
    }
    Ok(words)
}

/// Files that a process has mapped: its program, its libraries, its modules.
pub(super) fn mapped(pid: u32) -> io::Result<BTreeSet<PathBuf>> {
    let maps = std::fs::read(format!("/proc/{pid}/maps"))?;
    let maps = String::from_utf8_lossy(&maps);
    // Before the path stand numbers and letters only.
    let paths = maps.lines().filter_map(|line| line.get(line.find('/')?..));
    Ok(files(paths.map(PathBuf::from)))
}

/// Files by the names under which the loader looks for them.
pub(super) fn loaded(emulator: &[OsString]) -> io::Result<BTreeSet<PathBuf>> {
    let text = output(
        emulator,
        &["--version"],
        &[("LD_TRACE_LOADED_OBJECTS", "1")],
    )?;
    let path = |line: &str| {
        let start = line.find('/')?;
        let end = line.rfind(" (0x")?;
        line.get(start..end).map(PathBuf::from)
    };
    let traced = text.lines().filter_map(path);
    Ok(files(traced.chain([CACHE.into()])))
}

/// Folders of firmware.
pub(super) fn data(emulator: &[OsString]) -> io::Result<BTreeSet<PathBuf>> {
    let text = output(emulator, &["-L", "help"], &[])?;
    let folders = text.lines().map(|line| normal(Path::new(line.trim())));
    Ok(folders
        .filter(|path| path.is_absolute() && path.is_dir() && path.parent().is_some())
        .collect())
}

/// Files and folders that the emulator's own words and the board's arguments name.
pub(super) fn named(emulator: &[OsString], board: &Board) -> BTreeSet<PathBuf> {
    let options = board.nic.options.values();
    let words = board.machine.extra_args.iter().chain(options);
    let parts = words.flat_map(|word| word.split([',', '=']));
    let paths = parts
        .map(OsStr::new)
        .chain(emulator.iter().map(AsRef::as_ref));
    paths
        .map(|path| normal(Path::new(path)))
        .filter(|path| path.is_absolute() && path.parent().is_some() && path.exists())
        .collect()
}

fn files(paths: impl Iterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let paths = paths.map(|path| normal(&path));
    paths
        .filter(|path| path.is_absolute() && path.is_file())
        .collect()
}

/// A path without `..`, as its text has it.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => _ = normal.pop(),
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

fn output(emulator: &[OsString], more: &[&str], variables: &[(&str, &str)]) -> io::Result<String> {
    let [program, own @ ..] = emulator else {
        return Err(io::Error::other("no emulator"));
    };
    let more = more.iter().map(OsString::from);
    let arguments: Vec<OsString> = own.iter().cloned().chain(more).collect();
    let output = environment::output(program, &arguments, variables)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_mapped_with_its_program_and_its_libraries() {
        let mapped = mapped(std::process::id()).unwrap();
        let own = std::env::current_exe().unwrap().canonicalize().unwrap();
        assert!(mapped.contains(&own), "{mapped:?}");
        assert_eq!(command_line(std::process::id()).unwrap()[0], own);
    }

    #[test]
    fn the_loader_tells_the_names_that_it_looks_for() {
        let loaded = loaded(&["/bin/sh".into()]).unwrap();
        let has = |part: &str| {
            loaded
                .iter()
                .any(|path| path.to_str().is_some_and(|path| path.contains(part)))
        };
        assert!(has("/libc.so") || has("/ld-musl"), "{loaded:?}");
    }

    #[test]
    fn a_file_that_an_argument_names_is_needed() {
        let mut board = crate::board::tests::board("microvm");
        board.machine.extra_args = vec!["-drive".into(), "file=/etc/passwd,format=raw".into()];
        board.machine.extra_args.push("-bios=/nowhere".into());
        let named = named(&["/bin/sh".into(), "help".into()], &board);
        assert_eq!(named, ["/bin/sh", "/etc/passwd"].map(PathBuf::from).into());
    }

    #[test]
    fn a_path_is_made_plain() {
        assert_eq!(
            normal(Path::new("/usr/libexec/../share/./x")),
            Path::new("/usr/share/x")
        );
        assert_eq!(normal(Path::new("/../etc")), Path::new("/etc"));
    }
}
