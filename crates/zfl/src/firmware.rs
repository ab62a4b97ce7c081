//! Firmware that is built into zfl: for QEMU, which reads files, it is put into a folder of the user's.

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use zfl_experiment::Refusal;
use zfl_files::Dir;

/// Images by their paths in a tree.
const IMAGES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/firmware.rs"));

/// Finds a file with the image that has this path in a tree, if it is built in.
///
/// # Errors
/// A [`Refusal`] if there is no folder for it.
pub fn find(image: &Path) -> Result<Option<PathBuf>, Refusal> {
    let found = IMAGES.iter().find(|(path, _)| image == Path::new(path));
    let Some((_, content)) = found else {
        return Ok(None);
    };
    let name = image.file_stem().unwrap_or_default().to_owned();
    let mut problem = None;
    for folder in folders(|name| std::env::var_os(name)) {
        match keep(&folder, name.clone(), content) {
            Ok(file) => return Ok(Some(file)),
            Err(error) => problem = Some(format!("{}: {error}", folder.display())),
        }
    }
    let problem = problem.unwrap_or_default();
    Err(Refusal(format!(
        "the firmware that is built in needs a folder of your own ({problem}): set XDG_CACHE_HOME to one"
    )))
}

/// The user's cache: a folder for what can be had again.
pub fn cache(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.map(|folder| folder.join("zfl"))
}

/// Folders that may keep it: the user's cache, else one among the temporary files.
fn folders(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let cache = cache(variable);
    let temporary = std::env::temp_dir().join(format!("zfl-{}", geteuid()));
    cache.into_iter().chain([temporary]).collect()
}

/// The file with this content in a folder. It is written if it is not there; its name has the content's hash.
fn keep(folder: &Path, name: OsString, content: &[u8]) -> io::Result<PathBuf> {
    make(folder)?;
    let hash = Sha256::digest(content);
    let digits: String = hash
        .iter()
        .take(8)
        .map(|octet| format!("{octet:02x}"))
        .collect();
    let mut file = name;
    file.push(format!("-{digits}.elf"));
    let path = folder.join(&file);
    let (folder, name) = Dir::of(&path)?;
    let there = folder.read(name, content.len() as u64);
    if there.is_ok_and(|there| there == content) {
        return Ok(path);
    }
    // Whole or not at all: a machine that is just starting never sees half of one.
    folder.write(name, content)?;
    Ok(path)
}

/// Makes a folder, which has to be the user's and nobody else's to write.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    let found = folder.symlink_metadata()?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write there"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn an_image_is_kept_and_damage_to_it_repaired() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("cache/zfl");
        let keep = || keep(&folder, "bare".into(), b"content").unwrap();
        let file = keep();
        assert_eq!(fs::read(&file).unwrap(), b"content");
        fs::write(&file, b"damaged").unwrap();
        assert_eq!(keep(), file);
        assert_eq!(fs::read(&file).unwrap(), b"content");
        fs::remove_file(&file).unwrap();
        symlink("/dev/null", &file).unwrap();
        keep();
        assert!(file.symlink_metadata().unwrap().is_file());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_others_is_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let (open, link) = (temp.path().join("open"), temp.path().join("link"));
        fs::create_dir(&open).unwrap();
        symlink(temp.path(), &link).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for folder in [open, link] {
            assert!(
                keep(&folder, "bare".into(), b"content").is_err(),
                "{folder:?}"
            );
        }
    }

    #[test]
    fn the_cache_comes_before_temporary_files() {
        let of =
            |set: &'static str| folders(move |name| (name == set).then(|| "/somewhere".into()));
        assert_eq!(of("XDG_CACHE_HOME")[0], Path::new("/somewhere/zfl"));
        assert_eq!(of("HOME")[0], Path::new("/somewhere/.cache/zfl"));
        assert!(of("")[0].starts_with(std::env::temp_dir()));
    }
}
