//! State of the algorithm between two rounds: a file per part in folder `state`, named by its round.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::write::{remove_unfinished, replace};

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
    path: PathBuf,
}

impl StateDir {
    /// The folder of a run directory; it need not be there.
    pub fn of(run: &Path) -> Self {
        Self {
            path: run.join("state"),
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
        fs::create_dir_all(&self.path).with_context(|| format!("make {}", self.path.display()))?;
        let name = format!("{name}-{}.safetensors", part.round);
        replace(&self.path, &name, |place| place.write_all(&file))
    }

    /// Reads the parts as they were at the end of `round`, by name.
    ///
    /// # Errors
    /// If a file cannot be read or is not as [`StateDir::write`] writes it.
    pub fn read(&self, round: u32) -> Result<BTreeMap<String, StatePart>> {
        let read = |(name, of): (String, u32)| {
            let part = self.read_part(&name, of)?;
            Ok((name, part))
        };
        newest(&self.files()?, round)
            .into_iter()
            .map(read)
            .collect()
    }

    /// Removes what is not of the state at the end of `round`: parts that have a newer one by then, those
    /// of later rounds, and what was never written to its end.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn tidy(&self, round: u32) -> Result<()> {
        remove_unfinished(&self.path)?;
        let files = self.files()?;
        let newest = newest(&files, round);
        for (name, of) in &files {
            if newest.get(name) != Some(of) {
                let place = self.path.join(format!("{name}-{of}.safetensors"));
                fs::remove_file(&place).with_context(|| format!("remove {}", place.display()))?;
            }
        }
        Ok(())
    }

    fn read_part(&self, name: &str, round: u32) -> Result<StatePart> {
        let place = self.path.join(format!("{name}-{round}.safetensors"));
        let read = || -> Result<StatePart> {
            let octets = fs::read(&place)?;
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
        read().with_context(|| format!("read {}", place.display()))
    }

    /// Names and rounds of what is there.
    fn files(&self) -> Result<Vec<(String, u32)>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", self.path.display()))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
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
        assert_eq!(state.files().unwrap(), [("rule".to_owned(), 3)]);
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
        assert!(error.ends_with("rule-1.safetensors"), "{error}");
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
