//! The data set that is built in: handwritten digits of 8 x 8 pixels. `data/digits/README.md` tells where they
//! are from.

use crate::source::directory::{Content, Loaded, assemble};
use crate::{DataError, source::names::Role};
use std::path::Path;

/// The files: images and labels for training, then for testing, packed with gzip.
pub const DIGITS: [&[u8]; 4] = [
    include_bytes!("../../../../data/digits/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../../data/digits/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../../data/digits/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../../data/digits/t10k-labels-idx1-ubyte.gz"),
];

/// Loads the digits that are built in.
///
/// # Errors
/// None, unless the program was built from files that are none.
pub fn digits() -> Result<Loaded, DataError> {
    assemble(Path::new("(built in)"), |role| {
        let at = Role::ALL.iter().position(|each| *each == role);
        let file = at.map_or(&[][..], |at| DIGITS[at]);
        Content::read(file, role).map(|content| content.idx)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_that_are_built_in_are_those_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/digits");
        let (built_in, folder) = (digits().unwrap(), crate::load(&folder).unwrap());
        assert_eq!(built_in.splits, folder.splits);
        assert_eq!((built_in.warnings, folder.warnings), (vec![], vec![]));
        let data = built_in.splits;
        assert_eq!((data.train.len(), data.test.len()), (1438, 359));
        assert_eq!((data.train.num_inputs, data.train.num_classes), (64, 10));
        assert_eq!(data.train.inputs.iter().max(), Some(&255));
    }
}
