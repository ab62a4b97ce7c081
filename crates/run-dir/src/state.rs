//! State of the algorithm between two rounds: a file per part in folder `state`, named by its round.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use zfl_files::{Dir, FileError};

use crate::Seal;

/// The folder's name in the run directory.
const FOLDER: &str = "state";

/// Most of a file of the state, in bytes: more than a model that a device can train.
const MAX_PART: u64 = 1 << 30;

/// One part of the state, such as that of one client.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatePart {
    /// The round at whose end it was so.
    pub round: u32,
    /// Numbers, by name.
    pub numbers: BTreeMap<String, f64>,
    /// Vectors, by name.
    pub vectors: BTreeMap<String, Vec<f32>>,
    /// Text about it, such as JSON; may be empty.
    pub text: String,
}

impl StatePart {
    /// Names of the clients' parts begin so; their number follows.
    pub const CLIENT: &str = "client-";

    /// Name of the number that tells the round which a client's part is of. A late update leaves one of the
    /// round that it was asked in.
    pub const ROUND: &str = "state_round";
}

/// The folder of a run's state, and the files in it that count.
///
/// Parts of a round are written before its model and older ones are removed after it, so that there is
/// a whole state for the round of the model whenever a run is broken off.
#[derive(Clone, Debug)]
pub struct StateDir {
    run: PathBuf,
    /// Round and seal of each part, by name.
    parts: BTreeMap<String, (u32, Seal)>,
}

impl StateDir {
    /// The folder of a run directory; nothing in it counts, and it need not be there.
    pub fn of(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
            parts: BTreeMap::new(),
        }
    }

    /// The folder as these seals of a run directory have it.
    pub(crate) fn sealed(run: &Path, files: &BTreeMap<String, Seal>) -> Self {
        let part = |(name, seal): (&String, &Seal)| {
            let stem = name.strip_prefix(FOLDER)?.strip_prefix('/')?;
            let (part, round) = parts_of(stem)?;
            Some((part, (round, seal.clone())))
        };
        Self {
            run: run.to_owned(),
            parts: files.iter().filter_map(part).collect(),
        }
    }

    /// The seals of the files that count, by name in the run directory.
    pub fn seals(&self) -> impl Iterator<Item = (String, Seal)> {
        let parts = self.parts.iter();
        parts.map(|(part, (round, seal))| {
            (
                format!("{FOLDER}/{}", file_name(part, *round)),
                seal.clone(),
            )
        })
    }

    /// Writes a part whose name is of letters, digits and `-`, in the place of the one of before.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(&mut self, name: &str, part: &StatePart) -> Result<()> {
        let file = octets(part)?;
        let dir = Dir::open(&self.run)?.make_folder(FOLDER)?;
        dir.write(&file_name(name, part.round), &file)?;
        let sealed = (part.round, Seal::of(&file));
        self.parts.insert(name.to_owned(), sealed);
        Ok(())
    }

    /// Lets a part no longer count; its file is removed with the older ones.
    pub fn forget(&mut self, name: &str) {
        self.parts.remove(name);
    }

    /// Reads the parts that count, by name.
    ///
    /// # Errors
    /// If a file cannot be read or is not as [`StateDir::write`] wrote it.
    pub fn read(&self) -> Result<BTreeMap<String, StatePart>> {
        let Some(dir) = self.dir()? else {
            let none = self.parts.is_empty();
            ensure!(none, "{} is gone", self.run.join(FOLDER).display());
            return Ok(BTreeMap::new());
        };
        let read = |(name, (round, seal)): (&String, &(u32, Seal))| {
            seal.check(&dir, &file_name(name, *round))?;
            let part = read_part(&dir, name, *round)?;
            Ok((name.clone(), part))
        };
        self.parts.iter().map(read).collect()
    }

    /// Removes the parts that do not count, and what was never written to its end.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn tidy(&self) -> Result<()> {
        let Some(dir) = self.dir()? else {
            return Ok(());
        };
        dir.remove_unfinished()?;
        for name in dir.names()? {
            let part = name.to_str().and_then(parts_of);
            if let Some((part, round)) = part
                && self.parts.get(&part).is_none_or(|(of, _)| *of != round)
            {
                dir.remove(&file_name(&part, round))?;
            }
        }
        Ok(())
    }

    /// The folder, if it is there.
    fn dir(&self) -> Result<Option<Dir>, FileError> {
        match Dir::open(&self.run)?.folder(FOLDER) {
            Err(error) if error.is_missing() => Ok(None),
            dir => dir.map(Some),
        }
    }
}

fn file_name(part: &str, round: u32) -> String {
    format!("{part}-{round}.safetensors")
}

/// Part and round of a file's name.
fn parts_of(file: &str) -> Option<(String, u32)> {
    let (part, round) = file.strip_suffix(".safetensors")?.rsplit_once('-')?;
    Some((part.to_owned(), round.parse().ok()?))
}

