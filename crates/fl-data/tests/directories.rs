//! Directories of data files, good and bad.

use fl_data::{Problem, load};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

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

/// The folder of MNIST in the tree.
fn mnist() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/mnist")
}

fn message(dir: &Path) -> String {
    load(dir).unwrap_err().to_string()
}

#[test]
fn plain_and_gzipped_files_mix() {
    let splits = load(small().path()).unwrap().splits;
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
    let splits = load(&mnist()).unwrap().splits;
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
    let error = load(dir.path()).unwrap_err();
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
        assert_eq!(load(dir.path()).unwrap_err().path, path, "cut at {len}");
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
        load(dir.path()).unwrap_err().problem,
        Problem::Io(_)
    ));
}

#[test]
fn files_that_do_not_fit_each_other_are_refused() {
    let dir = small();
    fs::write(dir.path().join("train-labels-idx1-ubyte"), labels(&[0, 1])).unwrap();
    assert!(message(dir.path()).contains("2 labels for 3 images; get the right file"));

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
    let error = load(dir.path()).unwrap_err();
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
    assert!(load(dir.path()).is_ok());
    fs::write(&sums, "no checksum at all\n").unwrap();
    assert!(self::message(dir.path()).contains("SHA256SUMS: line 1"));
    fs::write(&sums, format!("{sum}  ./elsewhere.txt\n")).unwrap();
    let warnings = load(dir.path()).unwrap().warnings;
    assert!(
        warnings.iter().any(|line| line.contains("./elsewhere.txt")),
        "{warnings:?}"
    );
}

/// A packed file's own sum is what `sha256sum *` writes down.
#[test]
fn the_sum_of_a_packed_file_holds_for_it_or_its_content() {
    let dir = small();
    let file = "train-images-idx3-ubyte.gz";
    let sums = dir.path().join("SHA256SUMS");
    let sum_of = |sum: &str| {
        fs::write(&sums, format!("{sum}  ./{file}\n")).unwrap();
        match load(dir.path()) {
            Ok(loaded) => Ok(loaded.warnings),
            Err(error) => match error.problem {
                Problem::Checksum { found } => Err(found),
                other => panic!("{other}"),
            },
        }
    };
    let of_packed = sum_of(&"1".repeat(64)).unwrap_err();
    let usual = load(small().path()).unwrap().warnings;
    assert_eq!(sum_of(&of_packed.to_uppercase()).unwrap(), usual);
    fs::write(&sums, format!("{}  {file}\n", "1".repeat(64))).unwrap();
    fs::write(dir.path().join(file), gzip(&images(&[[1; 4]; 3]))).unwrap();
    assert_ne!(sum_of(&of_packed).unwrap_err(), of_packed);
}

#[test]
fn mnist_that_was_changed_is_told_with_the_checksum_that_it_should_have() {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(mnist()).unwrap().flatten() {
        std::os::unix::fs::symlink(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let labels = dir.path().join("t10k-labels-idx1-ubyte.gz");
    fs::remove_file(&labels).unwrap();
    let mut plain = vec![0, 0, 8, 1, 0, 0, 39, 16];
    plain.resize(10_008, 1);
    fs::write(&labels, gzip(&plain)).unwrap();
    let message = message(dir.path());
    let sum = "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2";
    assert!(
        message.contains(sum) && message.contains("t10k-labels-idx1-ubyte.gz"),
        "{message}"
    );
}

fn rename(dir: &Path, name: impl Fn(&str) -> String) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let old = entry.file_name().into_string().unwrap();
        fs::rename(entry.path(), dir.join(name(&old))).unwrap();
    }
}

#[test]
fn files_are_found_under_other_common_names() {
    let dotted = |name: &str| name.replace("-idx", ".idx");
    let emnist = |name: &str| format!("emnist-digits-{}", name.replace("t10k", "test"));
    let names: [&dyn Fn(&str) -> String; 4] =
        [&dotted, &emnist, &|name| name.to_uppercase(), &|name| {
            name.replace('-', "_")
        }];
    for name in names {
        let dir = small();
        rename(dir.path(), name);
        let loaded = load(dir.path()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(loaded.splits.train.len(), 3);
        assert_eq!(fl_data::files(dir.path()).len(), 4);
    }
}

#[test]
fn two_files_for_one_place_are_both_named_and_none_is_taken() {
    let dir = small();
    let other = "train-labels.idx1-ubyte";
    fs::write(dir.path().join(other), labels(&[1, 0, 1])).unwrap();
    let said = message(dir.path());
    assert!(
        said.contains(other) && said.contains("train-labels-idx1-ubyte and"),
        "{said}"
    );

    // Of two forms of one file the plain one is taken.
    fs::remove_file(dir.path().join(other)).unwrap();
    fs::write(dir.path().join("train-labels-idx1-ubyte.gz"), "broken").unwrap();
    assert!(load(dir.path()).is_ok());

    let (dir, sets) = (small(), ["emnist-digits-", "emnist-letters-"]);
    rename(dir.path(), |name| format!("{}{name}", sets[0]));
    let file = |set: &str| format!("{set}train-labels-idx1-ubyte");
    fs::write(dir.path().join(file(sets[1])), labels(&[1, 0, 1])).unwrap();
    let said = message(dir.path());
    assert!(said.contains(sets[0]) && said.contains(sets[1]), "{said}");
}

#[test]
fn a_folder_that_is_none_and_files_under_unknown_names_are_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(message(&dir.path().join("mnist")).contains("no such folder"));
    let archive = dir.path().join("archive.zip");
    fs::write(&archive, "PK").unwrap();
    assert!(message(&archive).contains("it is a file"));
    let said = message(dir.path());
    assert!(
        said.contains("train-images-idx3-ubyte: the file is missing"),
        "{said}"
    );
    assert!(said.contains("(it has archive.zip)"), "{said}");
}

