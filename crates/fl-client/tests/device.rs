//! The device against a scripted aggregator over a simulated link.

mod sim;

use fl_client::{Config, Overrides};
use fl_nn::{Activation, Init, Model, Shape, Step, TrainConfig, Trainer, Workspace};
use fl_proto::codec::{Codec, F16, F32};
use fl_proto::message::{self, Kind, MODEL, Message, Outgoing};
use fl_proto::{
    Arithmetic, DeviceState, ErrorReply, Optimizer, OptimizerName, Params, Privacy, Ready, Results,
    Start, Token, Welcome, json,
};
use sim::{Exchange, Link, Sim};

const INPUTS: usize = 12;
const CLASSES: usize = 3;
const EXAMPLES: usize = 20;
const SEED: u64 = 42;
const CLIENT: u32 = 3;

fn model() -> Model {
    Model::new(Shape::new(&[INPUTS, 5, CLASSES]).unwrap(), Activation::Relu)
}

fn global_params() -> Vec<f32> {
    let mut params = vec![0.0; model().shape().num_params()];
    model().init_params(Init::He, 1, &mut params).unwrap();
    params
}

fn inputs() -> Vec<u8> {
    (0..EXAMPLES * INPUTS)
        .map(|i| if i % 3 == 0 { 0 } else { (i * 37 % 256) as u8 })
        .collect()
}

fn labels() -> Vec<u8> {
    (0..EXAMPLES).map(|i| (i % CLASSES) as u8).collect()
}

fn encode<T: serde::Serialize>(message: &T) -> Vec<u8> {
    let mut buffer = [0; 1024];
    let n = json::encode(message, &mut buffer).unwrap();
    buffer[..n].to_vec()
}

fn welcome() -> Welcome {
    Welcome {
        protocol: fl_proto::PROTOCOL_VERSION,
        id: CLIENT,
        num_examples: EXAMPLES as u32,
        layers: [INPUTS as u32, 5, CLASSES as u32].into_iter().collect(),
        activation: fl_proto::Activation::Relu,
        seed: SEED,
        rule: "fedavg".try_into().unwrap(),
        params: Params::new(),
        encoding_up: "f32".try_into().unwrap(),
        encoding_down: "f32".try_into().unwrap(),
        encoding_args: fl_proto::Params::new(),
        holdout: 0,
    }
}

fn start(round: u32, token: &str) -> Start {
    Start {
        round,
        token: Token::try_from(token).unwrap(),
        local_epochs: 2,
        batch_size: 8,
        learning_rate: 0.5,
        arithmetic: Arithmetic::Fixed,
        rule: "fedavg".try_into().unwrap(),
        params: Params::new(),
        state_round: 0,
        encoding_up: "f32".try_into().unwrap(),
        encoding_args: Params::new(),
        optimizer: None,
        privacy: None,
        evaluate: false,
    }
}

fn post(path: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend(body);
    request
}

/// A section of the model.
fn model_section<'a>(codec: &'static dyn Codec, numbers: &'a [f32]) -> Outgoing<'a> {
    Outgoing {
        name: MODEL,
        codec,
        plan: fl_proto::codec::Plan::default(),
        numbers,
    }
}

fn start_body(control: &[u8], params: &[f32]) -> Vec<u8> {
    message::encode(Kind::Start, control, &[model_section(&F32, params)]).unwrap()
}

fn start_message(start: &Start, params: &[f32]) -> Vec<u8> {
    let body = start_body(&encode(start), params);
    post("/start", fl_proto::OCTET_STREAM, &body)
}

/// The model of an update.
fn model_of(update: &Exchange) -> Vec<f32> {
    let message = Message::parse(&update.body).unwrap();
    assert_eq!(message.kind, Kind::Results);
    message.section(MODEL).unwrap().numbers().unwrap()
}

const GET_READY: &[u8] = b"GET /ready HTTP/1.1\r\n\r\n";

/// An aggregator that serves data and keeps what it is sent.
struct Aggregator {
    welcome: Welcome,
    updates: Vec<Exchange>,
    joins: Vec<String>,
    /// The answer to `GET /state`, and times that it was asked for.
    kept: Option<Vec<u8>>,
    states: u32,
}

impl Default for Aggregator {
    fn default() -> Self {
        Self {
            welcome: welcome(),
            updates: Vec::new(),
            joins: Vec::new(),
            kept: None,
            states: 0,
        }
    }
}

impl Aggregator {
    fn answer(&mut self, request: &Exchange) -> (u16, Vec<u8>) {
        let target = request.head.split(' ').nth(1).unwrap();
        match target.split('?').next().unwrap() {
            "/id" => {
                self.joins.push(target.to_owned());
                (200, encode(&self.welcome))
            }
            "/state" => {
                self.states += 1;
                (200, self.kept.clone().expect("nobody asks for it"))
            }
            "/training-data" => (200, inputs()),
            "/training-labels" => (200, labels()),
            "/results" => {
                self.updates.push(request.clone());
                (200, b"{}".to_vec())
            }
            other => panic!("the device asked for {other}"),
        }
    }
}