/// The file of a part.
fn octets(part: &StatePart) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, vector) in &part.vectors {
        let octets: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        tensors.push((name, vector.len(), octets));
    }
    let views = tensors
        .iter()
        .map(|(name, len, octets)| Ok((name, TensorView::new(Dtype::F32, vec![*len], octets)?)));
    let views = views.collect::<Result<Vec<_>>>()?;
    let about = serde_json::to_string(&part.numbers)?;
    let mut metadata = HashMap::from([("numbers".to_owned(), about)]);
    if !part.text.is_empty() {
        metadata.insert("text".to_owned(), part.text.clone());
    }
    Ok(safetensors::serialize(views, Some(metadata))?)
}

fn read_part(dir: &Dir, name: &str, round: u32) -> Result<StatePart> {
    let file = file_name(name, round);
    let octets = dir.read(&file, MAX_PART)?;
    let read = || -> Result<StatePart> {
        let (_, metadata) = SafeTensors::read_metadata(&octets)?;
        let metadata = metadata.metadata().as_ref();
        let text = metadata.and_then(|entries| entries.get("text"));
        let numbers = metadata.and_then(|entries| entries.get("numbers"));
        let numbers = serde_json::from_str(numbers.context("it has no numbers")?)?;
        let tensors = SafeTensors::deserialize(&octets)?;
        let vector = |(name, view): (&str, TensorView<'_>)| {
            let numbers = view.data().as_chunks::<4>().0.iter();
            let numbers = numbers.map(|octets| f32::from_le_bytes(*octets));
            (name.to_owned(), numbers.collect())
        };
        Ok(StatePart {
            round,
            numbers,
            vectors: tensors.iter().map(vector).collect(),
            text: text.cloned().unwrap_or_default(),
        })
    };
    read().with_context(|| format!("read {}", dir.path().join(&file).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn part(round: u32, value: f32) -> StatePart {
        StatePart {
            round,
            numbers: [("step".to_owned(), f64::from(round))].into(),
            vectors: [
                ("a".to_owned(), vec![value, -0.0, 1e-40]),
                ("none".to_owned(), vec![]),
            ]
            .into(),
            text: String::new(),
        }
    }

    #[test]
    fn what_counts_is_read_back_to_the_bit_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::of(dir.path());
        assert!(state.read().unwrap().is_empty());
        // A number that does not come back by a quick way of reading decimals.
        let mut odd = part(1, 0.5);
        odd.numbers.insert("odd".to_owned(), 0.1 + 0.7 / 3.0);
        state.write("client-7", &odd).unwrap();
        state.write("rule", &part(1, 1.5)).unwrap();
        state.write("rule", &part(2, 2.5)).unwrap();
        let files = |folder: &Path| {
            let names = fs::read_dir(folder.join(FOLDER)).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        fs::write(dir.path().join("state/rule-3.safetensors"), "of later").unwrap();
        fs::write(dir.path().join("state/client-9-1.safetensors"), "another's").unwrap();
        let unfinished = dir.path().join("state/.rule-3.safetensors.new");
        fs::write(unfinished, "torn").unwrap();
        let seals: BTreeMap<_, _> = state.seals().collect();
        let again = StateDir::sealed(dir.path(), &seals);
        for state in [&state, &again] {
            let found = state.read().unwrap();
            assert_eq!(found["rule"], part(2, 2.5));
            assert_eq!(found["client-7"], odd);
            assert_eq!(found.len(), 2);
        }
        again.tidy().unwrap();
        let expected = ["client-7-1.safetensors", "rule-2.safetensors"];
        assert_eq!(files(dir.path()), expected.map(str::to_owned).into());
    }

    #[test]
    fn a_part_that_cannot_be_put_in_place_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::of(dir.path());
        let place = dir.path().join("state/rule-1.safetensors");
        fs::create_dir_all(&place).unwrap();
        let error = state.write("rule", &part(1, 0.0)).unwrap_err().to_string();
        assert!(error.contains("rule-1.safetensors"), "{error}");
        let left = fs::read_dir(dir.path().join("state")).unwrap();
        assert_eq!(left.count(), 1);
        assert!(state.seals().next().is_none(), "it does not count");
    }

    #[test]
    fn a_file_that_is_not_as_it_was_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = StateDir::of(dir.path());
        state.write("client-0", &part(2, 1.0)).unwrap();
        let file = dir.path().join("state/client-0-2.safetensors");
        let octets = fs::read(&file).unwrap();
        let mut turned = octets.clone();
        *turned.last_mut().unwrap() ^= 1;
        for other in [&octets[..octets.len() - 3], &turned] {
            fs::write(&file, other).unwrap();
            let error = state.read().unwrap_err().to_string();
            assert!(
                error.contains("client-0-2.safetensors is damaged"),
                "{error}"
            );
        }
        fs::remove_dir_all(dir.path().join("state")).unwrap();
        assert!(state.read().is_err());
    }
}
