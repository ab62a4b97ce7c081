//! The Python of Zephyr's scripts: a version that the tree takes, and the packages that it lists.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{process, project};

/// List of packages, in a tree.
const LIST: &str = "scripts/requirements-base.txt";

/// A version of Python: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().trim_matches('"').split_once('.')?;
        let minor: String = minor.chars().take_while(char::is_ascii_digit).collect();
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The version that a tree's build asks for.
    pub fn of_tree(base: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(base.join("cmake/modules/python.cmake")).ok()?;
        let (_, rest) = text.split_once("set(PYTHON_MINIMUM_REQUIRED ")?;
        Self::parse(rest.split_once(')')?.0)
    }

    /// The version that the Zephyr pinned by `west.yml` asks for, as that file has it.
    pub fn of_manifest(manifest: &str) -> Option<Self> {
        let line = manifest
            .lines()
            .find_map(|line| line.trim().strip_prefix("python:"))?;
        Self::parse(line)
    }
}

/// A Python program.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
    version: Version,
    /// True if it can make virtual environments.
    makes_venv: bool,
}

impl Python {
    fn ask(program: PathBuf) -> Option<Self> {
        let script = "import sys, importlib.util as u\n\
                      print('%d.%d' % sys.version_info[:2], int(bool(u.find_spec('ensurepip'))))";
        let said = process::quiet_output(Command::new(&program).args(["-c", script])).ok()?;
        let (version, venv) = said.trim().split_once(' ')?;
        Some(Self {
            program,
            version: Version::parse(version)?,
            makes_venv: venv == "1",
        })
    }

    /// The Python that a build takes: that of the virtual environment, or the one in the `PATH`.
    pub fn of_build() -> Option<Self> {
        let own = venv().join("bin/python3");
        Self::ask(if own.is_file() { own } else { "python3".into() })
    }