fn config() -> Config {
    Config {
        client: Some(CLIENT),
        http_port: 80,
        ..Config::default()
    }
}

/// A device that has joined and fetched its data.
fn joined(link: Link, seed: u64) -> (Sim, Aggregator) {
    let mut sim = Sim::new(config(), link, seed);
    let mut aggregator = Aggregator::default();
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("ready"));
    (sim, aggregator)
}

fn ready(sim: &mut Sim, aggregator: &mut Aggregator) -> Ready {
    let answer = sim
        .ask(GET_READY, false, &mut |r| aggregator.answer(r))
        .unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    json::decode(&answer.body).unwrap()
}

/// The same round by fl-nn alone.
fn oracle(start: &Start) -> (Vec<f32>, f32) {
    oracle_from(global_params(), start)
}

fn oracle_from(mut params: Vec<f32>, start: &Start) -> (Vec<f32>, f32) {
    let config = TrainConfig {
        local_epochs: start.local_epochs,
        batch_size: start.batch_size,
        learning_rate: start.learning_rate,
        seed: fl_rng::derive_seed(SEED, CLIENT, start.round),
        ..TrainConfig::default()
    };
    let mut trainer = Trainer::new(&model(), config, EXAMPLES).unwrap();
    let plan = *trainer.plan();
    let (mut floats, mut ints) = (vec![0.0; plan.floats], vec![0; plan.ints]);
    let mut order = vec![0; plan.order];
    let mut workspace = Workspace {
        floats: &mut floats,
        ints: &mut ints,
        order: &mut order,
    };
    let (inputs, labels) = (inputs(), labels());
    while trainer
        .step(&mut params, &inputs, &labels, &mut workspace, 1000)
        .unwrap()
        == Step::Working
    {}
    (params, trainer.mean_loss())
}

fn bits(params: &[f32]) -> Vec<u32> {
    params.iter().map(|p| p.to_bits()).collect()
}

#[test]
fn a_round_from_joining_to_the_update_delivered() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let [join] = &aggregator.joins[..] else {
        panic!("one join, not {}", aggregator.joins.len())
    };
    assert!(
        join.starts_with("/id?port=80&client=3&codecs=f32,f16,"),
        "{join}"
    );
    let before = ready(&mut sim, &mut aggregator);
    assert_eq!(
        (before.id, before.state, before.round),
        (CLIENT, DeviceState::Ready, 0)
    );

    let start = start(1, "abc");
    let answer = sim
        .ask(&start_message(&start, &global_params()), false, &mut |r| {
            aggregator.answer(r)
        })
        .unwrap();
    assert_eq!(answer.status(), 202, "{}", answer.text());
    let training = ready(&mut sim, &mut aggregator);
    assert_eq!((training.state, training.round), (DeviceState::Training, 1));
    assert_eq!(training.total_examples, 2 * EXAMPLES as u32);

    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
    let [update] = &aggregator.updates[..] else {
        panic!("one update, not {}", aggregator.updates.len())
    };
    assert!(
        update.head.starts_with("POST /results?id=3 "),
        "{}",
        update.head
    );
    let update = update.clone();
    let message = Message::parse(&update.body).unwrap();
    let results: Results = json::decode(message.control).unwrap();
    let (params, loss) = oracle(&start);
    assert_eq!((results.round, results.token.as_str()), (1, "abc"));
    assert_eq!(
        (results.num_examples, results.loss.to_bits()),
        (EXAMPLES as u32, loss.to_bits())
    );
    // 20 examples in steps of 8, twice over.
    assert_eq!(results.steps, 6);
    assert_eq!(bits(&model_of(&update)), bits(&params));
    assert!(results.cost.bytes_received > inputs().len() as u64);

    let after = ready(&mut sim, &mut aggregator);
    assert_eq!((after.state, after.round), (DeviceState::Ready, 1));
    assert_eq!(after.done_examples, after.total_examples);
}

#[test]
fn a_bad_link_changes_no_bit() {
    let start = start(1, "abc");
    let expected = bits(&oracle(&start).0);
    for seed in 0..60 {
        let (mut sim, mut aggregator) = joined(
            Link {
                stall: 400,
                reset: 2,
            },
            seed,
        );
        let request = start_message(&start, &global_params());
        // A stream that breaks may have delivered its /start all the same: then it says 409.
        loop {
            match sim.ask(&request, true, &mut |r| aggregator.answer(r)) {
                Some(answer) if [202, 409].contains(&answer.status()) => break,
                Some(answer) => panic!("seed {seed}: {} {}", answer.status(), answer.text()),
                None => {}
            }
        }
        sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
        let update = aggregator.updates.last().unwrap();
        assert_eq!(bits(&model_of(update)), expected, "seed {seed}");
    }
}

