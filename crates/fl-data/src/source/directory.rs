//! A data set from a directory of four IDX files, plain or gzipped.
//!
//! Files that a `SHA256SUMS` beside them lists are held to it; those that it does not list, and directories without
//! one, are taken as they are.

use crate::dataset::{Dataset, Splits};
use crate::error::{DataError, Problem};
use crate::partition::Natural;
use crate::scaling::Scaling;
use crate::source::gzip::{MAGIC, Members};
use crate::source::idx::{self, Idx};
use crate::source::names::{self, Found, Role};
use crate::source::packing;
use crate::source::sums::Sums;
use sha2::{Digest, Sha256};
use std::io::{self, BufRead, BufReader, Read};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{Builder, ScopedJoinHandle};

/// Largest content of a data file, uncompressed: 20 times MNIST's.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Checksums beside the files.
const SUMS: &str = "SHA256SUMS";

/// A data set, and what a person should know of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its examples.
    pub splits: Splits,
    /// Whom those for training are from, if the source says it.
    pub natural: Option<Natural>,
    /// Scale of its features, if it is not one of octets.
    pub scaling: Option<Scaling>,
    /// Lines for people.
    pub warnings: Vec<String>,
}

/// Loads the data set in `dir`.
///
/// # Errors
/// [`DataError`] names the file that is missing, truncated, malformed or not the expected one.
pub(super) fn load(dir: &Path) -> Result<Loaded, DataError> {
    let error = |path: PathBuf, problem| DataError {
        path,
        problem,
        expected_sha256: None,
    };
    let found = names::find(dir).map_err(|(path, problem)| error(path, problem))?;
    let sums = Sums::read(dir, SUMS).map_err(|problem| error(dir.join(SUMS), problem))?;
    let mut warnings: Vec<String> = sums
        .unused(&found.iter().map(name).collect::<Vec<_>>())
        .into_iter()
        .collect();
    let mut contents = read_all(&found);
    let mut loaded = assemble(dir, |role| {
        let at = contents.iter().position(|(file, _)| file.role == role);
        let at = at.ok_or_else(|| Problem::Missing { there: Vec::new() })?;
        let (file, content) = contents.swap_remove(at);
        let content = content?;
        hold(file, &content, &sums)?;
        warnings.extend(content.warning(name(file)));
        Ok(content.idx)
    })
    .map_err(|error| named(error, &found, &sums))?;
    warnings.append(&mut loaded.warnings);
    Ok(Loaded { warnings, ..loaded })
}

/// The files that [`load`] reads of a directory.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let found = names::find(dir).unwrap_or_default();
    found.into_iter().map(|file| file.path).collect()
}

