//! Catalogue of the data sets that zfl knows by name: what they are, whose they are, and the checksums of those that are
//! fetched.

/// A data set with a name.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name: `--data NAME`, in files `zfl:NAME`.
    pub name: &'static str,
    /// Its examples, in a line.
    pub about: &'static str,
    /// Examples for training and for testing.
    pub examples: &'static str,
    /// Octets of an example, and classes.
    pub shape: &'static str,
    /// Licence, and who has the rights.
    pub licence: &'static str,
    /// Bytes that are fetched; 0 if nothing is.
    pub fetched_bytes: u64,
    /// Address from which it can be had by hand.
    pub address: &'static str,
    /// Names and SHA-256 of the files that are fetched.
    pub files: &'static [(&'static str, &'static str)],
}

/// All of them.
pub static SETS: [Set; 5] = [
    Set {
        name: "digits",
        about: "handwritten digits of 8 x 8 pixels, built in",
        examples: "1438 + 359",
        shape: "64, 10 classes",
        licence: "CC BY 4.0, E. Alpaydin and C. Kaynak, UCI",
        fetched_bytes: 0,
        address: "",
        files: &[],
    },
    Set {
        name: "mnist",
        about: "handwritten digits of 28 x 28 pixels; in data/mnist of the tree, and the default there",
        examples: "60000 + 10000",
        shape: "784, 10 classes",
        licence: "CC BY-SA 3.0, Y. LeCun, C. Cortes, C. Burges",
        fetched_bytes: 0,
        address: "",
        files: &[],
    },
    Set {
        name: "fashion-mnist",
        about: "clothes of 28 x 28 pixels",
        examples: "60000 + 10000",
        shape: "784, 10 classes",
        licence: "MIT (Expat), Zalando SE",
        fetched_bytes: 30_878_551,
        address: "https://github.com/zalandoresearch/fashion-mnist (data/fashion)",
        files: &[
            (
                "train-images-idx3-ubyte.gz",
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
            ),
        ],
    },
    Set {
        name: "watch",
        about: "seven exercises of the shoulder, by a watch on the arm of ten subjects; natural clients",
        examples: "3691 + 770",
        shape: "60, 7 classes",
        licence: "BSD 3-Clause, D. M. Burns (seglearn 1.2.5)",
        fetched_bytes: 11_320_941,
        address: "https://github.com/dmbee/seglearn (seglearn/data/watch_dataset.npy)",
        files: &[("watch_dataset.npy", WATCH)],
    },
    Set {
        name: "synthetic_A_B",
        about: "30 devices that differ by A in their models and by B in their inputs, generated, such as \
                synthetic_1_1; or synthetic_iid; natural clients",
        examples: "by A and B",
        shape: "120, 10 classes",
        licence: "none needed; the recipe is that of Li et al. 2020 (FedProx)",
        fetched_bytes: 0,
        address: "",
        files: &[],
    },
];

/// SHA-256 of the recordings as seglearn ships them.
const WATCH: &str = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537";

/// The set of this name, if it is one of a folder: of a tree, or fetched.
pub fn set(name: &str) -> Option<&'static Set> {
    let built_in = ["digits", "synthetic_A_B"].contains(&name);
    let mut sets = SETS.iter().filter(|_| !built_in);
    sets.find(|set| set.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_says_whose_it_is_and_what_is_fetched_is_held_to_a_checksum() {
        for set in &SETS {
            assert!(
                set.licence.len() > 10 && set.about.len() > 10,
                "{}",
                set.name
            );
            assert_eq!(set.fetched_bytes > 0, !set.files.is_empty(), "{}", set.name);
            assert_eq!(set.address.is_empty(), set.files.is_empty(), "{}", set.name);
            assert!(
                set.files.iter().all(|(_, sum)| sum.len() == 64),
                "{}",
                set.name
            );
        }
        assert!(set("fashion-mnist").is_some() && set("digits").is_none());
    }
}
