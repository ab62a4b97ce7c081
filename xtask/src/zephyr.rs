//! The Zephyr guest: finding a Zephyr, setting one up, and building the application against it.
//!
//! A Zephyr is a tree and the module zephyr-lang-rust. `ZEPHYR_BASE` names the tree, as everywhere
//! in Zephyr's world; else the west workspace of `west.yml` is looked for, whose top is the folder
//! above this repository. `ZEPHYR_MODULES` names the module, else it is looked for beside the tree.

use crate::process::{self, exists, succeeds_within};
use crate::toolchain::Sources;
use crate::{project, setup};
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Debian's packages for Zephyr's build, with the program or library that shows each is there.
const PACKAGES: [(&str, &str); 6] = [
    ("cmake", "cmake"),
    ("ninja-build", "ninja"),
    ("device-tree-compiler", "dtc"),
    ("gperf", "gperf"),
    ("python3-venv", "python3"),
    ("git", "git"),
];

/// The compiler that serves where there is no Zephyr SDK.
const GCC: &str = "i686-linux-gnu-gcc";
const GCC_PACKAGE: &str = "gcc-i686-linux-gnu";

/// Sources of a Zephyr tree.
pub const SETUP: &str = "cargo xtask setup --zephyr";

/// A tree to build against.
#[derive(Debug)]
pub struct Zephyr {
    base: PathBuf,
    rust_module: Option<PathBuf>,
    /// True if `west build` works here: the tree is part of a west workspace.
    west: bool,
}

/// Something that the build needs and that is not there, with the command that brings it.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    what: String,
    remedy: String,
}

impl Zephyr {
    /// The tree that `ZEPHYR_BASE` names, or that of the west workspace around this repository.
    pub fn find() -> Option<Self> {
        let top = project::root().parent().map(Path::to_owned);
        let named = std::env::var_os("ZEPHYR_BASE").filter(|base| !base.is_empty());
        let base = match named {
            Some(base) => PathBuf::from(base),
            None => top.clone()?.join("zephyr"),
        };
        if !base.join("cmake/modules").is_dir() {
            return None;
        }
        let module = |path: PathBuf| path.join("zephyr/module.yml").is_file().then_some(path);
        let said = std::env::var("ZEPHYR_MODULES").unwrap_or_default();
        let rust_module = said
            .split(';')
            .filter(|path| !path.is_empty())
            .find_map(|path| module(path.into()))
            .or_else(|| module(base.parent()?.join("modules/lang/rust")));
        let west = base.parent().is_some_and(|top| top.join(".west").is_dir());
        Some(Self {
            base,
            rust_module,
            west,
        })
    }

    /// The tree.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Missing requirements of a build.
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = missing_tools();
        if self.rust_module.is_none() {
            missing.push(Missing {
                what: "the module zephyr-lang-rust".to_owned(),
                remedy: format!("{SETUP}, or name its folder in ZEPHYR_MODULES"),
            });
        }
        if !has_python_packages() {
            let list = self.base.join("scripts/requirements-base.txt");
            missing.push(Missing {
                what: "Zephyr's Python packages (elftools, yaml, pykwalify)".to_owned(),
                remedy: format!("{SETUP}, or: pip install -r {}", list.display()),
            });
        }
        missing
    }

    /// Builds the application for one board into `build`.
    fn build(&self, board: &str, build: &Path) -> Result<()> {
        let sources = Sources::find().context("no Rust with its sources")?;
        let guest = project::root().join("guest/zephyr");
        if self.west && exists("west") {
            let mut west = Command::new("west");
            west.args(["build", "-b", board, "-t", "zephyr_final", "-d"]);
            west.arg(build).arg(&guest);
            if let Some(more) = cmake_args() {
                west.arg("--").args(more);
            }
            return process::run(self.environment(&mut west, &sources));
        }
        if !build.join("build.ninja").is_file() {
            let mut cmake = Command::new("cmake");
            cmake
                .arg("-GNinja")
                .arg("-S")
                .arg(&guest)
                .arg("-B")
                .arg(build);
            cmake.arg(format!("-DBOARD={board}"));
            if let Some(module) = &self.rust_module {
                cmake.arg(format!("-DZEPHYR_MODULES={}", module.display()));
            }
            cmake.args(cmake_args().unwrap_or_default());
            process::run(self.environment(&mut cmake, &sources))?;
        }
        let mut ninja = Command::new("ninja");
        ninja.arg("-C").arg(build).arg("zephyr_final");
        process::run(self.environment(&mut ninja, &sources))
    }

    /// Environment of Zephyr's build: the tree, the compiler, Python's and Rust's programs.
    fn environment<'a>(&self, command: &'a mut Command, sources: &Sources) -> &'a mut Command {
        command
            .current_dir(project::root())
            .env("ZEPHYR_BASE", &self.base);
        let set = |name: &str| std::env::var_os(name).is_some();
        if !set("ZEPHYR_TOOLCHAIN_VARIANT") && !set("ZEPHYR_SDK_INSTALL_DIR") && exists(GCC) {
            command.env("ZEPHYR_TOOLCHAIN_VARIANT", "cross-compile");
            command.env("CROSS_COMPILE", "/usr/bin/i686-linux-gnu-");
        }
        let mut folders = Vec::new();
        if venv().join("bin").is_dir() {
            folders.push(venv().join("bin"));
        }
        folders.extend(sources.folder().map(Path::to_owned));
        folders.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        // Building `core` along is not stable Rust, which takes the flag only so. What Cargo told
        // xtask about itself must not reach the Cargo that Zephyr starts.
        command.env("RUSTC_BOOTSTRAP", "1");
        for name in [
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "CARGO_TARGET_DIR",
            "CARGO",
            "RUSTC",
        ] {
            command.env_remove(name);
        }
        command
    }
}