fn name(file: &Found) -> &str {
    file.path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// An error with the path of the file that was found, and the checksum that it should have.
fn named(error: DataError, found: &[Found], sums: &Sums) -> DataError {
    let Some(file) = found
        .iter()
        .find(|file| error.path.ends_with(file.role.name()))
    else {
        return error;
    };
    let expected = sums.of(name(file), true);
    let expected_sha256 = [expected.content, expected.either].concat().pop();
    DataError {
        path: file.path.clone(),
        expected_sha256,
        ..error
    }
}

/// Puts a data set together from its four files. An error names a file as MNIST does.
pub(super) fn assemble(
    dir: &Path,
    mut file: impl FnMut(Role) -> Result<Idx, Problem>,
) -> Result<Loaded, DataError> {
    let refused = |role: Role| {
        let path = dir.join(role.name());
        move |problem| DataError {
            path,
            problem,
            expected_sha256: None,
        }
    };
    let mut pair = |images_role, labels_role| {
        let images = file(images_role).map_err(refused(images_role))?;
        let labels = file(labels_role).map_err(refused(labels_role))?;
        fit(&images, &labels).map_err(refused(labels_role))?;
        Ok((images, labels))
    };
    let (train_images, train_labels) = pair(Role::TrainImages, Role::TrainLabels)?;
    let (test_images, test_labels) = pair(Role::TestImages, Role::TestLabels)?;
    if train_images.width != test_images.width {
        let (test, train) = (test_images.width, train_images.width);
        let problem = format!("its images have {test} octets each, those for training {train}");
        return Err(refused(Role::TestImages)(Problem::Format(problem)));
    }
    let labels = train_labels.elements.iter().chain(&test_labels.elements);
    let num_classes = labels.max().map_or(0, |&label| usize::from(label) + 1);
    let dataset = |images: Idx, labels: Idx| Dataset {
        num_inputs: images.width,
        inputs: images.elements,
        labels: labels.elements,
        num_classes,
    };
    let splits = Splits {
        train: dataset(train_images, train_labels),
        test: dataset(test_images, test_labels),
    };
    let warnings = splits
        .gaps()
        .map_err(Problem::Format)
        .map_err(refused(Role::TrainLabels))?;
    Ok(Loaded {
        splits,
        natural: None,
        scaling: None,
        warnings,
    })
}

/// Refuses images and labels that are not as many, or none.
fn fit(images: &Idx, labels: &Idx) -> Result<(), Problem> {
    let problem = match (images.count, labels.count) {
        (images, labels) if images != labels => format!("{labels} labels for {images} images"),
        (0, _) => "it holds no example".into(),
        _ if images.width == 0 => "its images have no pixels".into(),
        _ => return Ok(()),
    };
    Err(Problem::Format(problem))
}

/// Content of a data file.
pub(super) struct Content {
    /// Its elements.
    pub idx: Idx,
    /// SHA-256 of the content.
    sha256: String,
    is_gzip: bool,
    /// Octets behind the gzip stream.
    trailing: u64,
}

impl Content {
    /// Reads a file of this role, packed with gzip or not.
    pub fn read(file: impl BufRead, role: Role) -> Result<Self, Problem> {
        let mut file = file;
        let is_gzip = file.fill_buf()?.starts_with(&MAGIC);
        let (idx, sha256, trailing);
        if is_gzip {
            let mut members = Members::new(file);
            (idx, sha256) = hashed(&mut members, role)?;
            trailing = members.trailing;
        } else {
            (idx, sha256) = hashed(file, role)?;
            trailing = 0;
        }
        Ok(Self {
            idx,
            sha256,
            is_gzip,
            trailing,
        })
    }

    fn warning(&self, name: &str) -> Option<String> {
        let behind = self.trailing;
        (behind > 0).then(|| {
            format!(
                "{name}: {behind} bytes behind its gzip stream are no part of it, and are left out"
            )
        })
    }
}

/// Reads content, and hashes it. At most one octet past what belongs to it is read, and that one is an error.
fn hashed(content: impl Read, role: Role) -> Result<(Idx, String), Problem> {
    let mut content = Hashing {
        inner: content,
        hasher: Sha256::new(),
    };
    let idx = idx::read(&mut content, role.rank(), MAX_FILE_BYTES)?;
    Ok((idx, hex(&content.hasher.finalize())))
}

/// Reads files, each on a thread of its own.
fn read_all(found: &[Found]) -> Vec<(&Found, Result<Content, Problem>)> {
    std::thread::scope(|scope| {
        let begun = found.iter().map(|file| {
            let work = || read(&file.path, file.role);
            // Where no more threads can be had, this one does it.
            let begun = Builder::new().spawn_scoped(scope, work);
            (file, begun.map_err(|_| work()))
        });
        let done = |begun: Result<ScopedJoinHandle<'_, _>, _>| match begun {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(done) => done,
        };
        let begun: Vec<_> = begun.collect();
        begun
            .into_iter()
            .map(|(file, begun)| (file, done(begun)))
            .collect()
    })
}

/// Reads a file; where it is something else, that is told.
fn read(path: &Path, role: Role) -> Result<Content, Problem> {
    let file = BufReader::with_capacity(
        1 << 16,
        zfl_files::open(path, MAX_FILE_BYTES).map_err(io::Error::from)?,
    );
    Content::read(file, role).map_err(|problem| packing::problem(path).unwrap_or(problem))
}

/// Refuses a file that is not the one of the checksums.
fn hold(file: &Found, content: &Content, sums: &Sums) -> Result<(), Problem> {
    let expected = sums.of(name(file), content.is_gzip);
    let found = &content.sha256;
    if expected.content.iter().any(|sum| sum != found) {
        return Err(Problem::Checksum {
            found: found.clone(),
        });
    }
    if expected.either.iter().any(|sum| sum != found) {
        let mut whole = Hashing {
            inner: zfl_files::open(&file.path, MAX_FILE_BYTES).map_err(io::Error::from)?,
            hasher: Sha256::new(),
        };
        io::copy(&mut whole, &mut io::sink())?;
        let packed = hex(&whole.hasher.finalize());
        if expected
            .either
            .iter()
            .any(|sum| *sum != packed && sum != found)
        {
            return Err(Problem::Checksum { found: packed });
        }
    }
    Ok(())
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
