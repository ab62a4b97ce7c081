//! Encodes and decodes 784-16-10 a number of times, for its instructions to be counted; docs/encodings.md has the result.
//!
//!     cargo build --release -p fl-proto --example encode
//!     valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/encode int8 up 10

use fl_proto::codec::{self, Decoder, Encoder, Encoding};
use fl_rng::Pcg32;
use std::env::args;
use std::process::ExitCode;

/// Lengths of the tensors.
const TENSORS: [u32; 4] = [784 * 16, 16, 16 * 10, 10];

/// Octets that are made or taken at once, as a device does.
const PIECE: usize = 1024;

fn main() -> ExitCode {
    let args: Vec<String> = args().skip(1).collect();
    let chosen = match &args[..] {
        [name, way, times] => codec::by_name(name).zip(times.parse().ok()).zip(Some(way)),
        _ => None,
    };
    let Some(((codec, times), way)) = chosen else {
        eprintln!("usage: encode CODEC up|down TIMES");
        return ExitCode::from(2);
    };
    let mut rng = Pcg32::on_stream(5, 5);
    let count = TENSORS.iter().sum::<u32>() as usize;
    let numbers: Vec<f32> = (0..count)
        .map(|_| rng.symmetric() * rng.symmetric() * 0.01)
        .collect();
    let octets = encoded(Encoding::new(codec), &numbers);
    for _ in 0..times {
        match way.as_str() {
            "up" => assert_eq!(encoded(Encoding::new(codec), &numbers).len(), octets.len()),
            _ => {
                let (mut arrived, mut decoder) = (vec![0.0; count], Decoder::new(codec));
                let mut pieces = octets.chunks(PIECE);
                assert!(pieces.all(|piece| decoder.push(piece, &mut arrived)));
            }
        }
    }
    ExitCode::SUCCESS
}

fn encoded(encoding: Encoding, numbers: &[f32]) -> Vec<u8> {
    let plan = encoding.plan(&TENSORS, 1);
    let (mut encoder, mut piece) = (Encoder::new(encoding.codec()), [0; PIECE]);
    let mut octets = Vec::new();
    loop {
        match encoder.fill(&plan, numbers, &mut piece) {
            0 => return octets,
            n => octets.extend_from_slice(&piece[..n]),
        }
    }
}