/// More arguments for CMake, from the environment.
fn cmake_args() -> Option<Vec<String>> {
    let args = std::env::var("ZFL_CMAKE_ARGS").ok()?;
    Some(args.split_whitespace().map(str::to_owned).collect())
}

/// Folder in which set-up puts the Python packages.
fn venv() -> PathBuf {
    project::root().join(".zfl/venv")
}

fn missing_tools() -> Vec<Missing> {
    let apt = |package: &str| format!("sudo apt-get install -y {package}");
    let mut missing = Vec::new();
    for (package, program) in PACKAGES {
        if !exists(program) {
            missing.push(Missing {
                what: program.to_owned(),
                remedy: apt(package),
            });
        }
    }
    let sdk = ["ZEPHYR_SDK_INSTALL_DIR", "ZEPHYR_TOOLCHAIN_VARIANT"];
    if !exists(GCC) && sdk.iter().all(|name| std::env::var_os(name).is_none()) {
        missing.push(Missing {
            what: "a C compiler for i686 (the Zephyr SDK, or GCC)".to_owned(),
            remedy: apt(GCC_PACKAGE),
        });
    }
    if !has_libclang() {
        missing.push(Missing {
            what: "libclang".to_owned(),
            remedy: apt("libclang-dev"),
        });
    }
    if Sources::find().is_none() {
        missing.push(Missing {
            what: "a Rust with its sources".to_owned(),
            remedy: format!(
                "rustup component add rust-src, or: {}",
                apt("rustc-web cargo-web rust-web-src")
            ),
        });
    }
    missing
}

fn has_libclang() -> bool {
    let lists = |folder: &Path| {
        let files = folder.read_dir().into_iter().flatten().flatten();
        files
            .into_iter()
            .any(|file| file.file_name().to_string_lossy().starts_with("libclang"))
    };
    let llvm = Path::new("/usr/lib")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    let versions = llvm.filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"));
    std::env::var_os("LIBCLANG_PATH").is_some()
        || versions.into_iter().any(|v| lists(&v.path().join("lib")))
}

fn has_python_packages() -> bool {
    let own = venv().join("bin/python3");
    let python = if own.is_file() {
        own.into_os_string()
    } else {
        OsString::from("python3")
    };
    let mut import = Command::new(python);
    import.args(["-c", "import elftools, yaml, pykwalify"]);
    succeeds_within(&mut import, Duration::from_secs(20))
}

/// Checks that the Zephyr guest can be built here; gives the obstacles, one line each.
///
/// # Errors
/// The list of what is missing.
pub fn check() -> Result<Zephyr> {
    let Some(zephyr) = Zephyr::find() else {
        bail!(
            "no Zephyr: there is no west workspace around this repository, and ZEPHYR_BASE {}.\n\
             Get one with: {SETUP}\nor take --body bare, which needs none.",
            match std::env::var("ZEPHYR_BASE") {
                Ok(base) if !base.is_empty() => format!("names {base}, which holds none"),
                _ => "is not set".to_owned(),
            }
        );
    };
    let missing = zephyr.missing();
    if !missing.is_empty() {
        let lines: Vec<_> = missing
            .iter()
            .map(|m| format!("  {}: {}", m.what, m.remedy))
            .collect();
        bail!(
            "Zephyr is there ({}), but its build needs more:\n{}",
            zephyr.base.display(),
            lines.join("\n")
        );
    }
    Ok(zephyr)
}