#[test]
fn an_update_is_encoded_as_it_was_asked_for() {
    let link = Link {
        stall: 300,
        reset: 0,
    };
    let (mut sim, mut aggregator) = joined(link, 5);
    let start = Start {
        encoding_up: "f16".try_into().unwrap(),
        ..start(1, "abc")
    };
    let global = global_params();
    let section = model_section(&F16, &global);
    let body = message::encode(Kind::Start, &encode(&start), &[section]).unwrap();
    let request = post("/start", fl_proto::OCTET_STREAM, &body);
    let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
    assert_eq!(answer.unwrap().status(), 202);
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
    let message = Message::parse(&aggregator.updates[0].body).unwrap();
    let header = &message.section(MODEL).unwrap().header;
    let count = global_params().len() as u32;
    assert_eq!((header.codec.name(), header.octets), ("f16", 2 * count));
    // What was trained on is what halves can say, and so is what came back.
    let halves = |numbers: &[f32]| {
        let body = message::encode(Kind::Start, b"{}", &[model_section(&F16, numbers)]).unwrap();
        let message = Message::parse(&body).unwrap();
        message.section(MODEL).unwrap().numbers().unwrap()
    };
    let (trained, _) = oracle_from(halves(&global_params()), &start);
    assert_eq!(
        bits(&model_of(&aggregator.updates[0])),
        bits(&halves(&trained))
    );
}

/// A section of a vector of the model's length.
fn vector<'a>(name: &'a str, numbers: &'a [f32]) -> Outgoing<'a> {
    Outgoing {
        name,
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers,
    }
}

/// A device that has joined for SCAFFOLD; `kept` answers its `GET /state`.
fn variates(kept: Option<Vec<u8>>) -> (Sim, Aggregator) {
    let mut sim = Sim::new(config(), Link::default(), 1);
    let rule = "scaffold".try_into().unwrap();
    let mut aggregator = Aggregator {
        kept,
        welcome: Welcome { rule, ..welcome() },
        ..Aggregator::default()
    };
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("ready"));
    (sim, aggregator)
}

/// Runs a round of SCAFFOLD; returns the sections of its update.
fn round_of(sim: &mut Sim, aggregator: &mut Aggregator, start: &Start) -> [Vec<f32>; 2] {
    let global = global_params();
    let server: Vec<f32> = global.iter().map(|weight| weight / 64.0).collect();
    let sections = [
        model_section(&F32, &global),
        vector("server_variate", &server),
    ];
    let body = message::encode(Kind::Start, &encode(start), &sections).unwrap();
    let request = post("/start", fl_proto::OCTET_STREAM, &body);
    let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
    assert_eq!(answer.unwrap().status(), 202);
    let delivered = format!("round {}: update delivered", start.round);
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged(&delivered));
    let update = aggregator.updates.last().unwrap();
    let message = Message::parse(&update.body).unwrap();
    [MODEL, "client_variate"].map(|name| message.section(name).unwrap().numbers().unwrap())
}

fn scaffold(round: u32, state_round: u32) -> Start {
    Start {
        rule: "scaffold".try_into().unwrap(),
        state_round,
        ..start(round, "abc")
    }
}

#[test]
fn a_rule_sends_its_sections_and_its_kept_vectors_survive_a_reboot() {
    let (mut sim, mut aggregator) = variates(None);
    let first = round_of(&mut sim, &mut aggregator, &scaffold(1, 0));
    let second = round_of(&mut sim, &mut aggregator, &scaffold(2, 1));
    assert_ne!(bits(&first[0]), bits(&second[0]), "the variate corrects");
    assert_eq!(
        aggregator.states, 0,
        "a device that has its vectors asks for none"
    );

    // Another device after a reboot: what it kept comes back from the aggregator, bit by bit.
    let kept = |round: u32, name, numbers| {
        let control = format!("{{\"round\":{round}}}");
        message::encode(Kind::Start, control.as_bytes(), &[vector(name, numbers)]).unwrap()
    };
    let (mut sim, mut aggregator) = variates(Some(kept(1, "client_variate", &first[1])));
    let again = round_of(&mut sim, &mut aggregator, &scaffold(2, 1));
    assert_eq!(again.map(|v| bits(&v)), second.map(|v| bits(&v)));
    assert_eq!(aggregator.states, 1);

    // A copy that is not the one that was asked for is not trained on.
    for wrong in [
        kept(7, "client_variate", &first[1]),
        kept(1, "client_variate", &first[1][1..]),
        kept(1, "server_variate", &first[1]),
        vec![0; 9],
    ] {
        let (mut sim, mut aggregator) = variates(Some(wrong));
        let start = scaffold(2, 1);
        let sections = [
            model_section(&F32, &first[0]),
            vector("server_variate", &first[0]),
        ];
        let body = message::encode(Kind::Start, &encode(&start), &sections).unwrap();
        let request = post("/start", fl_proto::OCTET_STREAM, &body);
        let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
        assert_eq!(answer.unwrap().status(), 202);
        let state = |sim: &mut Sim, aggregator: &mut Aggregator| ready(sim, aggregator).state;
        while state(&mut sim, &mut aggregator) == DeviceState::Training {
            sim.port.now_us += 5_000_000;
        }
        assert_eq!(state(&mut sim, &mut aggregator), DeviceState::Failed);
    }
}

