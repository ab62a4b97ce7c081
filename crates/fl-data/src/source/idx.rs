//! The IDX format: `00 00 type dims`, then one big-endian u32 per dimension, then the elements.
//!
//! Only octets (type 8) in one or more dimensions are read; the first dimension counts examples.

use crate::error::Problem;
use std::io::{self, Read};

/// IDX's code for unsigned octets.
const TYPE_U8: u8 = 0x08;

/// An IDX file in memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Idx {
    /// Number of examples.
    pub count: usize,
    /// Octets of one example: the product of the other dimensions.
    pub width: usize,
    /// `[count, width]`.
    pub elements: Vec<u8>,
}

/// Reads an IDX file of `rank` dimensions, all of it, and nothing past `max_bytes`.
pub(crate) fn read(reader: impl Read, rank: usize, max_bytes: u64) -> Result<Idx, Problem> {
    let mut reader = reader;
    let header_len = 4 + 4 * rank as u64;
    let (header, _) = read_up_to(&mut reader, header_len)?;
    let found = header.len() as u64;
    if found < header_len {
        return Err(Problem::Truncated {
            expected: header_len,
            found,
        });
    }
    let (dims, total) = parse_header(&header, rank, max_bytes)?;
    // One byte more than announced, to see a file that is too long, and to reach the end of a gzip
    // stream, where its own checksum stands.
    let (elements, cut) = read_up_to(&mut reader, total - header_len + 1)?;
    let found = header_len + elements.len() as u64;
    match cut {
        _ if found < total => Err(Problem::Truncated {
            expected: total,
            found,
        }),
        _ if found > total => Err(Problem::TooLong { expected: total }),
        Some(error) => Err(Problem::Io(error)),
        None => {
            let count = dims.first().map_or(0, |&dim| dim as usize);
            let width = dims.iter().skip(1).map(|&dim| dim as usize).product();
            Ok(Idx {
                count,
                width,
                elements,
            })
        }
    }
}

/// The dimensions, and the bytes of the whole file as they announce it.
fn parse_header(header: &[u8], rank: usize, max_bytes: u64) -> Result<(Vec<u32>, u64), Problem> {
    let format = |what: String| Err(Problem::Format(what));
    match header {
        [0, 0, TYPE_U8, dims, ..] if usize::from(*dims) == rank => {}
        [0, 0, TYPE_U8, dims, ..] => {
            let kind = match dims {
                1 => " (labels have 1)",
                3 => " (images have 3)",
                _ => "",
            };
            return format(format!(
                "an IDX file of {dims} dimensions where {rank} are expected{kind}"
            ));
        }
        [0, 0, code, ..] => {
            return format(format!(
                "IDX element type {code:#04x}, only octets (0x08) are read"
            ));
        }
        _ => return format("not an IDX file: the first two bytes are not 0".into()),
    }
    let (words, _) = header[4..].as_chunks::<4>();
    let dims: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    let product = dims
        .iter()
        .try_fold(1_u64, |n, &dim| n.checked_mul(u64::from(dim)));
    let total = product.and_then(|n| n.checked_add(header.len() as u64));
    match total {
        Some(total) if total <= max_bytes => Ok((dims, total)),
        _ => format(format!(
            "its header announces {dims:?} octets, at most {max_bytes} are read"
        )),
    }
}

/// Up to `limit` bytes, and the error of a gzip stream that stops early; what is missing tells that
/// better than the error does. Memory grows with what really arrives.
fn read_up_to(reader: &mut impl Read, limit: u64) -> Result<(Vec<u8>, Option<io::Error>), Problem> {
    let mut bytes = Vec::new();
    match reader.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok((bytes, None)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok((bytes, Some(error))),
        Err(error) => Err(Problem::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LABELS: [u8; 11] = [0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9];

    fn text(bytes: &[u8], rank: usize) -> String {
        read(bytes, rank, 1000).unwrap_err().to_string()
    }

    #[test]
    fn labels_and_images_are_read() {
        let labels = read(&LABELS[..], 1, 1000).unwrap();
        assert_eq!(
            labels,
            Idx {
                count: 3,
                width: 1,
                elements: vec![7, 8, 9]
            }
        );
        let images = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4];
        let images = read(&images[..], 3, 1000).unwrap();
        assert_eq!(
            images,
            Idx {
                count: 2,
                width: 2,
                elements: vec![1, 2, 3, 4]
            }
        );
    }

    #[test]
    fn every_shorter_file_is_truncated_and_a_longer_one_too_long() {
        for len in 0..LABELS.len() {
            let problem = read(&LABELS[..len], 1, 1000).unwrap_err();
            assert!(matches!(problem, Problem::Truncated { found, .. } if found == len as u64));
        }
        let longer = [&LABELS[..], &[0]].concat();
        assert!(matches!(
            read(&longer[..], 1, 1000),
            Err(Problem::TooLong { expected: 11 })
        ));
    }

    #[test]
    fn what_is_not_such_an_idx_file_is_refused() {
        assert!(text(b"PK\x03\x04and more bytes", 1).contains("not an IDX file"));
        assert!(text(&[0, 0, 0x0d, 1, 0, 0, 0, 1], 1).contains("0x0d"));
        assert!(
            text(&LABELS, 3).contains("truncated"),
            "the header alone is longer"
        );
        assert!(text(&[0, 0, 8, 3, 0, 0, 0, 1], 1).contains("3 dimensions where 1"));
    }

    #[test]
    fn a_header_that_announces_too_much_takes_no_memory() {
        let mut huge = vec![0, 0, 8, 3];
        huge.extend([0xff; 12]);
        assert!(text(&huge, 3).contains("at most 1000"));
        assert!(text(&[0, 0, 8, 1, 0, 0, 0x10, 0], 1).contains("at most 1000"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), rank in 1_usize..4) {
            if let Ok(idx) = read(&bytes[..], rank, 48) {
                prop_assert_eq!(idx.count * idx.width, idx.elements.len());
            }
        }

        #[test]
        fn no_header_makes_it_panic(dims in prop::array::uniform3(any::<u32>()), tail in 0_usize..40) {
            let mut bytes = vec![0, 0, 8, 3];
            bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
            bytes.resize(16 + tail, 1);
            if let Ok(idx) = read(&bytes[..], 3, 48) {
                prop_assert_eq!(idx.count * idx.width, idx.elements.len());
            }
        }
    }
}
