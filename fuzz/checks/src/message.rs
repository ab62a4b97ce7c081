//! Messages and sections: each reader of `fl-proto` against other ways to read the same octets.
//!
//! The properties are those of fl-proto's own tests, from the same file.

use crate::Verdict;
use fl_proto::message::{self, HEAD_LEN, Kind, MODEL, Outgoing};
use fl_proto::{codec, json_form};
use oracle::Taken;

#[allow(dead_code, reason = "fl-proto's tests use the rest")]
#[path = "../../../crates/fl-proto/tests/wire/oracle.rs"]
mod oracle;

pub(crate) fn check(input: &[u8]) -> Verdict {
    let mut taken = Taken::default();
    oracle::check(input, &mut taken);
    match taken.octets + taken.messages + taken.json {
        0 => Verdict::Refused,
        _ => Verdict::Accepted,
    }
}

/// Seeds: messages of every kind, whole and damaged.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let start =
        br#"{"round":1,"token":"k7Qw2xA9","local_epochs":1,"batch_size":2,"learning_rate":0.5}"#;
    let results = br#"{"round":1,"token":"k7Qw2xA9","num_examples":3,"steps":2,"loss":0.5,"cost":{"train_us":1,"bytes_received":2,"bytes_sent":3}}"#;
    let evaluated = br#"{"round":3,"token":"m4Zt81bQ","num_evaluated":4,"loss":0.5,"personal_loss":0.25,"cost":{"train_us":1,"bytes_received":2,"bytes_sent":3}}"#;
    let numbers = [1.0, -0.25, 65504.0, 1e-8, f32::INFINITY, f32::NAN];
    let sections: Vec<_> = codec::ALL
        .iter()
        .zip([
            MODEL,
            "server_variate",
            "client_variate",
            "buckets",
            "sparse",
            "signs",
        ])
        .map(|(codec, name)| Outgoing {
            name,
            codec: *codec,
            plan: codec::Encoding::new(*codec).plan(&[4, 2], 7),
            numbers: &numbers,
        })
        .collect();
    let whole =
        |kind, control: &[u8]| message::encode(kind, control, &sections).expect("a message");
    let (down, up) = (whole(Kind::Start, start), whole(Kind::Results, results));
    let flipped = |at: usize| {
        let mut octets = down.clone();
        octets[at] ^= 0x80;
        octets
    };
    let json = json_form::encode_sections(&[(MODEL, &numbers[..4])]).expect("a section");
    let json = json_form::encode(results, &json).expect("a body");
    let deep = [&start[..start.len() - 1], b",\"params\":", &[b'['; 900][..]].concat();
    vec![
        ("torn-payload", down[..down.len() - 1].to_vec()),
        ("torn-head", down[..11].to_vec()),
        ("hostile-count", flipped(HEAD_LEN + start.len() + 23)),
        ("hostile-codec", flipped(HEAD_LEN + start.len() + 16)),
        ("hostile-control-length", flipped(9)),
        ("hostile-sections", flipped(6)),
        ("hostile-deep-json", deep),
        ("hostile-octets-behind", [&up[..], b"x"].concat()),
        ("valid-start", down),
        ("valid-results", up),
        ("valid-evaluated", evaluated.to_vec()),
        ("valid-control", start.to_vec()),
        ("valid-json-form", json),
    ]
}
