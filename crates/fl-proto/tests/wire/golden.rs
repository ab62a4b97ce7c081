//! The document's examples are what both JSON libraries and the messages write and read.

use crate::document::{example, examples};
use fl_proto::codec::{self, Codec, F16, F32, Plan};
use fl_proto::message::{self, HEAD_LEN, Head, Kind, MODEL, Message, Outgoing, SectionHeader};
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
        rule: text("fedprox"),
        params: named("proximal_mu", 0.01),
        state_round: 0,
        encoding_up: text("f16"),
        encoding_args: Params::new(),
        optimizer: None,
        privacy: None,
        evaluate: false,
    }
}

/// An open object of one number.
fn named(name: &str, number: f32) -> Params {
    let mut params = Params::new();
    assert!(params.set(name, number));
    params
}

fn results() -> Results {
    Results {
        round: 3,
        token: text("k7Qw2xA9"),
        num_examples: 1200,
        steps: 10,
        loss: 0.4375,
        metrics: Metrics::new(),
        cost: Cost {
            train_us: 1_836_211,
            bytes_received: 1_995_170,
            bytes_sent: 52_311,
            ..Cost::default()
        },
    }
}

fn evaluated() -> Evaluated {
    Evaluated {
        round: 3,
        token: text("m4Zt81bQ"),
        num_evaluated: 240,
        loss: 0.5,
        personal_loss: Some(0.25),
        cost: Cost {
            train_us: 70_211,
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

fn model(codec: &'static dyn Codec) -> Outgoing<'static> {
    Outgoing {
        name: MODEL,
        codec,
        plan: fl_proto::codec::Plan::default(),
        numbers: &PARAMS,
    }
}

fn welcome() -> Welcome {
    Welcome {
        protocol: PROTOCOL_VERSION,
        id: 7,
        num_examples: 1200,
        layers: [784, 16, 10].into_iter().collect(),
        activation: Activation::Relu,
        seed: 42,
        rule: text("fedprox"),
        params: named("proximal_mu", 0.01),
        encoding_up: text("f16"),
        encoding_down: text("f32"),
        encoding_args: fl_proto::Params::new(),
        holdout: 0,
    }
}

#[test]
fn messages_are_as_documented() {
    check_message("welcome", &welcome());
    check_message("start", &start());
    check_message("ready", &ready());
    check_message("evaluated", &evaluated());
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
    let metrics = named("drift", 0.125);
    check_message(
        "results-full",
        &Results {
            cost,
            metrics,
            ..results()
        },
    );
    check_message("kept-state", &KeptState { round: 2 });
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
    check(Arithmetic::Integer, r#""integer""#);
    check(DeviceState::Ready, r#""ready""#);
    check(DeviceState::Training, r#""training""#);
    check(DeviceState::Sending, r#""sending""#);
    check(DeviceState::Failed, r#""failed""#);
}

#[test]
fn messages_in_octets_are_as_documented() {
    let variate = Outgoing {
        name: "client_variate",
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers: &[0.25, -2.0],
    };
    for (name, kind, control, section) in [
        ("start-message", Kind::Start, encode(&start()), model(&F32)),
        (
            "results-message",
            Kind::Results,
            encode(&results()),
            model(&F16),
        ),
        (
            "kept-state-message",
            Kind::Start,
            encode(&KeptState { round: 2 }),
            variate,
        ),
    ] {
        let golden = example(name);
        let control = control.as_bytes();
        let body = message::encode(kind, control, &[section]).unwrap();
        assert_eq!(body, golden, "{name}");
        let message = Message::parse(&golden).unwrap();
        assert_eq!((message.kind, message.control), (kind, control));
        let found = message.section(section.name).unwrap();
        assert_eq!(found.header.codec, section.codec);
        assert_eq!(found.numbers().unwrap(), section.numbers);
    }
}

#[test]
fn the_json_form_is_as_documented() {
    let control = [encode(&start()), encode(&results())];
    for (name, control) in ["start-json", "results-json"].into_iter().zip(control) {
        let golden = example(name);
        let sections = json_form::encode_sections(&[(MODEL, &PARAMS)]).unwrap();
        let body = json_form::encode(control.as_bytes(), &sections).unwrap();
        assert_eq!(body, golden, "{name}");
        let decoded = json_form::decode(&golden).unwrap();
        assert_eq!(decoded, [(MODEL.to_owned(), PARAMS.to_vec())]);
    }
    let golden = example("start-json");
    assert_eq!(json::decode::<Start>(&golden), Some(start()));
    assert_eq!(serde_json::from_slice::<Start>(&golden).unwrap(), start());
}

#[test]
fn base64_that_is_none_is_refused() {
    let body = |text: &str| format!("{{\"sections\":{{\"model\":\"{text}\"}}}}");
    assert!(json_form::decode(body("AAAAAA==").as_bytes()).is_some());
    for text in [
        "AAAAA===",
        "AAAA",
        "AAAAAA",
        "AAAAAA=\\u003d",
        "AA AAAA==",
        "?AAAAA==",
    ] {
        assert_eq!(json_form::decode(body(text).as_bytes()), None, "{text}");
    }
    for sections in [
        r#"{"model":"","model":""}"#,
        r#"{"Model":""}"#,
        r#"["model"]"#,
        r#"{"model":null}"#,
    ] {
        let body = format!("{{\"sections\":{sections}}}");
        assert_eq!(json_form::decode(body.as_bytes()), None, "{sections}");
    }
}

#[test]
fn lengths_are_told_in_one_place() {
    let fixed = 16 + 1024 + 32 + 256;
    let longest = wire_len::longest_body([u64::from(MAX_PARAMS)]);
    assert_eq!(longest, fixed + (64 << 20));
    let body = example("results-message");
    let control = encode(&results()).len();
    let len = wire_len::body(control, [F16.octets(&Plan::default(), 2)]);
    assert_eq!(len, body.len() as u64);
    let json = example("start-json").len() as u64;
    assert!(json < wire_len::longest_json_body([2]));
}

#[test]
fn codecs_have_their_documented_names_and_codes() {
    let all = codec::ALL.iter().map(|codec| (codec.code(), codec.name()));
    let documented = ["f32", "f16", "int8", "qsgd", "topk", "sign"];
    assert!(all.eq((0..).zip(documented)));
    for codec in codec::ALL {
        assert_eq!(codec::by_name(codec.name()), Some(*codec));
        assert_eq!(codec::by_code(codec.code()), Some(*codec));
    }
    assert_eq!((codec::by_name("f8"), codec::by_code(9)), (None, None));
}

#[test]
fn a_query_says_what_a_device_can() {
    let query = |codecs: Option<&str>, rules: Option<&str>| Query {
        codecs: codecs.map(text),
        rules: rules.map(text),
        ..Query::default()
    };
    let plain = query(None, None);
    assert!(plain.speaks("f32") && plain.has_rule("fedavg"));
    assert!(!plain.speaks("f16") && !plain.has_rule("fedprox"));
    let able = query(Some("f32,f16"), Some("fedavg,fedprox"));
    assert!(able.speaks("f16") && able.has_rule("fedprox"));
    assert!(!able.speaks("f1") && !able.has_rule("prox") && !able.speaks(""));
}

#[test]
fn open_objects_hold_eight_finite_numbers() {
    let mut params = Params::new();
    for number in 0..8 {
        assert!(params.set(&format!("p{number}"), number as f32));
    }
    assert!(params.set("p7", -1.0), "a number may change");
    assert!(!params.set("p8", 0.0), "there is no room");
    assert_eq!((params.get("p7"), params.get("p8")), (Some(-1.0), None));
    let mut params = Params::new();
    for name in ["", "Mu", "a b", "0123456789abcdef012345678"] {
        assert!(!params.set(name, 1.0), "{name}");
    }
    assert!(!params.set("mu", f32::NAN) && !params.set("mu", f32::INFINITY));
    assert!(params.is_empty());
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
        "results-full",
        "evaluated",
        "error",
        "start-message",
        "results-message",
        "kept-state",
        "kept-state-message",
        "start-json",
        "results-json",
    ];
    assert_eq!(names, checked);
}

#[test]
fn the_longest_messages_fit_the_bound() {
    let token: Token = text("0123456789abcdef");
    let mut params = Params::new();
    for number in 0..MAX_NAMED {
        let name = format!("{number}_0123456789abcdef_longer");
        assert!(params.set(&name[..24], -1.234_567_8e-38));
    }
    let mut args = Params::new();
    for number in 0..codec::MAX_ARGS {
        assert!(args.set(&format!("bucket_size_{number}"), -1.234_567_8e-38));
    }
    let welcome = Welcome {
        protocol: u32::MAX,
        id: u32::MAX,
        num_examples: u32::MAX,
        layers: [u32::MAX; MAX_LAYER_SIZES].into(),
        activation: Activation::Sigmoid,
        seed: u64::MAX,
        rule: text("0123456789abcdef01234567"),
        params: params.clone(),
        encoding_up: text("01234567"),
        encoding_down: text("01234567"),
        encoding_args: args.clone(),
        holdout: 0,
    };
    let start = Start {
        round: u32::MAX,
        token: token.clone(),
        local_epochs: u32::MAX,
        batch_size: u32::MAX,
        learning_rate: -1.234_567_8e-38,
        arithmetic: Arithmetic::Fixed,
        rule: text("0123456789abcdef01234567"),
        params: params.clone(),
        state_round: u32::MAX,
        encoding_up: text("01234567"),
        encoding_args: args,
        optimizer: Some(Optimizer {
            name: OptimizerName::Momentum,
            momentum: -1.234_567_8e-38,
            beta_1: -1.234_567_8e-38,
            beta_2: -1.234_567_8e-38,
            epsilon: -1.234_567_8e-38,
            weight_decay: -1.234_567_8e-38,
            clip_norm: -1.234_567_8e-38,
        }),
        privacy: Some(Privacy {
            clipping_norm: -1.234_567_8e-38,
            noise_stddev: -1.234_567_8e-38,
        }),
        evaluate: false,
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
        steps: u32::MAX,
        loss: -1.234_567_8e-38,
        metrics: params,
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
    assert_eq!(longest, [739, 921, 505, 757, 172]);
}

/// Messages that both sides must refuse, also where a parser by itself would take them.
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
        start("round", "3,\"rule\":\"0123456789abcdef012345678\""),
        start("round", "3,\"params\":[1]"),
        start("round", "3,\"params\":{\"mu\":null}"),
        start("round", "3,\"params\":{\"mu\":1e39}"),
        start("round", "3,\"params\":{\"mu\":\"1\"}"),
        start("round", "3,\"params\":{\"Mu\":1}"),
        start("round", "3,\"params\":{\"mu\":1,\"mu\":1}"),
        start(
            "round",
            "3,\"params\":{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1}",
        ),
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
        let text = format!("{{\"sections\":{{}},\"y\":{}", opening.repeat(deep));
        assert_eq!(json_form::decode(text.as_bytes()), None);
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
fn heads_are_refused_with_the_reason() {
    #[track_caller]
    fn check(at: usize, bytes: &[u8], expected: &str) {
        let mut head = Head::new(Kind::Start, 1, b"{}").unwrap().emit();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Head::parse(&head).unwrap_err().to_string(), expected);
    }
    check(0, b"Z", "not a zfl message: the magic bytes are missing");
    check(4, &[1], "message version 1, this side speaks 2");
    check(5, &[2], "unknown kind of message 2");
    check(6, &[9], "9 sections, at most 8 are taken");
    for at in [7, 10, 11] {
        check(at, &[1], "a reserved byte is not 0");
    }
    check(8, &[0, 0], "the control message is missing");
    check(
        8,
        &[1, 4],
        "control message of 1025 bytes, at most 1024 are taken",
    );
}

#[test]
fn headers_of_sections_are_refused_with_the_reason() {
    #[track_caller]
    fn check(at: usize, bytes: &[u8], expected: &str) {
        let mut header = SectionHeader::new(MODEL, &F32, &Plan::default(), &PARAMS)
            .unwrap()
            .emit();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(
            SectionHeader::parse(&header).unwrap_err().to_string(),
            expected
        );
    }
    for (at, bytes) in [(0, b"M"), (0, b"\0"), (9, b"x"), (2, b"\xff")] {
        check(at, bytes, "a section's name is not 1 to 16 of a-z 0-9 _");
    }
    check(16, &[9], "unknown codec 9");
    for at in [17, 18, 19] {
        check(at, &[1], "a reserved byte is not 0");
    }
    check(
        20,
        &[1, 0, 0, 1],
        "16777217 numbers, at most 16777216 are taken",
    );
    check(20, &[3], "a payload of 8 bytes, its codec makes 12");
    check(24, &[9], "a payload of 9 bytes, its codec makes 8");
}

#[test]
fn messages_are_refused_with_the_reason() {
    let golden = example("start-message");
    let reason = |bytes: &[u8]| Message::parse(bytes).unwrap_err().to_string();
    let cut = "the body is cut off (a head has 16 bytes)";
    for len in [0, HEAD_LEN - 1, HEAD_LEN, 100, golden.len() - 1] {
        assert_eq!(reason(&golden[..len]), cut, "{len}");
    }
    let longer = [&golden[..], &[0]].concat();
    assert_eq!(reason(&longer), "bytes behind the last section");
    let mut damaged = golden.clone();
    damaged[20] ^= 1;
    assert!(reason(&damaged).starts_with("damaged on the way: CRC-32 "));
    let mut damaged = golden;
    *damaged.last_mut().unwrap() ^= 1;
    assert!(reason(&damaged).starts_with("damaged on the way: CRC-32 "));
    let twice = message::encode(Kind::Start, b"{}", &[model(&F32); 2]).unwrap();
    assert_eq!(reason(&twice), "section model is there twice");
}

#[test]
fn messages_beyond_the_bounds_are_not_written() {
    let long = [b' '; MAX_CONTROL_BYTES + 1];
    assert!(message::encode(Kind::Start, &long[1..], &[]).is_ok());
    assert!(message::encode(Kind::Start, &long, &[]).is_err());
    assert!(message::encode(Kind::Start, b"", &[]).is_err());
    assert!(message::encode(Kind::Start, &[b' '; 1 << 17], &[]).is_err());
    assert!(message::encode(Kind::Start, b"{}", &[model(&F32); 9]).is_err());
    for name in ["", "Model", "0123456789abcdefg", "a b"] {
        let section = Outgoing {
            name,
            ..model(&F32)
        };
        assert!(message::encode_section(&section).is_err(), "{name}");
    }
    let numbers = &vec![0.0; MAX_PARAMS as usize + 1];
    let section = Outgoing {
        numbers,
        ..model(&F32)
    };
    assert!(message::encode_section(&section).is_err());
    assert_eq!(json_form::encode(b"{}", ""), None);
    assert_eq!(json_form::encode(b"[]", ""), None);
    assert_eq!(json_form::encode_sections(&[("Model", &[])]), None);
}
