//! The Zephyr guest: finding a Zephyr, setting one up, and building the application against it.
//!
//! A Zephyr is a tree and the module zephyr-lang-rust. `ZEPHYR_BASE` names the tree, as everywhere
//! in Zephyr's world; else a west workspace with this repository in it is looked for, and then the one that
//! set-up makes. `ZEPHYR_MODULES` names the module, else it is looked for beside the tree.

mod compiler;
mod python;
mod workspace;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{self, exists};
use crate::project::{self, Board};
use crate::setup;
use crate::toolchain::Sources;
use compiler::{Compiler, has_libclang};
use python::{Python, Version, venv};

/// Debian's packages for Zephyr's build, with the program that shows each is there.
const PACKAGES: [(&str, &str); 6] = [
    ("cmake", "cmake"),
    ("ninja-build", "ninja"),
    ("device-tree-compiler", "dtc"),
    ("gperf", "gperf"),
    ("python3-venv", "python3"),
    ("git", "git"),
];

/// The command that brings a Zephyr.
pub const SETUP: &str = "cargo xtask setup --zephyr";

/// A tree to build against.
#[derive(Debug)]
pub struct Zephyr {
    base: PathBuf,
    rust_module: Option<PathBuf>,
    /// Top of the west workspace that the tree is part of.
    workspace: Option<PathBuf>,
}

/// Something that the build needs and that is not there, with the command that brings it.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    what: String,
    remedy: String,
}

impl Zephyr {
    /// The tree that `ZEPHYR_BASE` names, that of the west workspace around this repository, or that of the
    /// one in it.
    pub fn find() -> Option<Self> {
        let is_tree = |base: &PathBuf| base.join("cmake/modules").is_dir();
        let base = match std::env::var_os("ZEPHYR_BASE").filter(|base| !base.is_empty()) {
            Some(base) => Some(PathBuf::from(base)).filter(is_tree)?,
            None => [project::root().parent()?, &workspace::own()]
                .map(|top| top.join("zephyr"))
                .into_iter()
                .find(is_tree)?,
        };
        let module = |path: PathBuf| path.join("zephyr/module.yml").is_file().then_some(path);
        let said = std::env::var("ZEPHYR_MODULES").unwrap_or_default();
        let rust_module = said
            .split(';')
            .filter(|path| !path.is_empty())
            .find_map(|path| module(path.into()))
            .or_else(|| module(base.parent()?.join("modules/lang/rust")));
        let top = base.parent().filter(|top| top.join(".west").is_dir());
        Some(Self {
            workspace: top.map(Path::to_owned),
            base,
            rust_module,
        })
    }

    /// The tree.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Missing requirements of a build with this compiler.
    fn missing(&self, compiler: Compiler) -> Vec<Missing> {
        let mut missing = missing_tools(compiler);
        if self.rust_module.is_none() {
            missing.push(Missing {
                what: "the module zephyr-lang-rust".to_owned(),
                remedy: format!("{SETUP}, or name its folder in ZEPHYR_MODULES"),
            });
        }
        missing.extend(self.missing_of_python());
        missing
    }

    fn missing_of_python(&self) -> Option<Missing> {
        let wanted = Version::of_tree(&self.base);
        let python = Python::of_build()?;
        if !python.serves(wanted) {
            let wanted = wanted.map_or_else(String::new, |wanted| wanted.to_string());
            return Some(Missing {
                what: format!("Python {wanted} or later (here is {})", python.version()),
                remedy: format!("{SETUP} looks for one and says what brings it"),
            });
        }
        (!python.has_packages_of(&self.base)).then(|| Missing {
            what: "Python packages that Zephyr's scripts import".to_owned(),
            remedy: format!("{SETUP}, or: {}", python::install_command(&self.base)),
        })
    }

    /// Builds the application for one board of Zephyr, whose files are in a folder of `boards/`, into `build`; in another
    /// role than that of a device, if one is named.
    fn build(&self, board: &Board, role: Option<&str>, build: &Path) -> Result<()> {
        let sources = Sources::find().context("no Rust with its sources")?;
        let guest = project::root().join("guest/zephyr");
        let compiler = Compiler::of(&board.machine);
        // Short of the lint that zephyr-lang-rust adds to the default target.
        let target = match compiler {
            Compiler::Host => "native_runner_executable",
            Compiler::I686 | Compiler::Arm => "zephyr_final",
        };
        let mut args = vec![format!("-DZFL_BOARD={}", board.name)];
        args.extend(role.map(|role| format!("-DZFL_ROLE={role}")));
        args.extend(cmake_args());
        if let Some(west) = self.west() {
            let mut west = Command::new(west);
            west.args(["build", "-b", board.zephyr_name(), "-t", target, "-d"]);
            west.arg(build).arg(&guest).arg("--").args(args);
            return process::run(self.environment(&mut west, &sources, compiler)?);
        }
        if !build.join("build.ninja").is_file() {
            let mut cmake = Command::new("cmake");
            cmake
                .arg("-GNinja")
                .arg("-S")
                .arg(&guest)
                .arg("-B")
                .arg(build);
            cmake
                .arg(format!("-DBOARD={}", board.zephyr_name()))
                .args(args);
            if let Some(module) = &self.rust_module {
                cmake.arg(format!("-DZEPHYR_MODULES={}", module.display()));
            }
            process::run(self.environment(&mut cmake, &sources, compiler)?)?;
        }
        let mut ninja = Command::new("ninja");
        ninja.arg("-C").arg(build).arg(target);
        process::run(self.environment(&mut ninja, &sources, compiler)?)
    }

