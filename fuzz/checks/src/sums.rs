//! Sums of a cluster: whatever is read of them is written back the same, and takes no more memory than octets came.

use crate::Verdict;
use fl_algo::ExactSum;
use fl_proto::cluster::{PartialResults, Sum, SumCodec, encode_sums, parse_sums};
use fl_proto::message::{MODEL, section_name};

pub(crate) fn check(input: &[u8]) -> Verdict {
    let Ok((control, sums)) = parse_sums(input) else {
        return Verdict::Refused;
    };
    assert_eq!(encode_sums(control, &sums).as_deref(), Ok(input));
    let mut verdict = match serde_json::from_slice::<PartialResults>(control) {
        Ok(_) => Verdict::Accepted,
        Err(_) => Verdict::Refused,
    };
    for sum in sums {
        let len = sum.count as usize;
        match ExactSum::unpack(sum.payload, len) {
            Some(read) => {
                assert_eq!(read.len(), len);
                // Blocks of 64, at two octets each.
                assert!(len <= 32 * sum.payload.len());
                let _ = read.divided(3);
            }
            None if sum.codec == SumCodec::Exact => verdict = Verdict::Refused,
            None => {}
        }
    }
    verdict
}

/// Seeds: sums of a small and of a huge model, whole and damaged.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let control = br#"{"round":1,"token":"k7Qw2xA9","weight":"3","counted":[],"failed":{"4":"crashed"},"cluster":{"states":"rrasl","lost":{"4":"crashed"}},"bytes":{"0":[1,2]},"work":{"9":{"add_us":120,"held":1120}}}"#;
    let mut exact = ExactSum::new(70);
    let numbers: Vec<f32> = (0..70).map(|at| (at as f32 - 9.0) / 7.0).collect();
    exact.add(3, &numbers).expect("finite");
    let mut huge = ExactSum::new(2);
    huge.add(1 << 40, &[f32::MAX, f32::from_bits(1)])
        .expect("finite");
    let whole = |sum: &ExactSum, count: u32| {
        let mut payload = Vec::new();
        sum.pack(&mut payload);
        let sum = Sum {
            name: section_name(MODEL).expect("a name"),
            codec: SumCodec::Exact,
            count,
            payload: &payload,
        };
        encode_sums(control, &[sum]).expect("short")
    };
    let (small, large) = (whole(&exact, 70), whole(&huge, 2));
    let mut flipped = small.clone();
    flipped[40] ^= 1;
    vec![
        ("torn", small[..small.len() - 1].to_vec()),
        ("hostile-count", whole(&exact, u32::MAX)),
        ("hostile-checksum", flipped),
        ("valid-sums", small),
        ("valid-huge-numbers", large),
    ]
}
