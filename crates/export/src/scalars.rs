//! Numbers of each round as the events that TensorBoard reads.
//!
//! A file is a row of records: length, masked CRC-32C of the length, an `Event` in protocol buffers, masked CRC-32C
//! of it. <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>,
//! `summary.proto` beside it, and <https://www.tensorflow.org/tutorials/load_data/tfrecord>.

use crc::{CRC_32_ISCSI, Crc};
use zfl_run_dir::RoundRecord;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// First event of a file.
const VERSION: &str = "brain.Event:2";

/// A scalar of a round, if it is known.
type Scalar = (&'static str, fn(&RoundRecord) -> Option<f64>);

/// Scalars by tag; bytes are of the round.
const SCALARS: [Scalar; 16] = [
    ("test/accuracy", |row| row.test_accuracy),
    ("test/loss", |row| row.test_loss),
    ("train/loss", |row| row.train_loss),
    ("train/learning_rate", |row| row.learning_rate),
    ("devices/accuracy_mean", |row| row.device_accuracy_mean),
    ("devices/accuracy_worst_decile", |row| {
        row.device_accuracy_worst_decile
    }),
    ("devices/accuracy_deviation", |row| {
        row.device_accuracy_deviation
    }),
    ("devices/loss", |row| row.device_loss),
    ("devices/personal_accuracy_mean", |row| {
        row.personal_accuracy_mean
    }),
    ("bytes/up", |row| Some(row.bytes_up as f64)),
    ("bytes/down", |row| Some(row.bytes_down as f64)),
    ("time/round_s", |row| Some(row.round_s)),
    ("time/simulated_s", |row| row.simulated_s),
    ("time/simulated_elapsed_s", |row| row.simulated_elapsed_s),
    ("round/updates", |row| Some(f64::from(row.results))),
    ("round/failures", |row| Some(f64::from(row.failures))),
];

/// The file of these rounds; wall times count from `began_s`.
pub(crate) fn events<'a>(rounds: impl Iterator<Item = &'a RoundRecord>, began_s: f64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut first = wall_time(began_s);
    bytes_field(3, VERSION.as_bytes(), &mut first);
    record(&first, &mut file);
    for row in rounds {
        let known = SCALARS
            .iter()
            .filter_map(|(tag, of)| Some(((*tag).to_owned(), of(row)?)));
        let told = row.metrics.iter();
        let told = told.map(|(name, value)| (format!("algorithm/{name}"), *value));
        let mut summary = Vec::new();
        for (tag, value) in known.chain(told) {
            let mut scalar = Vec::new();
            bytes_field(1, tag.as_bytes(), &mut scalar);
            // Field 2, `simple_value`, of four octets.
            scalar.push(2 << 3 | 5);
            scalar.extend((value as f32).to_le_bytes());
            bytes_field(1, &scalar, &mut summary);
        }
        let mut event = wall_time(began_s + row.elapsed_s);
        // Field 2, `step`, a varint.
        event.push(2 << 3);
        varint(u64::from(row.round), &mut event);
        bytes_field(5, &summary, &mut event);
        record(&event, &mut file);
    }
    file
}

/// Beginning of an event: field 1, `wall_time`, of eight octets.
fn wall_time(seconds: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(seconds.to_le_bytes());
    event
}

fn bytes_field(number: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    varint(bytes.len() as u64, to);
    to.extend(bytes);
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn record(event: &[u8], to: &mut Vec<u8>) {
    let length = (event.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(masked(&length).to_le_bytes());
    to.extend(event);
    to.extend(masked(event).to_le_bytes());
}

/// CRC-32C, rotated and moved on so that a checksum of checksums is none.
fn masked(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C bit by bit.
    fn crc32c(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        let octet = |crc: u32, octet: &u8| (0..8).fold(crc ^ u32::from(*octet), step);
        !bytes.iter().fold(u32::MAX, octet)
    }

    /// The events of a file, once their checksums are found right.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut found = Vec::new();
        let check = |bytes: &[u8], sum: &[u8]| {
            let sum = u32::from_le_bytes(sum.try_into().unwrap());
            let crc = sum.wrapping_sub(0xa282_ead8).rotate_left(15);
            assert_eq!(crc, crc32c(bytes));
        };
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
            check(&file[..8], &file[8..12]);
            let event = &file[12..12 + length];
            check(event, &file[12 + length..16 + length]);
            found.push(event);
            file = &file[16 + length..];
        }
        found
    }

    #[test]
    fn records_have_their_checksums_and_rounds_their_scalars() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let round = |round, test_accuracy| RoundRecord {
            round,
            test_accuracy,
            metrics: [("drift".to_owned(), 1.0)].into(),
            ..RoundRecord::default()
        };
        let rounds = [round(0, None), round(300, Some(0.5))];
        let file = events(rounds.iter(), 1e9);
        assert_eq!(file, events(rounds.iter(), 1e9));
        let found = records(&file);
        assert_eq!(found.len(), 3);
        assert!(found[0].ends_with(VERSION.as_bytes()));
        let has = |event: &[u8], text: &[u8]| event.windows(text.len()).any(|at| at == text);
        assert!(!has(found[1], b"test/accuracy") && has(found[1], b"algorithm/drift"));
        let scalar = [b"test/accuracy".as_slice(), &[0x15], &0.5f32.to_le_bytes()].concat();
        assert!(has(found[2], &scalar) && has(found[2], &[0x10, 0xac, 0x02]));
    }
}