#[test]
fn content_that_is_packed_otherwise_is_named_with_the_way_out() {
    let tar = |name: &str| {
        let mut tar = name.as_bytes().to_vec();
        tar.resize(257, 0);
        [&tar[..], b"ustar\x0000", &[0; 249]].concat()
    };
    for (content, what, way) in [
        (b"PK\x03\x04 and so on".to_vec(), "zip", "unzip "),
        (b"BZh91AY&SY".to_vec(), "bzip2", "bunzip2 "),
        (b"\xfd7zXZ\0\0\x04".to_vec(), "xz", "unxz "),
        (b"\x28\xb5\x2f\xfd\x04".to_vec(), "zstd", "unzstd "),
        (tar("labels"), "tar", "tar xf "),
        (gzip(&tar("labels")), "tar archive in gzip", "tar xzf "),
        (gzip(&gzip(&labels(&[0, 1, 0]))), "gzip twice", "gunzip "),
        (
            b"\n<!DOCTYPE html><html>".to_vec(),
            "web page",
            "the file itself",
        ),
        (b"<html><body>404".to_vec(), "web page", "the file itself"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n".to_vec(),
            "Git LFS",
            "git lfs pull",
        ),
        (Vec::new(), "empty", "get the file again"),
    ] {
        for name in [
            "train-labels-idx1-ubyte",
            "train-labels-idx1-ubyte.gz",
            "train-labels-idx1-ubyte.xz",
        ] {
            let dir = small();
            fs::remove_file(dir.path().join("train-labels-idx1-ubyte")).unwrap();
            fs::write(dir.path().join(name), &content).unwrap();
            let said = message(dir.path());
            for part in [name, what, way] {
                assert!(said.contains(part), "no {part:?} in {said}");
            }
        }
    }
}

/// A browser unpacks what it downloads, and leaves the name as it was; others pack without a word.
#[test]
fn the_content_tells_whether_a_file_is_packed() {
    let dir = small();
    rename(dir.path(), |name| match name.strip_suffix(".gz") {
        Some(plain) => plain.to_owned(),
        None => format!("{name}.gz"),
    });
    assert_eq!(
        load(dir.path()).unwrap().splits,
        load(small().path()).unwrap().splits
    );
}

#[test]
fn padding_behind_gzip_is_taken_and_other_bytes_are_told() {
    let load_with = |behind: &[u8]| {
        let dir = small();
        let path = dir.path().join("train-images-idx3-ubyte.gz");
        fs::write(&path, [fs::read(&path).unwrap(), behind.into()].concat()).unwrap();
        load(dir.path()).map(|loaded| loaded.warnings)
    };
    let usual = load_with(b"").unwrap();
    assert_eq!(load_with(&[0; 4096]).unwrap(), usual);
    assert_eq!(load_with(&gzip(b"")).unwrap(), usual);
    let told = load_with(b"\r\n").unwrap();
    let line = "train-images-idx3-ubyte.gz: 2 bytes behind its gzip stream";
    assert!(
        told.iter().any(|warning| warning.starts_with(line)),
        "{told:?}"
    );
    assert!(load_with(&gzip(b"more")).is_err());
}

#[test]
fn classes_without_examples_are_told_and_one_class_only_is_refused() {
    let dir = small();
    let warnings = load(dir.path()).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "no example of class 2 in the training set: a model cannot learn what it does not see",
            "no example of classes 0, 1 in the test set: the accuracy says nothing about it",
        ]
    );
    fs::write(
        dir.path().join("train-labels-idx1-ubyte"),
        labels(&[1, 1, 1]),
    )
    .unwrap();
    let said = message(dir.path());
    assert!(
        said.contains("train-labels-idx1-ubyte: every example for training has the label 1"),
        "{said}"
    );
}
