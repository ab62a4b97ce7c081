//! Rust toolchains that can build for a machine without an operating system.
//!
//! Firmware needs `core` and `alloc` for its target: prebuilt (what `rustup target add` brings), or
//! their sources and a Cargo that builds them along (`-Zbuild-std`).

use crate::{process, project};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Rust that zfl builds with, as in the root `Cargo.toml`.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// A toolchain, and how it comes by `core` and `alloc` for one target.
#[derive(Debug)]
pub struct Toolchain {
    cargo: PathBuf,
    /// `None` for the Rust that builds xtask itself.
    rustc: Option<PathBuf>,
    target: String,
    core: Core,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Core {
    Prebuilt,
    FromSource,
}

impl Toolchain {
    /// The first of the Rust in use and Debian's own (packages `rustc-web`, `cargo-web` and
    /// `rust-web-src`) that can build for `target`.
    pub fn find(target: &str) -> Option<Self> {
        let in_use = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let debian = (
            PathBuf::from("/usr/bin/cargo"),
            Some(PathBuf::from("/usr/bin/rustc")),
        );
        [(in_use.into(), None), debian]
            .into_iter()
            .find_map(|(cargo, rustc)| {
                let core = core_of(rustc.as_deref(), target)?;
                Some(Self {
                    cargo,
                    rustc,
                    target: target.to_owned(),
                    core,
                })
            })
    }

    /// A Cargo command of this toolchain, `build` or the like, for its target.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut cargo = Command::new(&self.cargo);
        cargo.current_dir(project::root());
        cargo.arg(subcommand).args(["--target", &self.target]);
        if let Some(rustc) = &self.rustc {
            cargo
                .env("RUSTC", rustc)
                .env("RUSTDOC", rustc.with_file_name("rustdoc"));
            cargo.env_remove("RUSTUP_TOOLCHAIN");
        }
        if self.core == Core::FromSource {
            cargo.args([
                "-Zbuild-std=core,alloc",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
            // Stable Rust takes -Z flags only so.
            cargo.env("RUSTC_BOOTSTRAP", "1");
        }
        cargo
    }

    /// True if clippy can be used: only the Rust that builds xtask may have one.
    pub fn has_clippy(&self) -> bool {
        self.rustc.is_none()
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let core = match self.core {
            Core::Prebuilt => "prebuilt core",
            Core::FromSource => "core from its sources",
        };
        format!("{} with {core} for {}", self.cargo.display(), self.target)
    }
}

/// A Rust with its sources, for a build that makes `core` itself: Zephyr's.
#[derive(Debug)]
pub struct Sources {
    /// Folder of its programs, unless the `PATH` has it.
    folder: Option<&'static Path>,
}

impl Sources {
    /// The first of the Rust in use and Debian's own that has its sources.
    pub fn find() -> Option<Self> {
        let debian = Path::new("/usr/bin");
        if has_sources(None) {
            return Some(Self { folder: None });
        }
        has_sources(Some(&debian.join("rustc"))).then_some(Self {
            folder: Some(debian),
        })
    }

    /// Folders in front of the `PATH`.
    pub fn folder(&self) -> Option<&Path> {
        self.folder
    }
}

fn has_sources(rustc: Option<&Path>) -> bool {
    is_recent(rustc).is_some() && sources_of(rustc).is_some()
}

/// `Some` if it is recent enough to build zfl.
fn is_recent(rustc: Option<&Path>) -> Option<()> {
    let version = rustc_says(rustc, &["--version"]).ok()?;
    let version = numbers(version.split_whitespace().nth(1)?);
    (version >= numbers(RUST_VERSION)).then_some(())
}

fn sources_of(rustc: Option<&Path>) -> Option<PathBuf> {
    let sysroot = rustc_says(rustc, &["--print", "sysroot"]).ok()?;
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
    sources.exists().then_some(sources)
}

fn core_of(rustc: Option<&Path>, target: &str) -> Option<Core> {
    let ask = |arguments: &[&str]| rustc_says(rustc, arguments).ok();
    is_recent(rustc)?;
    let libraries = ask(&["--print", "target-libdir", "--target", target])?;
    if has_core(Path::new(libraries.trim())) {
        return Some(Core::Prebuilt);
    }
    sources_of(rustc).map(|_| Core::FromSource)
}

fn rustc_says(rustc: Option<&Path>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(rustc.unwrap_or(Path::new("rustc")));
    if rustc.is_some() {
        command.env_remove("RUSTUP_TOOLCHAIN");
    }
    process::quiet_output(command.current_dir(project::root()).args(arguments))
}

fn has_core(libraries: &Path) -> bool {
    let Ok(files) = libraries.read_dir() else {
        return false;
    };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

/// `1.96.0` as `[1, 96, 0]`, `1.90` as `[1, 90]`: lists compare as versions do.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0") > numbers("1.90"));
        assert!(numbers("1.90.0") >= numbers("1.90"));
        assert!(numbers("1.63.0") < numbers("1.90"));
        assert!(numbers("1.97.0-nightly") > numbers("1.96.2"));
    }
}
