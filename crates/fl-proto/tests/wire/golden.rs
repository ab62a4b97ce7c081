//! The document's examples are what both JSON libraries and the frames write and read.

use crate::document::{example, examples};
use fl_proto::frame::{self, Frame, HEADER_LEN, Header, Kind};
use fl_proto::*;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

const PARAMS: [f32; 2] = [1.0, -0.5];

/// `value` is written as the example `name`, and read back from it, by both JSON libraries.
#[track_caller]
fn check_message<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    let golden = String::from_utf8(example(name)).unwrap();
    assert_eq!(encode(value), golden, "serde-json-core writes");
    assert_eq!(
        serde_json::to_string(value).unwrap(),
        golden,
        "serde_json writes"
    );
    assert_eq!(
        json::decode::<T>(golden.as_bytes()).as_ref(),
        Some(value),
        "serde-json-core reads"
    );
    assert_eq!(
        &serde_json::from_str::<T>(&golden).unwrap(),
        value,
        "serde_json reads"
    );
}

fn encode<T: Serialize>(value: &T) -> String {
    let mut buffer = [0; MAX_CONTROL_BYTES];
    let n = json::encode(value, &mut buffer).expect("fits MAX_CONTROL_BYTES");
    String::from_utf8(buffer[..n].to_vec()).unwrap()
}

fn text<const N: usize>(s: &str) -> heapless::String<N> {
    s.try_into().unwrap()
}

fn start() -> Start {
    Start {
        round: 3,
        token: text("k7Qw2xA9"),
        local_epochs: 5,
        batch_size: 600,
        learning_rate: 0.1,
        arithmetic: Arithmetic::Fixed,
    }
}

fn results() -> Results {
    Results {
        round: 3,
        token: text("k7Qw2xA9"),
        num_examples: 1200,
        loss: 0.4375,
        cost: Cost {
            train_us: 1_836_211,
            bytes_received: 1_995_170,
            bytes_sent: 52_311,
            ..Cost::default()
        },
    }
}

fn ready() -> Ready {
    Ready {
        id: 7,
        state: DeviceState::Training,
        round: 3,
        done_examples: 2400,
        total_examples: 6000,
        error: None,
    }
}

fn header() -> Header {
    Header::new(Kind::Weights, 3, b"{}", &PARAMS).unwrap()
}

fn welcome() -> Welcome {
    Welcome {
        protocol: PROTOCOL_VERSION,
        id: 7,
        num_examples: 1200,
        layers: [784, 16, 10].into_iter().collect(),
        activation: Activation::Relu,
        seed: 42,
    }
}

#[test]
fn messages_are_as_documented() {
    check_message("welcome", &welcome());
    check_message("start", &start());
    check_message("ready", &ready());
    check_message(
        "ready-failed",
        &Ready {
            state: DeviceState::Failed,
            done_examples: 6000,
            error: Some(text("409: the round is over")),
            ..ready()
        },
    );
    check_message("results", &results());
    let cost = Cost {
        instructions: Some(5_200_113_042),
        heap_peak_bytes: Some(1_310_720),
        stack_peak_bytes: Some(9216),
        segments_sent: Some(214),
        segments_received: Some(1420),
        retransmissions: Some(2),
        ..results().cost
    };
    check_message("results-full-cost", &Results { cost, ..results() });
    check_message(
        "error",
        &ErrorReply::new("round 2 is over, this device was in round 3"),
    );
}