#[test]
fn a_section_of_the_rule_must_be_there() {
    let (mut sim, mut aggregator) = variates(None);
    let control = encode(&scaffold(1, 0));
    let request = post(
        "/start",
        fl_proto::OCTET_STREAM,
        &start_body(&control, &global_params()),
    );
    let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("section server_variate is missing"));
}

#[test]
fn a_device_measures_the_global_model_before_it_trains_if_its_rule_asks_for_it() {
    let trained = |q: f32| {
        let (mut sim, mut aggregator) = joined_for("qfedavg", 0.0);
        let mut params = Params::new();
        assert!(params.set("q", q));
        let start = Start {
            rule: "qfedavg".try_into().unwrap(),
            params,
            ..start(1, "abc")
        };
        let request = start_message(&start, &global_params());
        let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
        assert_eq!(answer.unwrap().status(), 202);
        sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
        let message = Message::parse(&aggregator.updates[0].body).unwrap();
        let results: Results = json::decode(message.control).unwrap();
        let told: Vec<_> = results.metrics.iter().collect();
        let told = told
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value));
        (model_of(&aggregator.updates[0]), told.collect::<Vec<_>>())
    };
    let (plain, told) = trained(0.0);
    assert_eq!(told, []);
    let (measured, told) = trained(1.0);
    assert_eq!(
        bits(&measured),
        bits(&plain),
        "measuring changes no training"
    );
    let plan = model().evaluation_plan().unwrap();
    let workspace = Workspace {
        floats: &mut vec![0.0; plan.floats],
        ints: &mut vec![0; plan.ints],
        order: &mut [],
    };
    let arithmetic = TrainConfig::default().arithmetic;
    let found = model().evaluate(
        &global_params(),
        &inputs(),
        &labels(),
        workspace,
        arithmetic,
    );
    let loss = found.unwrap().mean_loss() as f32;
    let rate = start(1, "abc").learning_rate;
    let expected = [("global_loss", loss), ("learning_rate", rate)];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn a_proximal_term_pulls_and_none_is_plain_training() {
    let slow = Start {
        learning_rate: 0.01,
        ..start(1, "abc")
    };
    let trained = |mu: f32| {
        let (mut sim, mut aggregator) = joined_for("fedprox", mu);
        let mut params = Params::new();
        assert!(params.set("proximal_mu", mu));
        let start = Start {
            rule: "fedprox".try_into().unwrap(),
            params,
            ..slow.clone()
        };
        let request = start_message(&start, &global_params());
        let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
        assert_eq!(answer.unwrap().status(), 202);
        sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
        model_of(&aggregator.updates[0])
    };
    let plain = oracle(&slow).0;
    assert_eq!(bits(&trained(0.0)), bits(&plain));
    let way = |params: &[f32]| -> f32 {
        let moved = params.iter().zip(global_params());
        moved.map(|(new, old)| (new - old) * (new - old)).sum()
    };
    let (pulled, free) = (way(&trained(5.0)), way(&plain));
    assert!(pulled < free, "{pulled} is no less than {free}");
}

/// A device that has joined for a rule with a proximal term.
fn joined_for(rule: &str, mu: f32) -> (Sim, Aggregator) {
    let mut params = Params::new();
    assert!(params.set("proximal_mu", mu));
    let mut sim = Sim::new(config(), Link::default(), 1);
    let mut aggregator = Aggregator {
        welcome: Welcome {
            rule: rule.try_into().unwrap(),
            params,
            ..welcome()
        },
        ..Aggregator::default()
    };
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("ready"));
    (sim, aggregator)
}

