//! Data files in the IDX format, plain or gzipped, as images and as labels.

use crate::{Verdict, folder};
use std::path::Path;

/// Two images of 2 x 2 pixels.
pub(crate) const IMAGES: &[u8] = &[
    0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 1, 2, 3, 252, 253, 254, 255,
];
/// Two labels.
pub(crate) const LABELS: &[u8] = &[0, 0, 8, 1, 0, 0, 0, 2, 7, 0];

pub(crate) fn check(input: &[u8]) -> Verdict {
    // Streams have the name that they mostly have; the content tells.
    let ending = if input.starts_with(&[0x1f, 0x8b]) {
        ".gz"
    } else {
        ""
    };
    let images = format!("train-images-idx3-ubyte{ending}");
    let labels = format!("train-labels-idx1-ubyte{ending}");
    let test = [
        ("t10k-images-idx3-ubyte", IMAGES),
        ("t10k-labels-idx1-ubyte", LABELS),
    ];
    let as_images = [(&*images, input), ("train-labels-idx1-ubyte", LABELS)];
    let as_labels = [("train-images-idx3-ubyte", IMAGES), (&*labels, input)];
    let verdicts = [as_images, as_labels].map(|train| {
        let folder = folder(train.into_iter().chain(test));
        load(folder.path())
    });
    match verdicts.contains(&Verdict::Accepted) {
        true => Verdict::Accepted,
        false => Verdict::Refused,
    }
}

fn load(folder: &Path) -> Verdict {
    let loaded = fl_data::load(folder).map(|loaded| loaded.splits);
    if let Ok(data) = &loaded {
        for half in [&data.train, &data.test] {
            assert_eq!(half.inputs.len(), half.len() * half.num_inputs);
            assert_eq!(half.labels.len(), half.len());
            let in_range = |label: &u8| usize::from(*label) < half.num_classes;
            assert!(half.labels.iter().all(in_range));
        }
    }
    Verdict::of(&loaded)
}