#[test]
fn enums_have_their_documented_names() {
    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, golden: &str) {
        assert_eq!(encode(&value), golden);
        assert_eq!(serde_json::to_string(&value).unwrap(), golden);
        assert_eq!(json::decode::<T>(golden.as_bytes()), Some(value));
    }
    check(Activation::Relu, r#""relu""#);
    check(Activation::Sigmoid, r#""sigmoid""#);
    check(Arithmetic::Fixed, r#""fixed""#);
    check(Arithmetic::Float, r#""float""#);
    check(DeviceState::Ready, r#""ready""#);
    check(DeviceState::Training, r#""training""#);
    check(DeviceState::Sending, r#""sending""#);
    check(DeviceState::Failed, r#""failed""#);
}

#[test]
fn frames_are_as_documented() {
    for (name, control) in [
        ("start-frame", encode(&start())),
        ("results-frame", encode(&results())),
    ] {
        let golden = example(name);
        let control = control.as_bytes();
        assert_eq!(
            frame::encode(Kind::Weights, 3, control, &PARAMS).unwrap(),
            golden,
            "{name}"
        );
        let frame = Frame::parse(&golden).unwrap();
        assert_eq!(
            frame.header,
            Header::new(Kind::Weights, 3, control, &PARAMS).unwrap()
        );
        assert_eq!(frame.control, control);
        assert!(frame.params().eq(PARAMS));
    }
}

#[test]
fn a_delta_differs_in_kind_and_checksum_only() {
    let weights = header();
    let delta = Header::new(Kind::Delta, 3, b"{}", &PARAMS).unwrap();
    let differ: Vec<usize> = (0..HEADER_LEN)
        .filter(|&i| weights.emit()[i] != delta.emit()[i])
        .collect();
    assert_eq!(differ, [6, 20, 21, 22, 23]);
    assert_eq!(delta.emit()[6], 1);
}

#[test]
fn the_compatible_form_is_as_documented() {
    let golden = example("start-compat");
    assert_eq!(
        compat::encode(encode(&start()).as_bytes(), &PARAMS).unwrap(),
        golden
    );
    let mut params = [0.0; 2];
    assert!(compat::decode_weights(&golden, &mut params));
    assert_eq!(params, PARAMS);
    assert_eq!(json::decode::<Start>(&golden), Some(start()));
    assert_eq!(serde_json::from_slice::<Start>(&golden).unwrap(), start());
}

#[test]
fn base64_padded_in_the_middle_is_refused() {
    // 1,024 characters are decoded at a time, and these end in padding. Both parts together give
    // the right number of bytes.
    let text = format!("{}AA==AAA=", "A".repeat(1020));
    let body = format!("{{\"weights\":\"{text}\"}}");
    assert!(!compat::decode_weights(body.as_bytes(), &mut [0.0; 192]));
}

#[test]
fn base64_of_the_right_length_but_too_few_bytes_is_refused() {
    // The length of 192 parameters in base64, and 767 bytes instead of 768.
    let body = format!("{{\"weights\":\"{}=\"}}", "A".repeat(1023));
    assert!(!compat::decode_weights(body.as_bytes(), &mut [0.0; 192]));
}

#[test]
fn the_longest_body_is_64_mib_and_a_header() {
    let header = Header {
        control_len: 1024,
        count: MAX_PARAMS,
        ..header()
    };
    assert_eq!(header.body_len(), 24 + 1024 + (64 << 20));
    assert_eq!(Header::parse(&header.emit()), Ok(header));
}

#[test]
fn every_example_of_the_document_is_checked() {
    let names: Vec<&str> = examples().into_iter().map(|(name, _)| name).collect();
    let checked = [
        "welcome",
        "start",
        "ready",
        "ready-failed",
        "results",
        "results-full-cost",
        "error",
        "start-frame",
        "results-frame",
        "start-compat",
    ];
    assert_eq!(names, checked);
}

#[test]
fn the_longest_messages_fit_the_bound() {
    let token: Token = text("0123456789abcdef");
    let welcome = Welcome {
        protocol: u32::MAX,
        id: u32::MAX,
        num_examples: u32::MAX,
        layers: [u32::MAX; MAX_LAYER_SIZES].into(),
        activation: Activation::Sigmoid,
        seed: u64::MAX,
    };
    let start = Start {
        round: u32::MAX,
        token: token.clone(),
        local_epochs: u32::MAX,
        batch_size: u32::MAX,
        learning_rate: -1.234_567_8e-38,
        arithmetic: Arithmetic::Fixed,
    };
    let ready = Ready {
        id: u32::MAX,
        state: DeviceState::Training,
        round: u32::MAX,
        done_examples: u32::MAX,
        total_examples: u32::MAX,
        // Six bytes each in JSON.
        error: Some(text(&"\u{1}".repeat(64))),
    };
    let cost = Cost {
        train_us: u64::MAX,
        instructions: Some(u64::MAX),
        heap_peak_bytes: Some(u32::MAX),
        stack_peak_bytes: Some(u32::MAX),
        bytes_received: u64::MAX,
        bytes_sent: u64::MAX,
        segments_sent: Some(u32::MAX),
        segments_received: Some(u32::MAX),
        retransmissions: Some(u32::MAX),
    };
    let results = Results {
        round: u32::MAX,
        token,
        num_examples: u32::MAX,
        loss: -1.234_567_8e-38,
        cost,
    };
    // `encode` panics where the bound is broken; the numbers show what room is left.
    let longest = [
        encode(&welcome).len(),
        encode(&start).len(),
        encode(&ready).len(),
        encode(&results).len(),
        encode(&ErrorReply::new("x".repeat(500))).len(),
    ];
    assert_eq!(longest, [226, 149, 505, 390, 172]);
}

/// What both sides must refuse, also where a parser by itself would have taken it.
#[test]
fn malformed_messages_are_refused_by_both() {
    let start = |field: &str, value: &str| {
        let fields = [
            ("round", "3"),
            ("token", r#""a""#),
            ("local_epochs", "5"),
            ("batch_size", "600"),
            ("learning_rate", "0.1"),
        ];
        let fields = fields.map(|(k, v)| format!("\"{k}\":{}", if k == field { value } else { v }));
        format!("{{{}}}", fields.join(","))
    };
    let good = start("", "");
    assert!(json::decode::<Start>(good.as_bytes()).is_some(), "{good}");
    assert!(serde_json::from_str::<Start>(&good).is_ok(), "{good}");
    let bad = [
        start("learning_rate", "null"),
        start("learning_rate", "1e39"),
        start("learning_rate", "1e999"),
        start("learning_rate", "-1e39"),
        start("learning_rate", "NaN"),
        start("learning_rate", "inf"),
        start("learning_rate", "\"0.1\""),
        start("learning_rate", "."),
        start("learning_rate", "-"),
        start("token", r#""""#),
        start("token", r#""a b""#),
        start("token", r#""0123456789abcdef0""#),
        start("token", "\"\u{e4}\""),
        start("token", "7"),
        start("round", "-1"),
        start("round", "4294967296"),
        start("round", "3.0"),
        start("round", "3e0"),
        start("round", "03"),
        start("round", "null"),
        start("round", "[3]"),
        start("round", "3,\"round\":3"),
        start("round", "3,\"arithmetic\":\"exact\""),
        start("round", "3,\"arithmetic\":null"),
        start("round", "3,\"arithmetic\":{\"fixed\":1}"),
        good.replace("\"round\":3,", ""),
        good.replace("\"round\"", "\"Round\""),
        format!("{good}x"),
        format!("{good}{good}"),
        format!("{good}\0"),
        format!("[{good}]"),
        good.replace('}', ",}"),
        good.replace('{', ""),
        good.replace('}', ""),
        String::new(),
        "null".into(),
        "{}".into(),
    ];
    for text in &bad {
        assert_eq!(
            json::decode::<Start>(text.as_bytes()),
            None,
            "serde-json-core took {text}"
        );
        assert!(
            serde_json::from_str::<Start>(text).is_err(),
            "serde_json took {text}"
        );
    }
}

#[test]
fn a_device_refuses_a_token_with_escapes() {
    let text = String::from_utf8(example("start"))
        .unwrap()
        .replace("k7Qw2xA9", "\\u0061");
    assert_eq!(serde_json::from_str::<Start>(&text).unwrap().token, "a");
    assert_eq!(json::decode::<Start>(text.as_bytes()), None);
}

#[test]
fn unknown_fields_and_white_space_are_ignored() {
    let text = " {\t\"strategy\" : {\"mu\":[0.01,null]},\r\n\"error\" : \"x\" } \n";
    let expected = ErrorReply::new("x");
    assert_eq!(
        json::decode::<ErrorReply>(text.as_bytes()),
        Some(expected.clone())
    );
    assert_eq!(serde_json::from_str::<ErrorReply>(text).unwrap(), expected);
}

/// Without the bound on brackets, each of these would take the stack of a device with it.
#[test]
fn nesting_is_refused_before_it_is_followed() {
    let deep = 1 << 20;
    for opening in ["[", "{\"a\":", "[\"]]\",", "a\",\"b\":["] {
        let text = format!("{{\"error\":\"x\",\"y\":{}", opening.repeat(deep));
        assert_eq!(json::decode::<ErrorReply>(text.as_bytes()), None);
        let text = format!("{{\"weights\":\"\",\"y\":{}", opening.repeat(deep));
        assert!(!compat::decode_weights(text.as_bytes(), &mut []));
    }
}

#[test]
fn error_replies_are_cut_and_need_no_escapes() {
    let reply = ErrorReply::new("a \"quoted\" \\ line\n".repeat(20));
    assert!(reply.error.starts_with("a 'quoted' ' line'a"));
    assert_eq!(reply.error.len(), 160);
    assert!(!encode(&reply).contains('\\'));
    // A character that does not fit whole is left out.
    assert_eq!(ErrorReply::new("\u{20ac}".repeat(100)).error.len(), 159);
}

#[test]
fn headers_are_refused_with_the_reason() {
    #[track_caller]
    fn check(at: usize, bytes: &[u8], expected: &str) {
        let mut head = header().emit();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Header::parse(&head).unwrap_err().to_string(), expected);
    }
    check(0, b"Z", "not a zfl frame: the magic bytes are missing");
    check(4, &[2], "frame version 2, this side speaks 1");
    check(
        5,
        &[1],
        "unknown parameter encoding 1, this side speaks 0 (f32)",
    );
    check(6, &[2], "unknown update kind 2");
    for at in [7, 10, 11] {
        check(at, &[1], "a reserved byte of the frame header is not 0");
    }
    check(
        8,
        &[1, 4],
        "control message of 1025 bytes, at most 1024 are taken",
    );
    check(
        16,
        &[1, 0, 0, 1],
        "16777217 parameters, at most 16777216 are taken",
    );
}

#[test]
fn frames_are_refused_with_the_reason() {
    let golden = example("start-frame");
    let reason = |bytes: &[u8]| Frame::parse(bytes).unwrap_err().to_string();
    assert_eq!(
        reason(&golden[..23]),
        "23 bytes are less than a header of 24"
    );
    let longer = [&golden[..], &[0]].concat();
    assert_eq!(
        reason(&longer),
        "a body of 138 bytes, its header asks for 137"
    );
    let mut damaged = golden;
    damaged[136] ^= 1;
    assert_eq!(
        reason(&damaged),
        "damaged on the way: CRC-32 49529414, its header says 3e55a482"
    );
}

#[test]
fn frames_beyond_the_bounds_are_not_written() {
    let long = [b' '; MAX_CONTROL_BYTES + 1];
    assert!(frame::encode(Kind::Weights, 1, &long[1..], &[]).is_ok());
    assert!(frame::encode(Kind::Weights, 1, &long, &[]).is_err());
    assert!(frame::encode(Kind::Weights, 1, &[b' '; 1 << 17], &[]).is_err());
    assert!(frame::encode(Kind::Weights, 1, b"{}", &vec![0.0; MAX_PARAMS as usize + 1]).is_err());
    assert_eq!(compat::encode(b"{}", &[]), None);
    assert_eq!(compat::encode(b"[]", &[]), None);
}
