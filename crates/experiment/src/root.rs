//! Root under which zfl finds boards, links, firmware and data, and the folder of runs.
//!
//! The tree is the one that is named, else the one that the user stands in, else the one that the program lies
//! in. A tree is known by a file of its own, [`MARK`], not by the common names of its folders. Without a tree
//! there is what is built in. Runs are put at the top of the tree that the user stands in, else where the user
//! stands.

use crate::refusal::{Refusal, require};
use fl_data::{Set, Synthetic};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zfl_machine::{Board, board};

/// File at the top of a tree of zfl, and how it begins.
pub const MARK: &str = ".zfl-root";
const MARKED: &str = "zfl tree";

/// Folder that runs are in, unless `--out` says otherwise.
pub const RUNS: &str = "runs";

/// Folder beside it that sweeps are in.
const SWEEPS: &str = "sweeps";

/// Folder of the data sets of a tree.
const DATA: &str = "data";

/// Data set of a tree.
const MNIST: &str = "data/mnist";

/// Beginning of the name of a data set that has one, as files have it: `zfl:digits`.
pub const SCHEME: &str = "zfl:";

/// Name of the data set that is built in.
const DIGITS: &str = "digits";

/// Finds a file of the firmware that is built into the program, by the path that it has in a tree.
pub type Firmware = fn(&Path) -> Result<Option<PathBuf>, Refusal>;

/// Root under which zfl finds its things.
#[derive(Clone, Debug)]
pub struct Root {
    tree: Option<PathBuf>,
    runs: PathBuf,
    /// The user's folder of data sets that were fetched.
    sets: Option<PathBuf>,
    firmware: Firmware,
    /// Lines for people about trees that were left out.
    pub notes: Vec<String>,
}

/// Source of the examples of a run.
#[derive(Clone, Debug)]
pub enum Data {
    /// Those of a folder or a file.
    Folder(PathBuf),
    /// Those of a set that is fetched, and its folder.
    Set(&'static Set, PathBuf),
    /// Those of a set that is generated, and its name.
    Synthetic(String, Synthetic),
    /// Those that are built in.
    Digits,
}

impl Data {
    /// The name of the set, if it has one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Folder(_) => None,
            Self::Set(set, _) => Some(set.name),
            Self::Synthetic(name, _) => Some(name),
            Self::Digits => Some(DIGITS),
        }
    }
}

impl Root {
    /// This tree, with its runs.
    pub fn of_tree(tree: impl Into<PathBuf>) -> Self {
        let tree = tree.into();
        Self {
            runs: tree.join(RUNS),
            tree: Some(tree),
            sets: None,
            firmware: |_| Ok(None),
            notes: Vec::new(),
        }
    }

    /// The root for a user who stands in the current folder, and may have named a tree.
    ///
    /// # Errors
    /// A [`Refusal`] if the folder named is no tree of zfl.
    pub fn find(named: Option<&Path>) -> Result<Self, Refusal> {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let program = std::env::current_exe().ok();
        Self::from(named, &here, program.as_deref().and_then(Path::parent))
    }

    fn from(named: Option<&Path>, here: &Path, program: Option<&Path>) -> Result<Self, Refusal> {
        let mut notes = Vec::new();
        let standing = marked(here, &mut notes);
        let runs = standing.as_deref().unwrap_or(here).join(RUNS);
        let tree = match named {
            Some(named) => Some(tree(named)?),
            None => standing.or_else(|| marked(program?, &mut notes)),
        };
        Ok(Self {
            tree,
            runs,
            sets: None,
            firmware: |_| Ok(None),
            notes,
        })
    }

    /// The same with firmware that is built in.
    #[must_use]
    pub fn with_firmware(self, firmware: Firmware) -> Self {
        Self { firmware, ..self }
    }

    /// Folder of the runs.
    pub fn runs(&self) -> &Path {
        &self.runs
    }

    /// Folder of the sweeps.
    pub fn sweeps(&self) -> PathBuf {
        self.runs.with_file_name(SWEEPS)
    }

    /// The tree, if there is one.
    pub fn tree(&self) -> Option<&Path> {
        self.tree.as_deref()
    }

    /// The board of this name or path.
    ///
    /// # Errors
    /// A [`Refusal`] if there is none, or it cannot be.
    pub fn board(&self, name: &str) -> Result<Board, Refusal> {
        let mut board =
            Board::load(self.tree(), name).map_err(|error| Refusal(error.to_string()))?;
        if self.tree.is_none() {
            board.kernel.image = self.image(&board.kernel.image)?;
            if let Some(radio) = &mut board.radio {
                radio.image = self.image(&radio.image)?;
            }
            if let Some(gateway) = &mut board.gateway {
                gateway.image = self.image(&gateway.image)?;
            }
        }
        Ok(board)
    }

