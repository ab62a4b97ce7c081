//! Directories of data files, good and bad.

use fl_data::{Problem, default_dir, load};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::Path;

fn images(pixels: &[[u8; 4]]) -> Vec<u8> {
    let mut file = vec![
        0,
        0,
        8,
        3,
        0,
        0,
        0,
        pixels.len() as u8,
        0,
        0,
        0,
        2,
        0,
        0,
        0,
        2,
    ];
    file.extend(pixels.as_flattened());
    file
}

fn labels(labels: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, 1, 0, 0, 0, labels.len() as u8];
    file.extend(labels);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three examples to train and one to test, two files plain and two gzipped.
fn small() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let train = images(&[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]);
    fs::write(dir.path().join("train-images-idx3-ubyte.gz"), gzip(&train)).unwrap();
    fs::write(
        dir.path().join("train-labels-idx1-ubyte"),
        labels(&[0, 1, 0]),
    )
    .unwrap();
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), images(&[[0; 4]])).unwrap();
    fs::write(
        dir.path().join("t10k-labels-idx1-ubyte.gz"),
        gzip(&labels(&[2])),
    )
    .unwrap();
    dir
}

fn message(dir: &Path) -> String {
    load(Some(dir)).unwrap_err().to_string()
}

#[test]
fn plain_and_gzipped_files_mix() {
    let splits = load(Some(small().path())).unwrap();
    assert_eq!((splits.train.len(), splits.test.len()), (3, 1));
    assert_eq!((splits.train.num_inputs, splits.train.num_classes), (4, 3));
    assert_eq!(
        splits.train.gather_inputs(&[2, 0, 9]),
        [9, 10, 11, 12, 1, 2, 3, 4]
    );
    assert_eq!(splits.train.gather_labels(&[1, 2, 9]), [1, 0]);
}

#[test]
fn the_mnist_that_is_shipped_is_whole() {
    let splits = load(None).unwrap();
    assert_eq!((splits.train.len(), splits.test.len()), (60_000, 10_000));
    assert_eq!(
        (splits.train.num_inputs, splits.train.num_classes),
        (784, 10)
    );
    assert_eq!(splits.train.inputs.len(), 60_000 * 784);
    assert_eq!(splits.train.labels[..5], [5, 0, 4, 1, 9]);
    let zeros = splits
        .train
        .inputs
        .iter()
        .filter(|&&pixel| pixel == 0)
        .count();
    assert_eq!(
        zeros * 100 / splits.train.inputs.len(),
        80,
        "81 % of the pixels are zero"
    );
}

#[test]
fn a_missing_file_is_named_with_the_way_out() {
    let dir = small();
    fs::remove_file(dir.path().join("t10k-labels-idx1-ubyte.gz")).unwrap();
    let message = message(dir.path());
    assert!(
        message.contains("t10k-labels-idx1-ubyte: the file is missing"),
        "{message}"
    );
    assert!(message.contains("--data"), "{message}");
}

#[test]
fn a_truncated_file_is_named_plain_and_gzipped() {
    let dir = small();
    let path = dir.path().join("train-labels-idx1-ubyte");
    fs::write(&path, &labels(&[0, 1, 0])[..10]).unwrap();
    let error = load(Some(dir.path())).unwrap_err();
    assert_eq!(error.path, path);
    assert!(matches!(
        error.problem,
        Problem::Truncated {
            expected: 11,
            found: 10
        }
    ));

    let dir = small();
    let path = dir.path().join("t10k-labels-idx1-ubyte.gz");
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(
            load(Some(dir.path())).unwrap_err().path,
            path,
            "cut at {len}"
        );
    }
}

#[test]
fn a_broken_gzip_stream_is_refused() {
    let dir = small();
    let path = dir.path().join("t10k-labels-idx1-ubyte.gz");
    let mut bytes = fs::read(&path).unwrap();
    let crc = bytes.len() - 8;
    bytes[crc] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        load(Some(dir.path())).unwrap_err().problem,
        Problem::Io(_)
    ));
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let dir = small();
    fs::write(dir.path().join("train-labels-idx1-ubyte"), labels(&[0, 1])).unwrap();
    assert!(message(dir.path()).contains("2 labels for 3 images"));

    let dir = small();
    let wide = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 7];
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), wide).unwrap();
    assert!(message(dir.path()).contains("1 octets each, those for training 4"));

    let dir = small();
    fs::write(dir.path().join("t10k-images-idx3-ubyte"), images(&[])).unwrap();
    fs::write(
        dir.path().join("t10k-labels-idx1-ubyte.gz"),
        gzip(&labels(&[])),
    )
    .unwrap();
    assert!(message(dir.path()).contains("no example"));
}

#[test]
fn checksums_beside_the_files_are_held_to() {
    let dir = small();
    let sum = "1".repeat(64);
    let sums = dir.path().join("SHA256SUMS");
    fs::write(&sums, format!("{sum}  train-labels-idx1-ubyte\n")).unwrap();
    let error = load(Some(dir.path())).unwrap_err();
    let Problem::Checksum { found } = &error.problem else {
        panic!("{error}")
    };
    assert_eq!(error.expected_sha256.as_deref(), Some(sum.as_str()));
    let message = error.to_string();
    assert!(
        message.contains(&sum) && message.contains(found),
        "{message}"
    );

    fs::write(&sums, format!("{found} *train-labels-idx1-ubyte\n")).unwrap();
    assert!(load(Some(dir.path())).is_ok());
    fs::write(&sums, "no checksum at all\n").unwrap();
    assert!(self::message(dir.path()).contains("SHA256SUMS"));
}

#[test]
fn the_default_directory_is_that_of_the_source_tree() {
    assert!(default_dir().join("train-images-idx3-ubyte.gz").is_file());
}
