//! Encodings against octets that NumPy made from the papers and the wire format: `numpy/encodings.py`, which says how
//! to make them again.

use fl_proto::codec::{self, Encoder, Encoding};
use serde_json::Value;
use std::collections::BTreeSet;

fn vectors() -> Value {
    serde_json::from_str(include_str!("numpy/encodings.json")).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn every_encoding_writes_the_octets_that_numpy_writes() {
    let vectors = vectors();
    let numbers = list(&vectors["numbers"]).iter();
    let numbers: Vec<f32> = numbers.map(|it| it.as_f64().unwrap() as f32).collect();
    let tensors = list(&vectors["tensors"]).iter();
    let tensors: Vec<u32> = tensors.map(|it| it.as_u64().unwrap() as u32).collect();
    let mut tried = BTreeSet::new();
    for case in list(&vectors["cases"]) {
        let name = case["codec"].as_str().unwrap();
        let mut encoding = Encoding::new(codec::by_name(name).unwrap());
        for (param, value) in case["params"].as_object().unwrap() {
            encoding.set(param, value.as_f64().unwrap()).unwrap();
        }
        let plan = encoding.plan(&tensors, vectors["seed"].as_u64().unwrap());
        let mut octets = vec![0; 4096];
        let count = Encoder::new(encoding.codec()).fill(&plan, &numbers, &mut octets);
        let found = octets[..count].iter().map(|octet| format!("{octet:02x}"));
        assert_eq!(found.collect::<String>(), case["octets"], "{encoding:?}");
        tried.insert(name);
    }
    let all = codec::ALL.iter().map(|codec| codec.name());
    assert_eq!(tried, all.collect(), "every codec has a case");
}
