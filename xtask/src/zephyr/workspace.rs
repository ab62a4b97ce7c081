//! The west workspace that `west.yml` describes: in `.zfl/west`, so that nothing outside the repository changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, project};

/// Folder of the workspace that set-up makes.
pub fn own() -> PathBuf {
    project::root().join(".zfl/west")
}

/// The manifest of this repository.
///
/// # Errors
/// If `west.yml` cannot be read.
pub fn manifest() -> Result<String> {
    let path = project::root().join("west.yml");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The Zephyr that the manifest names, for people.
pub fn pinned(manifest: &str) -> String {
    let revision = manifest
        .lines()
        .find_map(|line| line.trim().strip_prefix("revision:"));
    format!("Zephyr {}", revision.unwrap_or("of west.yml").trim())
}

/// Makes the workspace, or brings it up to date with `west.yml`, and fetches what that names.
///
/// # Errors
/// If west fails; the message says what serves in its place.
pub fn fetch(west: &Path) -> Result<()> {
    let manifest = manifest()?;
    let folder = own().join("manifest");
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(folder.join("west.yml"), &manifest))
        .with_context(|| format!("write {}", folder.join("west.yml").display()))?;
    if !own().join(".west").is_dir() {
        println!("setup: a west workspace in {}", own().display());
        let mut init = Command::new(west);
        process::run(init.current_dir(own()).args(["init", "-l", "manifest"]))?;
    }
    println!("setup: west update");
    let mut update = Command::new(west);
    update
        .current_dir(own())
        .args(["update", "--narrow", "--fetch-opt=--depth=1"]);
    process::run(&mut update).with_context(|| {
        format!(
            "west could not fetch {} and what it imports: is GitHub reachable from here? With trees of your \
             own, set ZEPHYR_BASE to Zephyr's and ZEPHYR_MODULES to that of zephyr-lang-rust",
            pinned(&manifest)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_says_which_zephyr_is_pinned() {
        let pinned = pinned(&manifest().unwrap());
        assert!(pinned.starts_with("Zephyr v4."), "{pinned}");
    }
}
