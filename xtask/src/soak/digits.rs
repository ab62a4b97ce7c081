//! A data set so small that a run over the slowest link takes seconds: blots of eight by eight pixels.

use std::fs;
use std::io;
use std::path::Path;

/// Pixels on each side of an image.
const SIDE: u32 = 8;

/// Images for training, and for the test.
const IMAGES: [(&str, u32); 2] = [("train", 600), ("t10k", 200)];

/// Writes the four files of a data set, as MNIST has them.
///
/// # Errors
/// If the folder cannot be written.
pub fn write(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut state = 1_u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    for (part, count) in IMAGES {
        let (mut images, mut labels) = (head(3, &[count, SIDE, SIDE]), head(1, &[count]));
        for at in 0..count {
            let label = at % 10;
            labels.push(label as u8);
            // Each class has pixels of its own that are light; some of every image are noise.
            images.extend((0..SIDE * SIDE).map(|pixel| {
                let light = (pixel * 7 + label * 3) % 10 < 3;
                (random() % 90 + if light { 160 } else { 0 }) as u8
            }));
        }
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images)?;
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels)?;
    }
    Ok(())
}

/// The head of an IDX file of octets with these dimensions.
fn head(kind: u8, sizes: &[u32]) -> Vec<u8> {
    let mut head = vec![0, 0, 8, kind];
    head.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    head
}