/// Requests that must be refused by a device that is ready and has round 1 behind it.
fn bad_requests() -> Vec<(&'static str, u16, Vec<u8>)> {
    let params = global_params();
    let good = start_message(&start(2, "next"), &params);
    let head_len = good.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let frame_of = |start: &Start, params: &[f32]| start_message(start, params);
    let edited = |at: usize, byte: u8| {
        let mut request = good.clone();
        request[head_len + at] = byte;
        request
    };
    let body = |media_type: &str, body: &[u8]| post("/start", media_type, body);
    let mut nan = params.clone();
    nan[7] = f32::NAN;
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let not_json = start_body(b"{\"round\":2", &params);
    let control = encode(&start(2, "x"));
    let section = model_section(&F32, &params);
    let results = message::encode(Kind::Results, &control, &[section]).unwrap();
    let none = message::encode(Kind::Start, &control, &[]).unwrap();
    let twice = message::encode(Kind::Start, &control, &[section; 2]).unwrap();
    let other = Outgoing {
        name: "other",
        ..section
    };
    let unwanted = message::encode(Kind::Start, &control, &[section, other]).unwrap();
    let behind = [start_body(&control, &params), vec![0]].concat();
    let cut = &start_body(&control, &params)[..100];
    let section_at = message::HEAD_LEN + encode(&start(2, "next")).len();
    let rule = Start {
        rule: "scaffold".try_into().unwrap(),
        ..start(2, "x")
    };
    let codec = Start {
        encoding_up: "f8".try_into().unwrap(),
        ..start(2, "x")
    };
    let epochs = Start {
        local_epochs: 0,
        ..start(2, "x")
    };
    let batch = Start {
        batch_size: 0,
        ..start(2, "x")
    };
    let rate = Start {
        learning_rate: -1.0,
        ..start(2, "x")
    };
    let momentum = Start {
        optimizer: Some(Optimizer {
            name: OptimizerName::Momentum,
            momentum: 1.0,
            ..Optimizer::default()
        }),
        ..start(2, "x")
    };
    let bound = Start {
        privacy: Some(Privacy {
            clipping_norm: 0.0,
            noise_stddev: 0.0,
        }),
        ..start(2, "x")
    };
    let unknown = encode(&momentum);
    let unknown = String::from_utf8(unknown)
        .unwrap()
        .replace("momentum\",", "adagrad\",");
    let unknown = start_body(unknown.as_bytes(), &params);
    let octets = fl_proto::OCTET_STREAM;
    vec![
        ("a momentum that never ends", 400, frame_of(&momentum, &params)),
        ("a bound of nothing", 400, frame_of(&bound, &params)),
        ("an optimizer that it does not know", 400, body(octets, &unknown)),
        ("a replay of round 1", 409, frame_of(&start(1, "abc"), &params)),
        ("a round that is over", 409, frame_of(&start(0, "old"), &params)),
        ("a model of another size", 400, frame_of(&start(2, "x"), &params[1..])),
        ("a weight that is not finite", 400, frame_of(&start(2, "x"), &nan)),
        ("no epochs", 400, frame_of(&epochs, &params)),
        ("an empty batch", 400, frame_of(&batch, &params)),
        ("a negative learning rate", 400, frame_of(&rate, &params)),
        ("another magic", 400, edited(0, b'Z')),
        ("another version", 400, edited(4, 9)),
        ("another kind", 400, edited(5, 7)),
        ("too many sections", 400, edited(6, 9)),
        ("no control message", 400, edited(8, 0)),
        ("a control length that does not fit", 400, edited(8, 1)),
        ("a flipped bit of the control message", 400, edited(20, b'!')),
        ("no name", 400, edited(section_at, 0)),
        ("another codec", 400, edited(section_at + 16, 9)),
        ("a count too large", 400, edited(section_at + 23, 1)),
        ("a payload too long", 400, edited(section_at + 27, 1)),
        ("a flipped bit of the payload", 400, flipped),
        ("half a control message", 400, body(octets, &not_json)),
        ("results", 400, body(octets, &results)),
        ("no section", 400, body(octets, &none)),
        ("two models", 400, body(octets, &twice)),
        ("a section that nobody wants", 400, body(octets, &unwanted)),
        ("a byte too many", 400, body(octets, &behind)),
        ("a part", 400, body(octets, cut)),
        ("another rule", 400, frame_of(&rule, &params)),
        ("a codec that is none", 400, frame_of(&codec, &params)),
        ("JSON", 415, body(fl_proto::JSON, b"{}")),
        ("text", 415, body("text/plain", &good[head_len..])),
        ("an endless body", 413, b"POST /start HTTP/1.1\r\nContent-Type: application/octet-stream\r\nContent-Length: 18446744073709551615\r\n\r\n".to_vec()),
        ("chunks", 411, b"POST /start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        ("no length", 411, b"POST /start HTTP/1.1\r\n\r\n".to_vec()),
        ("an unknown path", 404, b"GET /etc/passwd HTTP/1.1\r\n\r\n".to_vec()),
        ("the wrong method", 405, b"DELETE /ready HTTP/1.1\r\n\r\n".to_vec()),
        ("no HTTP", 400, b"\x16\x03\x01\x02\x00\r\n\r\n".to_vec()),
        ("an endless head", 431, [b"GET /ready HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 2000]].concat()),
    ]
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let (mut sim, mut aggregator) = joined(
        Link {
            stall: 200,
            reset: 0,
        },
        11,
    );
    let first = start_message(&start(1, "abc"), &global_params());
    assert_eq!(
        sim.ask(&first, true, &mut |r| aggregator.answer(r))
            .unwrap()
            .status(),
        202
    );
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
    let before = ready(&mut sim, &mut aggregator);
    for (what, status, request) in bad_requests() {
        let answer = sim.ask(&request, true, &mut |r| aggregator.answer(r));
        let answer = answer.unwrap_or_else(|| panic!("{what}: the stream broke"));
        assert_eq!(answer.status(), status, "{what}: {}", answer.text());
        let reason: ErrorReply = json::decode(&answer.body).unwrap();
        assert!(!reason.error.is_empty(), "{what}");
        assert_eq!(ready(&mut sim, &mut aggregator), before, "{what}");
    }
    // The device is none the worse for it.
    let second = start(2, "next");
    let request = start_message(&second, &global_params());
    assert_eq!(
        sim.ask(&request, true, &mut |r| aggregator.answer(r))
            .unwrap()
            .status(),
        202
    );
    sim.run_until(&mut |r| aggregator.answer(r), |sim| {
        sim.logged("round 2: update delivered")
    });
    let update = &aggregator.updates[1];
    assert_eq!(bits(&model_of(update)), bits(&oracle(&second).0));
}

#[test]
fn a_second_start_is_refused_while_one_is_received_or_trained() {
    let (mut sim, mut aggregator) = joined(Link::default(), 3);
    let request = start_message(&start(1, "abc"), &global_params());
    // Half a body, then silence.
    let half = sim.send(&request[..request.len() / 2]);
    for _ in 0..20 {
        sim.turn(false, &mut |r| aggregator.answer(r));
    }
    let other = start_message(&start(1, "other"), &global_params());
    let refused = sim
        .ask(&other, false, &mut |r| aggregator.answer(r))
        .unwrap();
    assert_eq!(refused.status(), 409, "{}", refused.text());
    // /ready is answered beside it, and the silent stream is given up in the end.
    assert_eq!(ready(&mut sim, &mut aggregator).state, DeviceState::Ready);
    let answer = loop {
        sim.turn(false, &mut |r| aggregator.answer(r));
        if let Some(answer) = sim.answer(half) {
            break answer.unwrap();
        }
    };
    assert_eq!(answer.status(), 408);
    // What it held is free again.
    assert_eq!(
        sim.ask(&other, false, &mut |r| aggregator.answer(r))
            .unwrap()
            .status(),
        202
    );
    let refused = sim
        .ask(&request, false, &mut |r| aggregator.answer(r))
        .unwrap();
    assert_eq!(refused.status(), 409, "{}", refused.text());
    assert_eq!(
        ready(&mut sim, &mut aggregator).state,
        DeviceState::Training
    );
}

#[test]
fn ready_is_answered_before_all_data_is_there() {
    let mut sim = Sim::new(config(), Link::default(), 1);
    let answer = sim
        .ask(GET_READY, false, &mut |_| {
            (503, b"{\"error\":\"later\"}".to_vec())
        })
        .unwrap();
    assert_eq!(answer.status(), 503);
    let request = start_message(&start(1, "abc"), &global_params());
    let answer = sim
        .ask(&request, false, &mut |_| {
            (503, b"{\"error\":\"later\"}".to_vec())
        })
        .unwrap();
    assert_eq!(answer.status(), 503);
}

#[test]
fn joining_is_tried_until_it_works() {
    let mut sim = Sim::new(config(), Link::default(), 1);
    let mut aggregator = Aggregator::default();
    let mut tries = 0;
    let mut answer = |request: &Exchange| {
        tries += 1;
        match tries {
            1..=4 => (503, b"{\"error\":\"starting\"}".to_vec()),
            5 => (200, b"no JSON".to_vec()),
            // The data arrives cut short once.
            7 => (200, inputs()[1..].to_vec()),
            _ => aggregator.answer(request),
        }
    };
    sim.run_until(&mut answer, |sim| sim.logged("ready"));
    assert_eq!(tries, 9, "{:#?}", sim.port.lines);
}

/// Answers results with `status` until `times` are over.
fn refusing<'a>(
    aggregator: &'a mut Aggregator,
    status: u16,
    mut times: u32,
) -> impl FnMut(&Exchange) -> (u16, Vec<u8>) + use<'a> {
    move |request| {
        if request.head.starts_with("POST /results") && times > 0 {
            times -= 1;
            return (status, b"{\"error\":\"no\"}".to_vec());
        }
        aggregator.answer(request)
    }
}

#[test]
fn results_are_sent_again_after_a_server_error() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let request = start_message(&start(1, "abc"), &global_params());
    sim.ask(&request, false, &mut |r| aggregator.answer(r))
        .unwrap();
    sim.run_until(&mut refusing(&mut aggregator, 500, 5), |sim| {
        sim.logged("delivered")
    });
    let update = &aggregator.updates[0];
    assert_eq!(bits(&model_of(update)), bits(&oracle(&start(1, "abc")).0));
}

