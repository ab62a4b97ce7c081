//! Names of data files: the four roles, and the names under which the files of each are found.
//!
//! MNIST's own names come with dots or underscores in place of dashes (archive managers unpack
//! `train-images-idx3-ubyte.gz` to `train-images.idx3-ubyte`), in capitals, and, as in EMNIST, behind the name
//! of a set: `emnist-digits-train-images-idx3-ubyte`.

use crate::error::Problem;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Part that a file has in a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    TrainImages,
    TrainLabels,
    TestImages,
    TestLabels,
}

impl Role {
    /// Every role, in the order in which people think of them.
    pub const ALL: [Self; 4] = [
        Self::TrainImages,
        Self::TrainLabels,
        Self::TestImages,
        Self::TestLabels,
    ];

    /// Name that MNIST gave the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainImages => "train-images-idx3-ubyte",
            Self::TrainLabels => "train-labels-idx1-ubyte",
            Self::TestImages => "t10k-images-idx3-ubyte",
            Self::TestLabels => "t10k-labels-idx1-ubyte",
        }
    }

    /// Number of dimensions of its content.
    pub fn rank(self) -> usize {
        match self {
            Self::TrainImages | Self::TestImages => 3,
            Self::TrainLabels | Self::TestLabels => 1,
        }
    }

    /// Beginnings of its names.
    fn stems(self) -> &'static [&'static str] {
        match self {
            Self::TrainImages => &["train-images"],
            Self::TrainLabels => &["train-labels"],
            Self::TestImages => &["t10k-images", "test-images"],
            Self::TestLabels => &["t10k-labels", "test-labels"],
        }
    }

    /// Ends of its names.
    fn ends(self) -> [&'static str; 5] {
        match self.rank() {
            3 => ["-idx3-ubyte", "-idx-ubyte", "-ubyte", "-idx3", "-idx"],
            _ => ["-idx1-ubyte", "-idx-ubyte", "-ubyte", "-idx1", "-idx"],
        }
    }
}

/// Endings that say how a file is packed; `.gz` is read, and the content decides about all.
const PACKED: [&str; 14] = [
    ".tar.gz", ".tgz", ".gz", ".zip", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".7z", ".rar",
    ".tar", ".z", ".html",
];

/// File of a data set by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    role: Role,
    /// Name of the set in front of the file's; mostly empty.
    set: String,
    /// Name without the ending that says how it is packed.
    bare: String,
    /// Place of that ending in the order of preference: plain, gzip, others.
    packed: u8,
}

fn named(file: &str) -> Option<Named> {
    let lower = file.to_ascii_lowercase();
    let ending = PACKED.iter().find(|ending| lower.ends_with(**ending));
    let bare = &file[..file.len() - ending.map_or(0, |ending| ending.len())];
    let plain = bare.to_ascii_lowercase().replace(['.', '_', ' '], "-");
    Role::ALL.into_iter().find_map(|role| {
        let rest = role.ends().iter().find_map(|end| plain.strip_suffix(end))?;
        let set = role
            .stems()
            .iter()
            .find_map(|stem| rest.strip_suffix(stem))?;
        (set.is_empty() || set.ends_with('-')).then(|| Named {
            role,
            set: set.trim_end_matches('-').to_owned(),
            bare: bare.to_owned(),
            packed: match ending {
                None => 0,
                Some(&".gz") => 1,
                Some(_) => 2,
            },
        })
    })
}

/// File of a role in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub role: Role,
    pub path: PathBuf,
}

