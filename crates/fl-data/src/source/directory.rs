//! A data set from a directory of four IDX files, plain or gzipped.
//!
//! The content expected is that of MNIST for the directory that zfl ships, and for any other
//! directory what a `SHA256SUMS` beside the files lists (`sha256sum`'s format, of the uncompressed
//! files); files that it does not list, and directories without one, are taken as they are.

use crate::dataset::{Dataset, Splits};
use crate::error::{DataError, Problem};
use crate::source::idx::{self, Idx};
use crate::source::mnist;
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Largest content of a data file, uncompressed: 20 times MNIST's.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Largest `SHA256SUMS` that is read.
const MAX_SUMS_BYTES: u64 = 1 << 16;

const ADVICE: &str = "check the directory given with --data: it must hold train-images-idx3-ubyte, \
    train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with .gz";

/// Loads the data set in `dir`, or MNIST from [`default_dir`](crate::default_dir) if there is none.
///
/// # Errors
/// [`DataError`] names the file that is missing, truncated, malformed or not the expected one.
pub fn load(dir: Option<&Path>) -> Result<Splits, DataError> {
    let shipped = mnist::default_dir();
    match dir {
        Some(dir) if !is_same_dir(dir, &shipped) => Directory::other(dir)?.load(),
        _ => Directory::shipped(shipped).load(),
    }
}

fn is_same_dir(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A directory, and what is known of the files in it.
struct Directory {
    dir: PathBuf,
    checksums: Vec<(String, String)>,
    advice: &'static str,
}

impl Directory {
    fn shipped(dir: PathBuf) -> Self {
        let checksums = mnist::CHECKSUMS
            .map(|(name, sum)| (name.into(), sum.into()))
            .into();
        Self {
            dir,
            checksums,
            advice: mnist::ADVICE,
        }
    }

    fn other(dir: &Path) -> Result<Self, DataError> {
        let mut directory = Self {
            dir: dir.into(),
            checksums: Vec::new(),
            advice: ADVICE,
        };
        let path = dir.join("SHA256SUMS");
        directory.checksums =
            read_checksums(&path).map_err(|problem| directory.error(&path, problem))?;
        Ok(directory)
    }

    fn load(&self) -> Result<Splits, DataError> {
        let (train_images, train_labels) = self.pair("train")?;
        let (test_images, test_labels) = self.pair("t10k")?;
        if train_images.width != test_images.width {
            let problem = Problem::Format(format!(
                "its images have {} octets each, those for training {}",
                test_images.width, train_images.width
            ));
            return Err(self.error(&self.dir.join(images_name("t10k")), problem));
        }
        let labels = train_labels.elements.iter().chain(&test_labels.elements);
        let num_classes = labels.max().map_or(0, |&label| usize::from(label) + 1);
        let dataset = |images: Idx, labels: Idx| Dataset {
            num_inputs: images.width,
            inputs: images.elements,
            labels: labels.elements,
            num_classes,
        };
        let train = dataset(train_images, train_labels);
        Ok(Splits {
            train,
            test: dataset(test_images, test_labels),
        })
    }

    /// The images and labels of one half, as many of the one as of the other, and at least one.
    fn pair(&self, half: &str) -> Result<(Idx, Idx), DataError> {
        let images = self.file(&images_name(half), 3)?;
        let labels_name = labels_name(half);
        let labels = self.file(&labels_name, 1)?;
        let problem = match (images.count, labels.count) {
            (images, labels) if images != labels => {
                format!("{labels} labels for {images} images")
            }
            (0, _) => "it holds no example".into(),
            _ if images.width == 0 => "its images have no pixels".into(),
            _ => return Ok((images, labels)),
        };
        Err(self.error(&self.dir.join(labels_name), Problem::Format(problem)))
    }

    /// One file, checked against its checksum where that is known.
    fn file(&self, name: &str, rank: usize) -> Result<Idx, DataError> {
        let Some((path, is_gzipped)) = find(&self.dir, name) else {
            return Err(self.error(&self.dir.join(name), Problem::Missing));
        };
        let read = || -> Result<Idx, Problem> {
            let file = File::open(&path)?;
            // A decoder may read at most one byte past what is hashed, and that byte is an error.
            let mut content = Hashing {
                inner: decoder(file, is_gzipped),
                hasher: Sha256::new(),
            };
            let idx = idx::read(&mut content, rank, MAX_FILE_BYTES)?;
            let found = hex(&content.hasher.finalize());
            match self.expected(name) {
                Some(expected) if expected != found => Err(Problem::Checksum { found }),
                _ => Ok(idx),
            }
        };
        read().map_err(|problem| self.error(&path, problem))
    }

    fn expected(&self, name: &str) -> Option<&str> {
        let known = self.checksums.iter().find(|(known, _)| known == name);
        known.map(|(_, sum)| sum.as_str())
    }

    fn error(&self, path: &Path, problem: Problem) -> DataError {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let expected = self.expected(name.strip_suffix(".gz").unwrap_or(name));
        DataError {
            path: path.into(),
            problem,
            expected_sha256: expected.map(str::to_owned),
            advice: self.advice.into(),
        }
    }
}

/// The file of this name in a directory, and whether it is gzipped.
fn find(dir: &Path, name: &str) -> Option<(PathBuf, bool)> {
    let (plain, gzipped) = (dir.join(name), dir.join(format!("{name}.gz")));
    match (plain.exists(), gzipped.exists()) {
        (true, _) => Some((plain, false)),
        (false, true) => Some((gzipped, true)),
        (false, false) => None,
    }
}

/// The files that [`load`] reads of a directory, in the order of their names.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let halves = ["t10k", "train"];
    let names = halves.map(|half| [images_name(half), labels_name(half)]);
    let there = names.iter().flatten().filter_map(|name| find(dir, name));
    there.map(|(path, _)| path).collect()
}