#[test]
fn a_lost_answer_to_an_update_is_no_failure() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let request = start_message(&start(1, "abc"), &global_params());
    sim.ask(&request, false, &mut |r| aggregator.answer(r))
        .unwrap();
    let mut tries = 0;
    let mut answer = |request: &Exchange| {
        tries += 1;
        match tries {
            1 => (500, Vec::new()),
            _ => (
                409,
                format!("{{\"error\":\"in already: {}\"}}", request.body.len()).into_bytes(),
            ),
        }
    };
    sim.run_until(&mut answer, |sim| sim.logged("round 1: update delivered"));
    assert_eq!(ready(&mut sim, &mut aggregator).state, DeviceState::Ready);
}

#[test]
fn a_later_start_ends_the_sending_of_an_update_and_an_equal_one_does_not() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let first = start_message(&start(1, "abc"), &global_params());
    sim.ask(&first, false, &mut |r| aggregator.answer(r))
        .unwrap();
    // Taken in each time, and no answer of it arrives for longer than any round takes.
    let mut answer = |request: &Exchange| {
        if request.head.starts_with("POST /results") && request.text().contains("\"round\":1") {
            return (503, b"{\"error\":\"no\"}".to_vec());
        }
        aggregator.answer(request)
    };
    for _ in 0..200 {
        sim.port.now_us += 1_000_000;
        sim.turn(true, &mut answer);
    }
    let same = sim.ask(&first, true, &mut answer).unwrap();
    assert_eq!(same.status(), 409, "{}", same.text());
    let half = start_message(&start(2, "def"), &global_params());
    let second = sim.ask(&half, true, &mut answer).unwrap();
    assert_eq!(second.status(), 202, "{}", second.text());
    sim.run_until(&mut answer, |sim| sim.logged("round 2: update delivered"));
    assert!(!sim.logged("round 1: update delivered"));
    let update = aggregator.updates.last().unwrap();
    assert_eq!(bits(&model_of(update)), bits(&oracle(&start(2, "def")).0));
}

