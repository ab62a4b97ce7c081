//! A seeded fuzzer: the document's examples, damaged in ways that bite parsers, given to every reader.
//!
//! `ZFL_FUZZ_SECONDS` (default 3) and `ZFL_FUZZ_SEED` (default 1) steer it. It runs on a small stack,
//! so that recursion on input shows, and keeps the input at hand in a file, so that an abort leaves it
//! behind too.

use crate::document::examples;
use crate::oracle::{self, Taken};
use fl_proto::codec::{F16, F32};
use fl_proto::json_form;
use fl_proto::message::{self, HEAD_LEN, Kind, Outgoing, SECTION_HEADER_LEN};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// About what a device gives its main thread; a debug build needs more of it than a device does.
const STACK_BYTES: usize = 256 << 10;
const MAX_INPUT_BYTES: usize = 1 << 16;

const DICTIONARY: [&[u8]; 24] = [
    b"[",
    b"{",
    b"]",
    b"}",
    b"\"",
    b"\\",
    b",",
    b":",
    b"null",
    b"true",
    b"{\"a\":",
    b"[[[[",
    b"\\u0041",
    b"-0",
    b"1e39",
    b"1e-46",
    b"0.1",
    b"4294967296",
    b"18446744073709551616",
    b"AAAA",
    b"==",
    b"\"round\":1,",
    b"\"sections\":{},",
    b"zflw\x02",
];

#[test]
fn fuzz() {
    let seconds = setting("ZFL_FUZZ_SECONDS", 3);
    let seed = setting("ZFL_FUZZ_SEED", 1);
    let input = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-input-{seed}"));
    println!(
        "fuzz: {seconds} s from seed {seed}, the input at hand is in {}",
        input.display()
    );
    let file = input.clone();
    let run = std::thread::Builder::new().stack_size(STACK_BYTES);
    let run = run
        .spawn(move || run_for(Duration::from_secs(seconds), seed, &file))
        .unwrap();
    let Ok((inputs, taken)) = run.join() else {
        panic!(
            "seed {seed}: the input that failed is in {}",
            input.display()
        );
    };
    println!("fuzz: {inputs} inputs, taken: {taken:?}");
    let reached = [
        taken.heads,
        taken.headers,
        taken.octets,
        taken.messages,
        taken.json,
    ];
    assert!(
        seconds == 0 || reached.iter().all(|n| *n > 0),
        "a reader took nothing: {taken:?}"
    );
    std::fs::remove_file(input).unwrap();
}

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|_| panic!("{name}={text}: expected a whole number"))
}

fn run_for(duration: Duration, seed: u64, path: &Path) -> (u64, Taken) {
    let corpus = corpus();
    let mut file = File::create(path).unwrap();
    let mut random = Random(seed);
    let mut taken = Taken::default();
    let (begun, mut inputs) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        let input = random.mutant(&corpus);
        keep(&mut file, &input).unwrap();
        oracle::check(&input, &mut taken);
        inputs += 1;
    }
    (inputs, taken)
}

