//! State of the algorithm between two rounds: a file per part in folder `state`, named by its round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use zfl_files::{Dir, FileError};

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
}

/// The folder of a run's state.
///
/// Parts of a round are written before its model and older ones are removed after it, so that there is
/// a whole state for the round of the model whenever a run is broken off.
#[derive(Clone, Debug)]
pub struct StateDir {
    run: PathBuf,
}

impl StateDir {
    /// The folder of a run directory; it need not be there.
    pub fn of(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
        }
    }

    /// Writes a part whose name is of letters, digits and `-`.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(&self, name: &str, part: &StatePart) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, vector) in &part.vectors {
            let octets: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            tensors.push((name, vector.len(), octets));
        }
        let views = tensors.iter().map(|(name, len, octets)| {
            Ok((name, TensorView::new(Dtype::F32, vec![*len], octets)?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let about = serde_json::to_string(&part.numbers)?;
        let metadata = [("numbers".to_owned(), about)];
        let file = safetensors::serialize(views, Some(metadata.into()))?;
        let dir = Dir::open(&self.run)?.make_folder(FOLDER)?;
        let name = file_name(name, part.round);
        Ok(dir.write(&name, &file)?)
    }

    /// Reads the parts as they were at the end of `round`, by name.
    ///
    /// # Errors
    /// If a file cannot be read or is not as [`StateDir::write`] writes it.
    pub fn read(&self, round: u32) -> Result<BTreeMap<String, StatePart>> {
        let Some(dir) = self.dir()? else {
            return Ok(BTreeMap::new());
        };
        let read = |(name, of): (String, u32)| {
            let part = read_part(&dir, &name, of)?;
            Ok((name, part))
        };
        newest(&files(&dir)?, round).into_iter().map(read).collect()
    }

    /// Removes what is not of the state at the end of `round`: parts that have a newer one by then, those
    /// of later rounds, and what was never written to its end.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn tidy(&self, round: u32) -> Result<()> {
        let Some(dir) = self.dir()? else {
            return Ok(());
        };
        dir.remove_unfinished()?;
        let files = files(&dir)?;
        let newest = newest(&files, round);
        for (name, of) in &files {
            if newest.get(name) != Some(of) {
                dir.remove(&file_name(name, *of))?;
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

fn read_part(dir: &Dir, name: &str, round: u32) -> Result<StatePart> {
    let file = file_name(name, round);
    let octets = dir.read(&file, MAX_PART)?;
    let read = || -> Result<StatePart> {
        let (_, metadata) = SafeTensors::read_metadata(&octets)?;
        let metadata = metadata.metadata().as_ref();
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
        })
    };
    read().with_context(|| format!("read {}", dir.path().join(&file).display()))
}

/// Names and rounds of what is there.
fn files(dir: &Dir) -> Result<Vec<(String, u32)>> {
    let mut files = Vec::new();
    for name in dir.names()? {
        let stem = name
            .to_str()
            .and_then(|name| name.strip_suffix(".safetensors"));
        let parts = stem.and_then(|stem| stem.rsplit_once('-'));
        if let Some((name, round)) = parts
            && let Ok(round) = round.parse()
        {
            files.push((name.to_owned(), round));
        }
    }
    Ok(files)
}

/// The newest round of each part by the end of `round`.
fn newest(files: &[(String, u32)], round: u32) -> BTreeMap<String, u32> {
    let mut newest = BTreeMap::<String, u32>::new();
    for (name, of) in files.iter().filter(|(_, of)| *of <= round) {
        let known = newest.entry(name.clone()).or_default();
        *known = (*known).max(*of);
    }
    newest
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
        }
    }

    #[test]
    fn the_state_of_a_round_is_the_newest_of_each_part_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        assert!(state.read(9).unwrap().is_empty());
        state.write("rule", &part(1, 0.5)).unwrap();
        state.write("client-7", &part(1, 1.5)).unwrap();
        state.write("rule", &part(2, 2.5)).unwrap();
        let found = state.read(1).unwrap();
        assert_eq!(found["rule"], part(1, 0.5));
        let found = state.read(2).unwrap();
        assert_eq!(
            (&found["rule"], &found["client-7"]),
            (&part(2, 2.5), &part(1, 1.5))
        );
    }

    #[test]
    fn only_what_counts_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        for round in [1, 3, 4] {
            state.write("rule", &part(round, 0.0)).unwrap();
        }
        state.tidy(3).unwrap();
        assert_eq!(
            files(&state.dir().unwrap().unwrap()).unwrap(),
            [("rule".to_owned(), 3)]
        );
    }

    #[test]
    fn what_a_crash_left_half_written_goes() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        state.write("rule", &part(1, 0.0)).unwrap();
        fs::write(dir.path().join("state/.rule-2.safetensors.new"), "torn").unwrap();
        state.tidy(1).unwrap();
        let left = fs::read_dir(dir.path().join("state")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["rule-1.safetensors"]);
    }

    #[test]
    fn a_part_that_cannot_be_put_in_place_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        let place = dir.path().join("state/rule-1.safetensors");
        fs::create_dir_all(&place).unwrap();
        let error = state.write("rule", &part(1, 0.0)).unwrap_err().to_string();
        assert!(error.contains("rule-1.safetensors: "), "{error}");
        let left = fs::read_dir(dir.path().join("state")).unwrap();
        assert_eq!(left.count(), 1);
    }

    #[test]
    fn a_file_that_was_cut_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path());
        state.write("client-0", &part(2, 1.0)).unwrap();
        let file = dir.path().join("state/client-0-2.safetensors");
        let octets = fs::read(&file).unwrap();
        fs::write(&file, &octets[..octets.len() - 3]).unwrap();
        let error = state.read(2).unwrap_err().to_string();
        assert!(error.ends_with("client-0-2.safetensors"), "{error}");
    }
}