#[test]
fn the_log_says_how_a_device_trains_when_that_changes() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    for (round, batch_size, is_told) in [(1, 7, true), (2, 7, false), (3, 8, true)] {
        let start = Start {
            batch_size,
            ..start(round, "abc")
        };
        let request = start_message(&start, &global_params());
        let mut answer = |request: &_| aggregator.answer(request);
        let accepted = sim.ask(&request, true, &mut answer).unwrap();
        assert_eq!(accepted.status(), 202, "{}", accepted.text());
        let delivered = format!("round {round}: update delivered");
        sim.run_until(&mut answer, |sim| sim.logged(&delivered));
        assert_eq!(sim.logged(&format!("round {round}: training")), is_told);
    }
}

#[test]
fn a_server_that_has_no_time_is_no_refusal() {
    for status in [408, 429] {
        let (mut sim, mut aggregator) = joined(Link::default(), 1);
        let request = start_message(&start(1, "abc"), &global_params());
        sim.ask(&request, false, &mut |r| aggregator.answer(r))
            .unwrap();
        sim.run_until(&mut refusing(&mut aggregator, status, 20), |sim| {
            sim.logged("round 1: update delivered")
        });
    }
}

#[test]
fn a_refused_update_is_dropped_and_the_device_stays_usable() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let request = start_message(&start(1, "abc"), &global_params());
    sim.ask(&request, false, &mut |r| aggregator.answer(r))
        .unwrap();
    sim.run_until(&mut refusing(&mut aggregator, 410, 1), |sim| {
        sim.logged("refused with 410")
    });
    let after = ready(&mut sim, &mut aggregator);
    assert_eq!(
        (after.state, after.error.as_deref()),
        (DeviceState::Failed, Some("410: no"))
    );
    let request = start_message(&start(2, "def"), &global_params());
    assert_eq!(
        sim.ask(&request, true, &mut |r| aggregator.answer(r))
            .unwrap()
            .status(),
        202
    );
    sim.run_until(&mut |r| aggregator.answer(r), |sim| {
        sim.logged("round 2: update delivered")
    });
}

#[test]
fn a_device_that_the_aggregator_forgot_joins_again() {
    let (mut sim, mut aggregator) = joined(Link::default(), 1);
    let request = start_message(&start(4, "abc"), &global_params());
    sim.ask(&request, false, &mut |r| aggregator.answer(r))
        .unwrap();
    sim.run_until(&mut refusing(&mut aggregator, 404, 1), |sim| {
        sim.logged("refused with 404")
    });
    sim.port.lines.clear();
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("ready"));
    assert_eq!(aggregator.joins.len(), 2);
    // Its rounds begin anew with the new session.
    let request = start_message(&start(1, "abc"), &global_params());
    assert_eq!(
        sim.ask(&request, true, &mut |r| aggregator.answer(r))
            .unwrap()
            .status(),
        202
    );
}