    /// The west that builds: set-up's own, or that of the `PATH`; none for a tree outside a workspace.
    fn west(&self) -> Option<PathBuf> {
        let own = venv().join("bin/west");
        let found = if own.is_file() {
            Some(own)
        } else {
            process::which("west")
        };
        found.filter(|_| self.workspace.is_some())
    }

    /// Environment of Zephyr's build: the tree, the compiler, Python's and Rust's programs.
    ///
    /// # Errors
    /// If the wrapper that a compiler needs cannot be written.
    fn environment<'a>(
        &self,
        command: &'a mut Command,
        sources: &Sources,
        compiler: Compiler,
    ) -> Result<&'a mut Command> {
        // west looks for its workspace from where it is called.
        command
            .current_dir(self.workspace.as_deref().unwrap_or(project::root()))
            .env("ZEPHYR_BASE", &self.base);
        command.envs(compiler.variables()?);
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
        Ok(command)
    }
}

/// More arguments for CMake, from the environment.
fn cmake_args() -> Vec<String> {
    let args = std::env::var("ZFL_CMAKE_ARGS").unwrap_or_default();
    args.split_whitespace().map(str::to_owned).collect()
}

fn missing_tools(compiler: Compiler) -> Vec<Missing> {
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
    if !compiler.is_here() {
        missing.push(Missing {
            what: compiler.what(),
            remedy: apt(compiler.gcc().1),
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

/// Checks that the Zephyr guest of PCs can be built here; gives the obstacles, one line each.
///
/// # Errors
/// The list of what is missing.
pub fn check() -> Result<Zephyr> {
    check_for(None)
}

/// Checks the same for a board; for the PC, if none is named.
///
/// # Errors
/// As [`check`].
pub fn check_for(board: Option<&Board>) -> Result<Zephyr> {
    let compiler = board.map_or(Compiler::I686, |board| Compiler::of(&board.machine));
    let Some(zephyr) = Zephyr::find() else {
        bail!(
            "no Zephyr: there is no west workspace in or around this repository, and ZEPHYR_BASE {}.\n\
             Get one with: {SETUP}\nor take --body bare, which needs none.",
            match std::env::var("ZEPHYR_BASE") {
                Ok(base) if !base.is_empty() => format!("names {base}, which holds none"),
                _ => "is not set".to_owned(),
            }
        );
    };
    let missing = zephyr.missing(compiler);
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

/// Builds the application for one board, as a device or in another role, and returns nothing: the image is where the
/// board says.
///
/// # Errors
/// If something is missing, named one by one, or it does not build.
pub fn build(board: &Board, role: Option<&str>, image: &Path) -> Result<()> {
    let compiler = Compiler::of(&board.machine);
    // The tools of a microcontroller come when its board is asked for.
    if compiler == Compiler::Arm {
        setup::emulator(setup::ARM_EMULATOR)?;
        if !compiler.is_here() {
            setup::install(&[compiler.gcc().1])?;
        }
    }
    let zephyr = check_for(Some(board))?;
    println!("Zephyr: {}", zephyr.base.display());
    // build/guest/zephyr/<board>/zephyr/zephyr.elf
    let folder = image
        .parent()
        .and_then(Path::parent)
        .context("the board's image has no folder")?;
    let folder = project::root().join(folder);
    zephyr
        .build(board, role, &folder)
        .with_context(|| format!("the Zephyr guest does not build for {}", board.name))?;
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

/// Python's version that is wanted, and the Zephyr that wants it.
fn wanted() -> Result<(Option<Version>, String)> {
    Ok(match Zephyr::find() {
        Some(zephyr) => (
            Version::of_tree(&zephyr.base),
            zephyr.base.display().to_string(),
        ),
        None => {
            let manifest = workspace::manifest()?;
            (
                Version::of_manifest(&manifest),
                workspace::pinned(&manifest),
            )
        }
    })
}

/// Says what [`setup()`] could not bring, before anything is fetched.
///
/// # Errors
/// If the Python that is here is too old.
pub fn foresee() -> Result<()> {
    // Where there is none, Debian's comes with the packages, and may be what serves.
    if exists("python3") {
        let (version, zephyr) = wanted()?;
        python::find(version, &zephyr)?;
    }
    Ok(())
}

/// `cargo xtask setup --zephyr`: the packages, west, and the workspace of `west.yml`.
///
/// # Errors
/// If a step fails; each says what to do by hand.
pub fn setup() -> Result<()> {
    install_packages()?;
    let (version, zephyr) = wanted()?;
    let python = python::find(version, &zephyr)?;
    let west = python::environment(&python, version)?;
    let ours = Zephyr::find().is_none_or(|zephyr| zephyr.base.starts_with(workspace::own()));
    if ours {
        workspace::fetch(&west)?;
    }
    let zephyr = Zephyr::find().context("`west update` ended well, but there is no Zephyr tree")?;
    python::install_packages(&zephyr.base)?;
    check()?;
    println!("setup: Zephyr is at {}", zephyr.base.display());
    Ok(())
}

fn install_packages() -> Result<()> {
    let tools = PACKAGES
        .iter()
        .filter(|(_, program)| !exists(program))
        .map(|(package, _)| *package);
    let mut packages: Vec<&str> = tools.collect();
    if !Compiler::I686.is_here() {
        packages.push(Compiler::I686.gcc().1);
    }
    if !has_libclang() {
        packages.push("libclang-dev");
    }
    setup::install(&packages)?;
    if Sources::find().is_none() {
        setup::install_debian_rust()?;
    }
    Ok(())
}
