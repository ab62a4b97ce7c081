//! Seals: the length and SHA-256 of what is written, compared wherever it is read.
//!
//! A file that is written once is sealed as a whole, one that grows up to the end of a round. A JSON file
//! that is replaced begins with a checksum of the rest of itself.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zfl_files::Dir;

use crate::{EVENTS, EvaluationRecord};

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// Beginning of a JSON file with a checksum of what follows its 64 digits.
const CHECKSUM: &[u8] = b"{\"checksum\":\"";

/// The tables that grow with every round.
pub(crate) const TABLES: [&str; 3] = ["rounds.csv", "clients.csv", "traffic.csv"];

/// Length and SHA-256 of a file, or of its first bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The length.
    pub bytes: u64,
    /// The hash, in hexadecimal digits.
    pub sha256: String,
}

impl Seal {
    /// The seal of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sealing = Sealing::default();
        sealing.add(bytes);
        sealing.seal()
    }

    /// Compares a file of a run directory with it; of one that grows, its beginning.
    ///
    /// # Errors
    /// [`Damaged`] if it is not as it was sealed.
    pub fn check(&self, dir: &Dir, name: &str) -> Result<()> {
        let found = self.find_in(dir, name);
        found.map_err(|why| Damaged::at(&dir.path().join(name), why))
    }

    fn find_in(&self, dir: &Dir, name: &str) -> Result<(), String> {
        let Self { bytes, .. } = self;
        let file = dir.open_file(name, u64::MAX);
        let file = file.map_err(|error| error.reason.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let grows = [EVENTS, EvaluationRecord::FILE].contains(&name) || TABLES.contains(&name);
        match length {
            _ if length < *bytes => return Err(format!("it ends after {length} of {bytes} bytes")),
            _ if length > *bytes && !grows => {
                return Err(format!("it has more than {bytes} bytes"));
            }
            _ => {}
        }
        let mut sealing = Sealing::default();
        let read = sealing.read(&mut file.take(*bytes));
        read.map_err(|error| error.to_string())?;
        match sealing.seal() == *self {
            true => Ok(()),
            false => Err("it is not as it was written".to_owned()),
        }
    }
}

/// The seal of a file that grows.
#[derive(Clone, Debug, Default)]
struct Sealing {
    hash: Sha256,
    bytes: u64,
}

impl Sealing {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn read(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece)? {
                0 => return Ok(()),
                count => self.add(&piece[..count]),
            }
        }
    }

    fn seal(&self) -> Seal {
        Seal {
            bytes: self.bytes,
            sha256: hex(&self.hash.clone().finalize()),
        }
    }
}

/// A file that is appended to, and the seal of all of it.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: File,
    sealing: Sealing,
}

impl SealedFile {
    /// A file that is open to be read and appended to.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(mut file: File) -> io::Result<Self> {
        let mut sealing = Sealing::default();
        sealing.read(&mut file)?;
        Ok(Self { file, sealing })
    }

    /// The seal of all that is in it.
    pub fn seal(&self) -> Seal {
        self.sealing.seal()
    }
}

impl Write for SealedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sealing.add(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file of a run directory that is not as zfl wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    file: PathBuf,
    why: String,
}

impl Damaged {
    /// The error of a file.
    pub(crate) fn at(file: &Path, why: impl Into<String>) -> anyhow::Error {
        let (file, why) = (file.to_owned(), why.into());
        Self { file, why }.into()
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, why } = self;
        write!(f, "{} is damaged: {why}", file.display())
    }
}

impl std::error::Error for Damaged {}

/// The text of a JSON object that begins with a checksum of the rest of it.
///
/// # Errors
/// If it has no form in JSON.
pub(crate) fn with_checksum(value: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_vec_pretty(value)?;
    let object = text.strip_prefix(b"{").context("only objects are sealed")?;
    let rest = [b"\",", object, b"\n"].concat();
    Ok([CHECKSUM, hex(&Sha256::digest(&rest)).as_bytes(), &rest].concat())
}

/// Checks the text of a JSON file against its checksum, if it has one; tells whether it has.
///
/// # Errors
/// [`Damaged`] if the checksum is another.
pub(crate) fn check_text(file: &Path, text: &[u8]) -> Result<bool> {
    let parts = text.strip_prefix(CHECKSUM);
    let Some((digits, rest)) = parts.and_then(|parts| parts.split_at_checked(64)) else {
        return Ok(false);
    };
    match hex(&Sha256::digest(rest)).as_bytes() == digits {
        true => Ok(true),
        false => Err(Damaged::at(file, "it is not as it was written")),
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bit_of_a_text_with_a_checksum_counts() {
        let text = with_checksum(&serde_json::json!({"a": 0.1, "b": [1, 2]})).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&value["a"], &value["b"][1]), (&0.1.into(), &2.into()));
        let is_whole = |text: &[u8]| check_text(Path::new("x"), text).is_ok_and(|whole| whole);
        assert!(is_whole(&text));
        for at in 0..8 * text.len() {
            let mut other = text.clone();
            other[at / 8] ^= 1 << (at % 8);
            assert!(!is_whole(&other), "bit {at}");
        }
        for end in 0..text.len() {
            assert!(!is_whole(&text[..end]), "cut at {end}");
        }
        assert!(!check_text(Path::new("x"), b"{\"a\":1}").unwrap());
    }

    #[test]
    fn of_a_file_that_grows_the_beginning_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open(folder.path()).unwrap();
        let opened = |name| SealedFile::new(dir.append(name).unwrap()).unwrap();
        let mut table = opened("rounds.csv");
        table.write_all(b"one\ntwo\n").unwrap();
        let seal = table.seal();
        assert_eq!(seal, Seal::of(b"one\ntwo\n"));
        let mut table = opened("rounds.csv");
        table.write_all(b"three\n").unwrap();
        assert_eq!(table.seal(), Seal::of(b"one\ntwo\nthree\n"));
        seal.check(&dir, "rounds.csv").unwrap();
        opened("other").write_all(b"one\ntwo\nthree\n").unwrap();
        assert!(seal.check(&dir, "other").is_err(), "it does not grow");
        for (text, why) in [("one\nTwo\n", "not as it was"), ("one\n", "after 4 of 8")] {
            std::fs::write(folder.path().join("rounds.csv"), text).unwrap();
            let error = seal.check(&dir, "rounds.csv").unwrap_err().to_string();
            assert!(error.contains("rounds.csv is damaged"), "{error}");
            assert!(error.contains(why), "{error}");
        }
        assert!(seal.check(&dir, "gone").is_err());
    }
}