    /// The names of the boards.
    pub fn boards(&self) -> Vec<String> {
        board::known(self.tree())
    }

    /// The image of a board where there is no tree; empty if none is built in.
    fn image(&self, image: &Path) -> Result<PathBuf, Refusal> {
        match (self.firmware)(image)? {
            Some(file) => Ok(file),
            None if image.is_absolute() => Ok(image.to_owned()),
            None => Ok(PathBuf::new()),
        }
    }

    /// The examples that are meant: those of a path that is there, else of a set of this name.
    ///
    /// # Errors
    /// A [`Refusal`] if no set has the name.
    pub(crate) fn data(&self, asked: Option<&Path>) -> Result<Data, Refusal> {
        let Some(asked) = asked else {
            return Ok(self.mnist().map_or(Data::Digits, Data::Folder));
        };
        let Some(name) = set_name(asked) else {
            return Ok(Data::Folder(asked.to_owned()));
        };
        let data = match (name, Synthetic::named(name), fl_data::set(name)) {
            (DIGITS, ..) => Some(Data::Digits),
            (_, Some(set), _) => Some(Data::Synthetic(name.to_owned(), set)),
            (_, _, Some(set)) => self.set_folder(name).map(|folder| Data::Set(set, folder)),
            _ => None,
        };
        data.ok_or_else(|| {
            Refusal(format!(
                "there is no data set {SCHEME}{name}: zfl data list has them all"
            ))
        })
    }

    /// The folder of the set of this name: in the tree, if it is there, else among those that were fetched.
    pub fn set_folder(&self, name: &str) -> Option<PathBuf> {
        let in_tree = self.tree.as_ref().map(|tree| tree.join(DATA).join(name));
        let fetched = self.sets.as_ref().map(|sets| sets.join(name));
        in_tree.filter(|folder| folder.is_dir()).or(fetched)
    }

    /// The user's folder of data sets that are fetched: of the cache, for programs that keep there what can be had again.
    pub fn sets(&self) -> Option<&Path> {
        self.sets.as_deref()
    }

    /// The same with data sets that are fetched into this folder.
    #[must_use]
    pub fn with_sets(self, sets: Option<PathBuf>) -> Self {
        Self { sets, ..self }
    }

    /// The tree's folder of MNIST.
    pub(crate) fn mnist(&self) -> Option<PathBuf> {
        let mnist = self.tree.as_ref()?.join(MNIST);
        mnist.is_dir().then_some(mnist)
    }
}

/// The name of a set that is meant: with [`SCHEME`], or alone where no file or folder has it.
pub(crate) fn set_name(asked: &Path) -> Option<&str> {
    let text = asked.to_str()?;
    if let Some(name) = text.strip_prefix(SCHEME) {
        return Some(name);
    }
    let known = text == DIGITS || Synthetic::named(text).is_some() || fl_data::set(text).is_some();
    (known && !asked.exists()).then_some(text)
}

/// The tree that is named.
fn tree(named: &Path) -> Result<PathBuf, Refusal> {
    require(named.join("boards").is_dir(), || {
        format!(
            "{} is no tree of zfl: it has no folder boards; name the top of one with --root or ZFL_ROOT, or \
             leave both out",
            named.display()
        )
    })?;
    Ok(std::path::absolute(named).unwrap_or_else(|_| named.to_owned()))
}