fn labels_name(half: &str) -> String {
    format!("{half}-labels-idx1-ubyte")
}

fn images_name(half: &str) -> String {
    format!("{half}-images-idx3-ubyte")
}

fn decoder(file: File, is_gzipped: bool) -> Box<dyn Read> {
    let buffered = io::BufReader::with_capacity(1 << 16, file);
    if is_gzipped {
        Box::new(MultiGzDecoder::new(buffered))
    } else {
        Box::new(buffered)
    }
}

/// Hashes what passes through.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// Name and checksum of each line of a `SHA256SUMS`; none if there is no such file.
fn read_checksums(path: &Path) -> Result<Vec<(String, String)>, Problem> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
        Ok(meta) if meta.len() > MAX_SUMS_BYTES => {
            return Err(Problem::Format(format!(
                "larger than {MAX_SUMS_BYTES} bytes"
            )));
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path)?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(parse_checksum)
        .collect()
}

/// `<64 hex digits>  <name>`, with `*` before the name for binary mode.
fn parse_checksum(line: &str) -> Result<(String, String), Problem> {
    let parsed = line.split_once(' ').and_then(|(sum, name)| {
        let name = name.trim_start_matches([' ', '*']).trim_end();
        let is_sum = sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
        is_sum.then(|| {
            (
                name.trim_end_matches(".gz").to_owned(),
                sum.to_ascii_lowercase(),
            )
        })
    });
    parsed.ok_or_else(|| Problem::Format(format!("not a line of sha256sum: {line:?}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory that is shipped, as a copy with `name` changed by `damage`.
    fn damaged(name: &str, damage: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> DataError {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(mnist::default_dir()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let path = copy.path().join(name);
        match damage(fs::read(&path).unwrap()) {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        Directory::shipped(copy.path().into())
            .pair("t10k")
            .unwrap_err()
    }

    #[test]
    fn damage_to_mnist_is_told_with_the_expected_checksum() {
        let labels = "t10k-labels-idx1-ubyte.gz";
        let sum = mnist::CHECKSUMS[3].1;
        let missing = damaged(labels, |_| None);
        assert!(matches!(missing.problem, Problem::Missing));
        let truncated = damaged(labels, |bytes| Some(bytes[..bytes.len() / 2].into()));
        assert!(matches!(truncated.problem, Problem::Truncated { .. }));
        let wrong = damaged(labels, |bytes| {
            let mut plain = Vec::new();
            MultiGzDecoder::new(&bytes[..])
                .read_to_end(&mut plain)
                .unwrap();
            plain[1000] ^= 1;
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            io::Write::write_all(&mut encoder, &plain).unwrap();
            encoder.finish().ok()
        });
        assert!(matches!(wrong.problem, Problem::Checksum { .. }));
        for error in [missing, truncated, wrong] {
            let message = error.to_string();
            for part in ["t10k-labels-idx1-ubyte", sum, "git checkout"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
