//! Paths in the repository.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub fn root() -> &'static Path {
    // xtask is never installed: it runs where it was built, in a folder of the root.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The Cargo that started xtask, at the repository's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Cargo's target directory of the root workspace.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => std::path::absolute(&dir).unwrap_or_else(|_| dir.into()),
        None => root().join("target"),
    }
}

/// The part of a `board.toml` that a build needs.
#[derive(Debug, Deserialize)]
pub struct Board {
    /// The folder's name.
    pub name: String,
    /// The firmware that it boots.
    pub body: String,
    /// Zephyr's name of the board, with its qualifiers; the folder's name if it is the same.
    zephyr: Option<String>,
    /// Its kernel.
    pub kernel: Kernel,
    /// The firmware of a node of a mesh.
    pub radio: Option<RoleImage>,
    /// The firmware of a gateway.
    pub gateway: Option<RoleImage>,
    /// Limits of the firmware's memory.
    pub limits: Limits,
    /// Its machine.
    pub machine: Machine,
    /// Facts that its firmware is built for, if it is no PC's.
    pub firmware: Option<Firmware>,
}

/// A board's machine.
#[derive(Debug, Deserialize)]
pub struct Machine {
    /// The emulator's program; empty if the image is a program of the host.
    #[serde(default)]
    pub qemu: String,
    /// The words of an image that is a program of the host.
    pub program: Option<Vec<String>>,
}

/// The bare firmware of a microcontroller.
#[derive(Debug, Deserialize)]
pub struct Firmware {
    /// Rust's target.
    pub target: String,
    /// Memory for code and constants.
    pub code: Region,
    /// Memory for all else.
    pub ram: Region,
    /// The stack's part of the RAM.
    pub stack_kib: u64,
}

/// A region of memory.
#[derive(Debug, Deserialize)]
pub struct Region {
    /// Its length.
    pub kib: u64,
}

impl Board {
    /// Zephyr's name of the board, for `west build -b`.
    pub fn zephyr_name(&self) -> &str {
        self.zephyr.as_deref().unwrap_or(&self.name)
    }
}

/// Limits of a firmware's memory, in KiB.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Limits {
    /// Code, constants and initialised data.
    pub image_kib: u64,
    /// Data and bss.
    pub static_kib: u64,
    /// Most heap in use.
    pub heap_kib: u64,
    /// Most stack in use.
    pub stack_kib: u64,
    /// Memory that its QEMU may have to itself on the host.
    pub host_private_kib: u64,
}

/// A board's kernel.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Kernel {
    /// Its image, from the repository's root.
    pub image: PathBuf,
}

/// A firmware of its own for another role than a device's.
#[derive(Debug, Deserialize)]
pub struct RoleImage {
    /// Its image, from the repository's root.
    pub image: PathBuf,
    /// Limits of its memory.
    pub limits: Limits,
}

/// All boards, by name.
///
/// # Errors
/// If boards/ or one of its `board.toml` cannot be read.
pub fn boards() -> Result<Vec<Board>> {
    let folder = root().join("boards");
    let mut boards = Vec::new();
    for entry in folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?
    {
        let path = entry?.path().join("board.toml");
        if path.exists() {
            boards.push(read_board(&path)?);
        }
    }
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(boards)
}

fn read_board(path: &Path) -> Result<Board> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not as expected", path.display()))
}