/// Finds the four files in a directory, in the order of [`Role::ALL`].
///
/// # Errors
/// The path that is missing, or that there is no telling which files are meant.
pub(crate) fn find(dir: &Path) -> Result<Vec<Found>, (PathBuf, Problem)> {
    let names = list(dir).map_err(|problem| (dir.to_owned(), problem))?;
    let candidates: Vec<(&OsString, Named)> = names
        .iter()
        .filter_map(|name| Some((name, named(name.to_str()?)?)))
        .filter(|(name, _)| !dir.join(name).is_dir())
        .collect();
    let set = the_set(&candidates).map_err(|several| (dir.to_owned(), several))?;
    let of = |role| {
        let those = candidates.iter();
        let those = those.filter(|(_, named)| named.role == role && named.set == set);
        let found = one(those).map_err(|problem| (dir.to_owned(), problem))?;
        let missing = || Problem::Missing {
            there: shown(&names),
        };
        let path = |name: &std::ffi::OsStr| dir.join(name);
        let found = found.ok_or_else(|| (path(role.name().as_ref()), missing()))?;
        Ok(Found {
            role,
            path: path(found),
        })
    };
    Role::ALL.into_iter().map(of).collect()
}

/// The names in a directory, in order.
fn list(dir: &Path) -> Result<Vec<OsString>, Problem> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Problem::NoFolder("there is no such folder"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Problem::NoFolder("it is a file, not a folder"));
        }
        other => other?,
    };
    let names: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.file_name())).collect();
    let mut names = names?;
    names.sort();
    Ok(names)
}

/// The set that is meant: the one without a name, else the only one.
fn the_set(candidates: &[(&OsString, Named)]) -> Result<String, Problem> {
    let mut sets: Vec<&str> = candidates.iter().map(|(_, named)| &*named.set).collect();
    sets.sort_unstable();
    sets.dedup();
    match &sets[..] {
        [] | ["", ..] => Ok(String::new()),
        [only] => Ok((*only).to_owned()),
        [one, two, ..] => {
            let first = |set: &str| candidates.iter().find(|(_, named)| named.set == set);
            let names = [one, two].into_iter().filter_map(|set| first(set));
            Err(Problem::Ambiguous {
                names: names.map(|(name, _)| printable(name)).collect(),
            })
        }
    }
}

/// The one file among those of a role: of two that differ only in how they are packed the plain one, else gzip's.
fn one<'a>(
    those: impl Iterator<Item = &'a (&'a OsString, Named)>,
) -> Result<Option<&'a OsString>, Problem> {
    let mut those: Vec<_> = those.collect();
    those.sort_by_key(|(_, named)| named.packed);
    let Some((name, first)) = those.first() else {
        return Ok(None);
    };
    match those.iter().find(|(_, named)| named.bare != first.bare) {
        Some((other, _)) => Err(Problem::Ambiguous {
            names: vec![printable(name), printable(other)],
        }),
        None => Ok(Some(name)),
    }
}

/// Some of these names, for people.
fn shown(names: &[OsString]) -> Vec<String> {
    const MOST: usize = 6;
    let mut shown: Vec<String> = names.iter().take(MOST).map(printable).collect();
    if names.len() > MOST {
        shown.push("…".to_owned());
    }
    shown
}

fn printable(name: &OsString) -> String {
    name.to_string_lossy().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_known() {
        for (name, role, set) in [
            ("train-images-idx3-ubyte", Role::TrainImages, ""),
            ("train-images.idx3-ubyte", Role::TrainImages, ""),
            ("TRAIN-LABELS-IDX1-UBYTE.GZ", Role::TrainLabels, ""),
            ("t10k_labels_idx1_ubyte", Role::TestLabels, ""),
            ("test-images-idx3-ubyte.gz", Role::TestImages, ""),
            ("train-images.idx3-ubyte.zip", Role::TrainImages, ""),
            (
                "emnist-digits-train-images-idx3-ubyte.gz",
                Role::TrainImages,
                "emnist-digits",
            ),
            (
                "emnist-letters-test-labels-idx1-ubyte",
                Role::TestLabels,
                "emnist-letters",
            ),
        ] {
            let named = named(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!((named.role, &*named.set), (role, set), "{name}");
        }
        for name in [
            "README.md",
            "train-images",
            "train-images-idx1-ubyte",
            "retrain-images-idx3-ubyte",
            "",
        ] {
            assert_eq!(named(name), None, "{name}");
        }
    }
}
