//! Content that is no IDX file, known by its first octets, and the way out.

use crate::error::Problem;
use crate::source::directory::MAX_FILE_BYTES;
use crate::source::gzip::{MAGIC, Members};
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Octets from which a kind of content is told.
const HEAD: u64 = 512;

/// First octets, what they are of, and the way out; `NAME` stands for the file's name.
const KINDS: [(&[u8], &str, &str); 17] = [
    (b"PK\x03\x04", "a zip archive", "unpack it with: unzip NAME"),
    (b"BZh", "packed with bzip2", "unpack it with: bunzip2 NAME"),
    (b"\xfd7zXZ\0", "packed with xz", "unpack it with: unxz NAME"),
    (
        b"\x28\xb5\x2f\xfd",
        "packed with zstd",
        "unpack it with: unzstd NAME",
    ),
    (
        b"\x04\x22\x4d\x18",
        "packed with lz4",
        "unpack it with: unlz4 NAME",
    ),
    (b"LZIP", "packed with lzip", "unpack it with: lzip -d NAME"),
    (
        b"\x5d\0\0",
        "packed with lzma",
        "unpack it with: unlzma NAME",
    ),
    (
        b"\x1f\x9d",
        "packed with compress",
        "unpack it with: uncompress NAME",
    ),
    (
        b"7z\xbc\xaf\x27\x1c",
        "a 7-Zip archive",
        "unpack it with: 7z x NAME",
    ),
    (b"Rar!", "a rar archive", "unpack it with: unrar x NAME"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file",
        "fetch the file with: git lfs pull",
    ),
    (
        b"/annex/objects/",
        "a pointer of git-annex, not the file",
        "fetch the file with: git annex get NAME",
    ),
    (b"\x93NUMPY", "an array of NumPy", "write it as IDX"),
    (
        b"\x89HDF",
        "an HDF5 file",
        "write its images and labels as IDX",
    ),
    (
        b"PAR1",
        "a Parquet file",
        "write its images and labels as IDX",
    ),
    (
        b"\x89PNG",
        "a PNG picture",
        "write the images as one IDX file",
    ),
    (
        b"MATLAB",
        "a file of MATLAB",
        "write its images and labels as IDX",
    ),
];

/// Problem of a file that is none of the kind expected, if its content is of a kind that is known.
pub(crate) fn problem(path: &Path) -> Option<Problem> {
    let head = head_of(zfl_files::open(path, MAX_FILE_BYTES).ok()?);
    if !head.starts_with(&MAGIC) {
        return of(&head, false);
    }
    let content = head_of(Members::new(BufReader::new(
        zfl_files::open(path, MAX_FILE_BYTES).ok()?,
    )));
    if content.starts_with(&MAGIC) {
        let way = "unpack it once with: gunzip NAME";
        return Some(Problem::Packed {
            what: "packed with gzip twice",
            way,
        });
    }
    of(&content, true)
}

fn of(head: &[u8], in_gzip: bool) -> Option<Problem> {
    let packed = |what, way| Some(Problem::Packed { what, way });
    if head.is_empty() {
        return packed("empty", "get the file again");
    }
    if head.get(257..262) == Some(b"ustar") {
        return match in_gzip {
            true => packed("a tar archive in gzip", "unpack it with: tar xzf NAME"),
            false => packed("a tar archive", "unpack it with: tar xf NAME"),
        };
    }
    let text = head.trim_ascii_start();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let page = text.len() > 1
        && text[0] == b'<'
        && (text[1].is_ascii_alphabetic() || b"!?".contains(&text[1]));
    if page {
        return packed(
            "a web page, which a download left in the file's place",
            "get the file itself",
        );
    }
    if text.starts_with(b"{") {
        return packed(
            "JSON, which a download left in the file's place",
            "get the file itself",
        );
    }
    let (_, what, way) = KINDS
        .into_iter()
        .find(|(magic, ..)| head.starts_with(magic))?;
    packed(what, way)
}

/// The first octets of a stream, as far as it can be read.
fn head_of(stream: impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    let _: io::Result<usize> = stream.take(HEAD).read_to_end(&mut head);
    head
}