/// The document's examples, and what it has no room for: fields from a later version, and parameters
/// enough for several pieces.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus: Vec<Vec<u8>> = examples().into_iter().map(|(_, bytes)| bytes).collect();
    corpus.push(br#"{"error":"x","later":[[1],[{"a":[null,"b"]}]]}"#.to_vec());
    corpus.push(br#"{"later":{"a":{"a":{"a":1}}},"error":"x"}"#.to_vec());
    let numbers: Vec<f32> = (0..257).map(|n| n as f32 / 8.0).collect();
    let section = |name, codec| Outgoing {
        name,
        codec,
        plan: fl_proto::codec::Plan::default(),
        numbers: &numbers,
    };
    let sections = [section("model", &F32), section("variate", &F16)];
    let control = br#"{"round":1}"#;
    corpus.push(message::encode(Kind::Results, control, &sections).unwrap());
    corpus.push(message::encode(Kind::Start, control, &[]).unwrap());
    let text = json_form::encode_sections(&[("model", &numbers), ("variate", &[])]).unwrap();
    corpus.push(json_form::encode(control, &text).unwrap());
    corpus
}

/// Makes `input` all that the file holds, faster than writing it anew.
fn keep(file: &mut File, input: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.write_all(input)?;
    file.set_len(input.len() as u64)
}

/// SplitMix64: Steele, Lea and Flood 2014.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0; the bias does not matter here.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Mostly few; now and then enough to exhaust a stack.
    fn times(&mut self) -> usize {
        if self.below(16) == 0 {
            1 << self.below(15)
        } else {
            1 + self.below(8)
        }
    }

    /// A position and a short length from there.
    fn range(&mut self, bytes: &[u8]) -> core::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        let len = self.below((bytes.len() - start).min(24) + 1);
        start..start + len
    }

    /// An example with a few things done to it.
    fn mutant(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(corpus).clone();
        for _ in 0..self.below(5) {
            self.mutate(&mut bytes, corpus);
            bytes.truncate(MAX_INPUT_BYTES);
        }
        match self.below(4) {
            0 => mend_length(&mut bytes),
            1 => mend_checksum(&mut bytes),
            2 => {
                mend_length(&mut bytes);
                mend_checksum(&mut bytes);
            }
            _ => {}
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let range = self.range(bytes);
        let at = range.start;
        match self.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = *self.pick(&[0, 1, 0x7f, 0x80, 0xff, b'0', b'9']),
            2 => drop(bytes.drain(range)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(range, self.pick(&DICTIONARY).iter().copied())),
            5 => drop(bytes.splice(at..at, self.pick(&DICTIONARY).iter().copied())),
            6 => {
                let times = self.times();
                let copy = bytes[range].repeat(times);
                drop(bytes.splice(at..at, copy));
            }
            7 => {
                let times = self.times();
                let copy = self.pick(&DICTIONARY).repeat(times);
                drop(bytes.splice(at..at, copy));
            }
            8 => {
                let colons: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i] == b':').collect();
                if let Some(colon) = (!colons.is_empty()).then(|| *self.pick(&colons)) {
                    let rest = &bytes[colon + 1..];
                    let len = rest
                        .iter()
                        .position(|b| b",}".contains(b))
                        .unwrap_or(rest.len());
                    let (value, times) = (*self.pick(&DICTIONARY), self.times());
                    drop(bytes.splice(colon + 1..colon + 1 + len, value.repeat(times)));
                }
            }
            _ => {
                let other = self.pick(corpus);
                let piece = self.range(other);
                drop(bytes.splice(range, other[piece].iter().copied()));
            }
        }
    }
}

/// The place of the first section, as the head has it.
fn first_section(bytes: &[u8]) -> Option<usize> {
    let len = bytes.starts_with(b"zflw").then(|| bytes.get(8..10))??;
    let at = HEAD_LEN + usize::from(u16::from_le_bytes([len[0], len[1]]));
    (at + SECTION_HEADER_LEN <= bytes.len()).then_some(at)
}

/// Makes the counts of a damaged message of one section fit its length again, so that later parts are
/// looked at.
fn mend_length(bytes: &mut Vec<u8>) {
    let Some(at) = first_section(bytes) else {
        return;
    };
    let unit = if bytes[at + 16] == 0 { 4 } else { 2 };
    let count = (bytes.len() - at - SECTION_HEADER_LEN) / unit;
    bytes.truncate(at + SECTION_HEADER_LEN + unit * count);
    bytes[6] = 1;
    bytes[at + 20..at + 24].copy_from_slice(&(count as u32).to_le_bytes());
    bytes[at + 24..at + 28].copy_from_slice(&((unit * count) as u32).to_le_bytes());
}

/// Makes the checksums of a damaged message of one section right again.
fn mend_checksum(bytes: &mut [u8]) {
    let Some(at) = first_section(bytes) else {
        return;
    };
    let crc = oracle::crc32(&[&bytes[..12], &bytes[HEAD_LEN..at]].concat());
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    let payload = &bytes[at + SECTION_HEADER_LEN..];
    let crc = oracle::crc32(&[&bytes[at..at + 28], payload].concat());
    bytes[at + 28..at + 32].copy_from_slice(&crc.to_le_bytes());
}