    /// True if the tree's build takes it.
    pub fn serves(&self, wanted: Option<Version>) -> bool {
        wanted.is_none_or(|wanted| self.version >= wanted)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// True if all packages of the tree's list are there, in versions that the list takes.
    pub fn has_packages_of(&self, base: &Path) -> bool {
        let mut pip = Command::new(&self.program);
        pip.args([
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--no-index",
            "--quiet",
            "-r",
        ]);
        pip.arg(base.join(LIST));
        // A dry run changes nothing, so that it may look at a system's own Python as well.
        pip.env("PIP_BREAK_SYSTEM_PACKAGES", "1");
        process::succeeds_within(&mut pip, std::time::Duration::from_secs(120))
    }
}

/// Folder of the virtual environment that set-up makes.
pub fn venv() -> PathBuf {
    project::root().join(".zfl/venv")
}

/// Command that installs the packages of a tree's list by hand.
pub fn install_command(base: &Path) -> String {
    format!("pip install -r {}", base.join(LIST).display())
}

/// The first Python in the `PATH` that a tree takes: `python3`, or one with its version in its name.
///
/// # Errors
/// If there is none: what is there instead, and what brings one.
pub fn find(wanted: Option<Version>, zephyr: &str) -> Result<Python> {
    let all: Vec<Python> = candidates(&path_folders())
        .into_iter()
        .filter_map(Python::ask)
        .collect();
    choose(&all, wanted, zephyr)
}

fn choose(all: &[Python], wanted: Option<Version>, zephyr: &str) -> Result<Python> {
    let (complete, bare): (Vec<_>, Vec<_>) = all
        .iter()
        .filter(|python| python.serves(wanted))
        .partition(|python| python.makes_venv);
    if let Some(&python) = complete.first() {
        return Ok(python.clone());
    }
    if let Some(python) = bare.first() {
        bail!(
            "{} cannot make a virtual environment: apt-get install python{}-venv brings what it lacks",
            python.program.display(),
            python.version
        );
    }
    let there: Vec<_> = all
        .iter()
        .map(|python| python.version.to_string())
        .collect();
    bail!(
        "{zephyr} asks for Python {} or later, and here is {}.\n\
         Debian 13 and Ubuntu 24.04 bring one. Elsewhere:\n    \
         pipx install uv && uv python install {0}\n\
         puts a python{0} beside the system's own, where the PATH has ~/.local/bin; then call this again.\n\
         Or name another Zephyr in ZEPHYR_BASE: 4.1 to 4.3 take Python 3.10.",
        wanted.map_or_else(String::new, |wanted| wanted.to_string()),
        if there.is_empty() {
            "none".to_owned()
        } else {
            there.join(" and ")
        }
    );
}

fn path_folders() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

/// Programs called `python3`, and then those called `python3.N`, the lowest first.
fn candidates(folders: &[PathBuf]) -> Vec<PathBuf> {
    let minor = |name: &str| name.strip_prefix("python3.")?.parse::<u32>().ok();
    let mut numbered = BTreeSet::new();
    for folder in folders {
        for entry in folder.read_dir().into_iter().flatten().flatten() {
            if let Some(minor) = entry.file_name().to_str().and_then(minor) {
                numbered.insert((minor, entry.path()));
            }
        }
    }
    let plain = folders
        .iter()
        .map(|folder| folder.join("python3"))
        .filter(|path| path.is_file());
    plain
        .chain(numbered.into_iter().map(|(_, path)| path))
        .collect()
}

/// Makes the virtual environment with west in it, anew if its Python is not one that the tree takes; returns west.
///
/// # Errors
/// If Python or pip fails.
pub fn environment(python: &Python, wanted: Option<Version>) -> Result<PathBuf> {
    let west = venv().join("bin/west");
    let serves = Python::ask(venv().join("bin/python3")).is_some_and(|own| own.serves(wanted));
    if !serves || !west.is_file() {
        println!(
            "setup: west, in {} (Python {})",
            venv().display(),
            python.version
        );
        let mut make = Command::new(&python.program);
        process::run(make.args(["-m", "venv", "--clear"]).arg(venv()))?;
        process::run(pip().args(["install", "--quiet", "west"]))?;
    }
    Ok(west)
}

/// Installs the packages that a tree lists.
///
/// # Errors
/// If the tree has no list, or pip fails.
pub fn install_packages(base: &Path) -> Result<()> {
    let list = base.join(LIST);
    println!("setup: the Python packages of {}", list.display());
    process::run(pip().args(["install", "--quiet", "-r"]).arg(&list))
        .with_context(|| format!("install the packages of {}", list.display()))
}

fn pip() -> Command {
    Command::new(venv().join("bin/pip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(minor: u32, makes_venv: bool) -> Python {
        Python {
            program: format!("/bin/python3.{minor}").into(),
            version: Version(3, minor),
            makes_venv,
        }
    }

    #[test]
    fn a_tree_says_which_python_it_takes() {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("cmake/modules");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join("python.cmake"),
            "x\nset(PYTHON_MINIMUM_REQUIRED 3.12)\n",
        )
        .unwrap();
        assert_eq!(Version::of_tree(tree.path()), Some(Version(3, 12)));
    }

    #[test]
    fn the_manifest_says_which_python_its_zephyr_takes() {
        let manifest = std::fs::read_to_string(project::root().join("west.yml")).unwrap();
        assert!(Version::of_manifest(&manifest).is_some());
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(Version::parse("3.9") < Version::parse("3.12.1"));
        assert_eq!(Version::parse(" \"3.12\""), Some(Version(3, 12)));
        assert_eq!(Version::parse("three"), None);
    }

    #[test]
    fn the_first_python_that_serves_is_taken() {
        let all = [python(11, true), python(13, true), python(12, true)];
        let chosen = choose(&all, Some(Version(3, 12)), "Zephyr").unwrap();
        assert_eq!(chosen.version(), Version(3, 13));
    }

    #[test]
    fn an_old_python_is_named_with_what_brings_another() {
        let error = choose(&[python(11, true)], Some(Version(3, 12)), "Zephyr v4.4.0").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("asks for Python 3.12") && text.contains("here is 3.11"),
            "{text}"
        );
        assert!(text.contains("uv python install 3.12"), "{text}");
    }

    #[test]
    fn a_python_without_ensurepip_is_told_of() {
        let error = choose(&[python(12, false)], Some(Version(3, 12)), "Zephyr").unwrap_err();
        assert!(error.to_string().contains("python3.12-venv"), "{error}");
    }

    #[test]
    fn plain_names_come_first_and_numbered_ones_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "python3.13",
            "python3.9",
            "python3",
            "python3-config",
            "python3.12-config",
        ] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names: Vec<_> = candidates(&[folder.path().to_owned()])
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["python3", "python3.9", "python3.13"]);
    }
}
