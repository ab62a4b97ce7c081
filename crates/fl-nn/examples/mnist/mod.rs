//! The MNIST files that lie beside the workspace, for the examples only (the product reads them by fl-data).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

/// Octets of one image.
pub const PIXELS: usize = 784;

/// Images row-major `[n, 784]`, and one label each.
pub struct Set {
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

/// The 60,000 training examples.
pub fn train() -> Set {
    load("train")
}

/// The 10,000 test examples.
#[allow(dead_code, reason = "not every example evaluates")]
pub fn test() -> Set {
    load("t10k")
}

fn load(name: &str) -> Set {
    Set {
        images: read(&format!("{name}-images-idx3-ubyte.gz"), 16),
        labels: read(&format!("{name}-labels-idx1-ubyte.gz"), 8),
    }
}

/// The octets behind the IDX header.
fn read(name: &str, header: usize) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../data/mnist")
        .join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut octets = Vec::new();
    GzDecoder::new(file)
        .read_to_end(&mut octets)
        .expect("a gzip file");
    octets.split_off(header)
}