/// The nearest folder upwards that has the mark. A mark that somebody else has put above the folder counts for
/// nothing: a tree has programs to start.
fn marked(folder: &Path, notes: &mut Vec<String>) -> Option<PathBuf> {
    let owner = |path: &Path| path.metadata().ok().map(|found| found.uid());
    let trusted = [Some(0), owner(Path::new("/proc/self")), owner(folder)];
    folder.ancestors().find_map(|above| {
        let mark = above.join(MARK);
        let text = zfl_files::read_text(&mark, zfl_files::MAX_TEXT).ok()?;
        if text.lines().next()?.trim_end() != MARKED {
            return None;
        }
        if trusted.contains(&owner(&mark)) {
            return Some(above.to_owned());
        }
        notes.push(format!(
            "{} is somebody else's, and the tree is left alone: name it with --root to use it",
            mark.display()
        ));
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(at: &Path, marked: bool) -> PathBuf {
        fs::create_dir_all(at.join("boards")).unwrap();
        if marked {
            fs::write(at.join(MARK), format!("{MARKED}\n")).unwrap();
        }
        at.to_owned()
    }

    #[test]
    fn a_tree_is_known_by_its_mark_and_not_by_its_folders() {
        let temp = tempfile::tempdir().unwrap();
        let tree = folder(&temp.path().join("tree"), true);
        let other = folder(&temp.path().join("app"), false);
        let inside = folder(&tree.join("docs/deep"), false);
        let root = |here: &Path| Root::from(None, here, None).unwrap();
        assert_eq!(root(&tree).tree(), Some(&*tree));
        assert_eq!(root(&inside).tree(), Some(&*tree));
        assert_eq!(root(&inside).runs(), tree.join("runs"));
        assert_eq!(root(&other).tree(), None);
        assert_eq!(root(&other).runs(), other.join("runs"));
        fs::write(other.join(MARK), "another program's").unwrap();
        assert_eq!(root(&other).tree(), None);
        fs::create_dir(temp.path().join(MARK)).unwrap();
        assert_eq!(root(&other).tree(), None);
    }

    #[test]
    fn what_is_named_goes_first_and_the_programs_own_tree_last() {
        let temp = tempfile::tempdir().unwrap();
        let [one, two, here] = ["one", "two", "here"].map(|name| temp.path().join(name));
        folder(&one, true);
        folder(&two, true);
        fs::create_dir(&here).unwrap();
        let bin = one.join("target/release");
        fs::create_dir_all(&bin).unwrap();
        let root = |named: Option<&Path>, here: &Path| Root::from(named, here, Some(&bin)).unwrap();
        assert_eq!(root(None, &here).tree(), Some(&*one));
        assert_eq!(root(None, &two).tree(), Some(&*two));
        assert_eq!(root(Some(&one), &two).tree(), Some(&*one));
        for (named, stands, runs) in [
            (None, &here, &here),
            (Some(&*one), &two, &two),
            (None, &two, &two),
        ] {
            assert_eq!(root(named, stands).runs(), runs.join("runs"));
        }
        let refused = Root::from(Some(&here), &one, None).unwrap_err();
        assert!(refused.0.contains("no folder boards"), "{refused}");
    }

    /// Whoever may write above the folder could else have zfl start programs.
    #[test]
    fn a_mark_of_somebody_else_above_the_folder_counts_for_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let here = temp.path().join("here");
        fs::create_dir(&here).unwrap();
        folder(temp.path(), true);
        let other = 12_345;
        // Only the superuser can make a file somebody else's; the rule for others is the same.
        if std::os::unix::fs::chown(temp.path().join(MARK), Some(other), None).is_ok() {
            let root = Root::from(None, &here, None).unwrap();
            assert_eq!((root.tree(), root.notes.len()), (None, 1));
        }
        // A tree that one was given whole is its owner's to mark.
        if std::os::unix::fs::chown(&here, Some(other), None).is_ok() {
            assert_eq!(
                Root::from(None, &here, None).unwrap().tree(),
                Some(temp.path())
            );
        }
    }

    #[test]
    fn data_are_those_asked_for_else_the_trees_else_those_built_in() {
        let temp = tempfile::tempdir().unwrap();
        let sets = temp.path().join("sets");
        let root = Root::of_tree(folder(temp.path(), true)).with_sets(Some(sets.clone()));
        let data = |asked: Option<&str>| format!("{:?}", root.data(asked.map(Path::new)));
        assert_eq!(data(Some("mine")), "Ok(Folder(\"mine\"))");
        assert_eq!(data(None), "Ok(Digits)");
        for name in ["zfl:digits", "digits"] {
            assert_eq!(data(Some(name)), "Ok(Digits)");
        }
        assert!(data(Some("synthetic_1_0.5")).contains("Differing(1.0, 0.5)"));
        let fetched = sets.join("watch");
        assert!(data(Some("zfl:watch")).contains(fetched.to_str().unwrap()));
        let own = temp.path().join("data/watch");
        fs::create_dir_all(&own).unwrap();
        assert!(data(Some("watch")).contains(own.to_str().unwrap()));
        assert!(data(Some("zfl:cifar")).contains("zfl data list"));
        let mnist = temp.path().join(MNIST);
        fs::create_dir_all(&mnist).unwrap();
        assert_eq!(data(None), format!("Ok(Folder({mnist:?}))"));
    }

    #[test]
    fn boards_are_built_in_and_say_where_their_firmware_is() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::from(None, temp.path(), None).unwrap();
        assert!(root.boards().contains(&"microvm".to_owned()));
        assert_eq!(root.board("microvm").unwrap().kernel.image, Path::new(""));
        let root = root.with_firmware(|image| {
            Ok(image.to_str().map(|image| format!("/cache/{image}").into()))
        });
        let image = root.board("microvm").unwrap().kernel.image;
        assert_eq!(image, Path::new("/cache/build/guest/bare/zfl-bare.elf"));
        assert!(root.board("toaster").unwrap_err().0.contains("microvm"));
    }
}