#[test]
fn a_welcome_that_cannot_be_met_stops_the_device_with_the_reason() {
    let table = [
        (
            Welcome {
                protocol: 99,
                ..welcome()
            },
            "wire version 99",
        ),
        (
            Welcome {
                layers: [4].into_iter().collect(),
                ..welcome()
            },
            "no model",
        ),
        (
            Welcome {
                num_examples: 0,
                ..welcome()
            },
            "no examples",
        ),
        (
            Welcome {
                rule: "fedfoo".try_into().unwrap(),
                ..welcome()
            },
            "does not know the rule",
        ),
        (
            Welcome {
                encoding_up: "f8".try_into().unwrap(),
                ..welcome()
            },
            "no codec f8",
        ),
        (
            Welcome {
                num_examples: u32::MAX,
                layers: [65_535, 2].into_iter().collect(),
                ..welcome()
            },
            "no memory for 4294967295 examples",
        ),
    ];
    for (welcome, reason) in table {
        let mut sim = Sim::new(config(), Link::default(), 1);
        sim.run_until(&mut |_| (200, encode(&welcome)), |sim| sim.stopped);
        assert!(sim.logged(reason), "{:?}", sim.port.lines);
    }
}

#[test]
fn a_device_that_lacks_what_the_experiment_needs_ends_with_the_reason() {
    let mut sim = Sim::new(config(), Link::default(), 1);
    let answer = b"{\"error\":\"100 bytes are missing\"}";
    sim.run_until(&mut |_| (422, answer.to_vec()), |sim| sim.stopped);
    assert!(
        sim.logged("cannot join: 100 bytes are missing"),
        "{:?}",
        sim.port.lines
    );
    assert_eq!(sim.device.refusal(), None, "it does not wait for a place");
}

#[test]
fn stop_is_answered_and_then_the_device_is_done() {
    let (mut sim, mut aggregator) = joined(
        Link {
            stall: 300,
            reset: 0,
        },
        9,
    );
    let request = b"POST /stop HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    let answer = sim
        .ask(request, true, &mut |r| aggregator.answer(r))
        .unwrap();
    assert_eq!(answer.status(), 200);
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.stopped);
}

#[test]
fn the_command_line_goes_before_start() {
    let overrides = Overrides {
        local_epochs: Some(1),
        batch_size: Some(5),
    };
    let mut sim = Sim::new(
        Config {
            overrides,
            ..config()
        },
        Link::default(),
        1,
    );
    let mut aggregator = Aggregator::default();
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("ready"));
    let asked = start(1, "abc");
    let request = start_message(&asked, &global_params());
    sim.ask(&request, true, &mut |r| aggregator.answer(r))
        .unwrap();
    sim.run_until(&mut |r| aggregator.answer(r), |sim| sim.logged("delivered"));
    let update = &aggregator.updates[0];
    let overridden = Start {
        local_epochs: 1,
        batch_size: 5,
        ..asked
    };
    assert_eq!(bits(&model_of(update)), bits(&oracle(&overridden).0));
}

#[test]
fn mangled_requests_never_hurt() {
    let mut random = fl_rng::Pcg32::on_stream(2024, 1);
    let (mut sim, mut aggregator) = joined(
        Link {
            stall: 100,
            reset: 0,
        },
        2,
    );
    let params = global_params();
    let corpus = [
        start_message(&start(1, "abc"), &params),
        post("/start", fl_proto::JSON, b"{}"),
        GET_READY.to_vec(),
    ];
    for _ in 0..600 {
        let mut request = corpus[random.below(3) as usize].clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(request.len() as u32) as usize;
            match random.below(4) {
                0 => request[at] ^= 1 << random.below(8),
                1 => request[at] = random.below(256) as u8,
                2 if request.len() > 1 => drop(request.remove(at)),
                _ => request.truncate(at.max(1)),
            }
        }
        sim.send(&request);
        for _ in 0..30 {
            sim.turn(true, &mut |r| aggregator.answer(r));
        }
    }
    // Whatever it made of that, it takes a proper round afterwards.
    let asked = start(u32::MAX, "last");
    let request = start_message(&asked, &params);
    let mut accepted = false;
    for _ in 0..200 {
        match sim
            .ask(&request, true, &mut |r| aggregator.answer(r))
            .map(|a| a.status())
        {
            Some(202) => {
                accepted = true;
                break;
            }
            _ => sim.port.now_us += 1_000_000,
        }
    }
    assert!(accepted, "{:#?}", sim.port.lines);
    sim.run_until(&mut |r| aggregator.answer(r), |sim| {
        sim.logged("round 4294967295: update delivered")
    });
    let update = aggregator.updates.last().unwrap();
    assert_eq!(bits(&model_of(update)), bits(&oracle(&asked).0));
}

#[test]
fn a_request_whose_head_is_too_long_is_never_sent() {
    const LONG: [u8; 600] = [b'x'; 600];
    let config = Config {
        isa: core::str::from_utf8(&LONG).ok(),
        ..config()
    };
    let mut sim = Sim::new(config, Link::default(), 1);
    let mut nobody = |_: &Exchange| panic!("a cut head was sent");
    sim.run_until(&mut nobody, |sim| {
        sim.logged("the request's head is over 512 bytes")
    });
}