/// Builds the application for one board and returns nothing: the image is where the board says.
///
/// # Errors
/// If something is missing, named one by one, or it does not build.
pub fn build(board: &str, image: &Path) -> Result<()> {
    let zephyr = check()?;
    println!("Zephyr: {}", zephyr.base.display());
    // build/guest/zephyr/<board>/zephyr/zephyr.elf
    let folder = image
        .parent()
        .and_then(Path::parent)
        .context("the board's image has no folder")?;
    let folder = project::root().join(folder);
    zephyr
        .build(board, &folder)
        .with_context(|| format!("the Zephyr guest does not build for {board}"))?;
    let image = project::root().join(image);
    if !image.is_file() {
        bail!(
            "the build made no {}: remove {} and try again",
            image.display(),
            folder.display()
        );
    }
    Ok(())
}

/// `cargo xtask setup --zephyr`: the packages, west, and the workspace of `west.yml`.
///
/// # Errors
/// If a step fails; each says what to do by hand.
pub fn setup() -> Result<()> {
    let tools = PACKAGES
        .iter()
        .filter(|(_, program)| !exists(program))
        .map(|(package, _)| *package);
    let mut packages: Vec<&str> = tools.collect();
    if !exists(GCC) && std::env::var_os("ZEPHYR_SDK_INSTALL_DIR").is_none() {
        packages.push(GCC_PACKAGE);
    }
    if !has_libclang() {
        packages.push("libclang-dev");
    }
    setup::install(&packages)?;
    if Sources::find().is_none() {
        setup::install_debian_rust()?;
    }
    let west = python_environment()?;
    if Zephyr::find().is_none() {
        workspace(&west)?;
    }
    let zephyr = Zephyr::find().context("`west update` ended well, but there is no Zephyr tree")?;
    let list = zephyr.base.join("scripts/requirements-base.txt");
    if !has_python_packages() && list.is_file() {
        let mut pip = Command::new(venv().join("bin/pip"));
        process::run(pip.args(["install", "--quiet", "-r"]).arg(&list))?;
    }
    check()?;
    println!("setup: Zephyr is at {}", zephyr.base.display());
    Ok(())
}

/// A virtual environment with west in it; returns west.
fn python_environment() -> Result<PathBuf> {
    let (venv, west) = (venv(), venv().join("bin/west"));
    if !west.is_file() {
        println!("setup: west, in {}", venv.display());
        process::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/pip"));
        // What Zephyr's scripts import; the tree's own list is installed once there is a tree.
        process::run(pip.args([
            "install",
            "--quiet",
            "west",
            "pyelftools",
            "pyyaml",
            "pykwalify",
        ]))?;
    }
    Ok(west)
}

/// Makes the west workspace around this repository and fetches what `west.yml` names.
fn workspace(west: &Path) -> Result<()> {
    let top = project::root()
        .parent()
        .context("the repository has no parent folder")?;
    if project::root() == top.join("zephyr") {
        bail!(
            "{} has the name that the Zephyr tree gets beside it: rename the folder, or set \
             ZEPHYR_BASE to a tree elsewhere",
            project::root().display()
        );
    }
    if !top.join(".west").is_dir() {
        println!(
            "setup: west init -l, which makes {} a west workspace",
            top.display()
        );
        process::run(Command::new(west).args(["init", "-l"]).arg(project::root()))?;
    }
    println!("setup: west update");
    let mut update = Command::new(west);
    update
        .current_dir(project::root())
        .args(["update", "--narrow", "--fetch-opt=--depth=1"]);
    process::run(&mut update).with_context(|| {
        format!(
            "west could not fetch what west.yml names, {}: is GitHub reachable from here? With trees \
             of your own, set ZEPHYR_BASE to Zephyr's and ZEPHYR_MODULES to that of zephyr-lang-rust",
            pinned().unwrap_or_default().join(" and ")
        )
    })
}

/// Projects pinned by `west.yml`, with their revisions.
fn pinned() -> Result<Vec<String>> {
    let manifest = std::fs::read_to_string(project::root().join("west.yml"))?;
    let projects = manifest.split("projects:").nth(1).unwrap_or_default();
    let values = |key: &'static str| {
        let lines = projects.lines();
        lines.filter_map(move |line| Some(line.split_once(key)?.1.trim().to_owned()))
    };
    let named = values("- name:").zip(values("revision:"));
    Ok(named.map(|(name, at)| format!("{name} {at}")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_manifest_says_what_is_pinned() {
        let pinned = super::pinned().unwrap();
        let names: Vec<_> = pinned
            .iter()
            .filter_map(|one| one.split_once(' '))
            .collect();
        assert!(
            matches!(names[..], [("zephyr", _), ("zephyr-lang-rust", _)]),
            "{pinned:?}"
        );
    }
}
