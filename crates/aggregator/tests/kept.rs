//! Vectors that clients keep: the server's copy, and the way back of it.

mod support;

use fl_proto::codec::F32;
use fl_proto::message::{self, Kind, MODEL, Message, Outgoing};
use fl_proto::{KeptState, json};
use support::{Device, Order, Run, config, get, get_from, model, num_params};
use zfl_aggregator::{Config, LocalOptimizer, Mechanism, Privacy};

const VARIATE: &str = "client_variate";

fn scaffold(clients: u32, rounds: u32) -> Config {
    let algorithm = fl_algo::Choice::named("scaffold").unwrap();
    Config {
        algorithm,
        ..config(clients, rounds)
    }
}

/// An update with a variate beside the model.
fn update(device: &Device, order: &Order, variate: &[f32]) -> Vec<u8> {
    let control = serde_json::to_vec(&device.results(order)).unwrap();
    let section = |name, numbers| Outgoing {
        name,
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers,
    };
    let model = device.train(order);
    let sections = [section(MODEL, &model[..]), section(VARIATE, variate)];
    message::encode(Kind::Results, &control, &sections).unwrap()
}

#[tokio::test]
async fn kept_vectors_come_back_as_they_were_accepted_and_from_no_other_round() {
    // The other one delivers in the first round, and holds the second open.
    let run = Run::start(scaffold(2, 2)).await;
    let server = run.address;
    let mut device = Device::join(server, 0).await;
    let mut other = Device::join(server, 1).await;
    let first = device.order().await;
    assert_eq!(first.start.rule, "scaffold");
    assert_eq!(first.start.state_round, 0);
    let none = get(server, "/state?id=0").await;
    assert_eq!(
        (none.status, none.reason()),
        (410, "no kept vectors of client 0".to_owned())
    );
    let variate: Vec<f32> = (0..num_params()).map(|n| n as f32 / 8.0).collect();
    let sent = device.post(&update(&device, &first, &variate)).await;
    assert_eq!(sent.status, 200);
    let order = other.order().await;
    let sent = other.post(&update(&other, &order, &variate)).await;
    assert_eq!(sent.status, 200);

    let second = device.order().await;
    assert_eq!(second.start.state_round, 1);
    // Sent, and refused: what the device keeps now is of no round that counts.
    let nan = vec![f32::NAN; num_params()];
    let refused = device.post(&update(&device, &second, &nan)).await;
    assert_eq!(refused.status, 422, "{}", refused.reason());
    let kept = get(server, "/state?id=0").await;
    assert_eq!(kept.status, 200);
    let message = Message::parse(&kept.body).unwrap();
    assert_eq!(
        json::decode::<KeptState>(message.control),
        Some(KeptState { round: 1 })
    );
    assert_eq!(
        message.section(VARIATE).unwrap().numbers().unwrap(),
        variate
    );
    assert_eq!(message.sections.len(), 1);
    for (target, status) in [("/state?id=7", 404), ("/state", 400)] {
        assert_eq!(get(server, target).await.status, status, "{target}");
    }
    let stranger = get_from([127, 0, 0, 2], server, "/state?id=0").await;
    assert_eq!(stranger.status, 403);
    run.handle.cancel("enough was seen");
    run.finish().await;
}

#[tokio::test]
async fn an_update_without_the_section_of_its_rule_is_refused() {
    let run = Run::start(scaffold(1, 1)).await;
    let mut device = Device::join(run.address, 0).await;
    let order = device.order().await;
    let answer = device.post(&device.update(&order)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.reason().contains("client_variate is missing"));
    let short = &vec![0.0; num_params() - 1];
    let answer = device.post(&update(&device, &order, short)).await;
    assert_eq!(answer.status, 400, "{}", answer.reason());
    let variate = vec![0.0; num_params()];
    let answer = device.post(&update(&device, &order, &variate)).await;
    assert_eq!(answer.status, 200);
    assert!(run.finish().await.summary.success);
}

/// One that does not know of a field of `/start` would pass it over and train otherwise.
#[tokio::test]
async fn a_device_without_optimizer_bound_or_their_memory_is_refused() {
    let adam = LocalOptimizer {
        rule: fl_nn::Optimizer::ADAM,
        ..LocalOptimizer::default()
    };
    let privacy = Privacy {
        mechanism: Mechanism::Local,
        noise_multiplier: 1.0,
        clipping_norm: 1.0,
        delta: 1e-5,
        fixed_size: false,
    };
    let run = Run::start(Config {
        optimizer: adam,
        privacy: Some(privacy),
        ..config(2, 1)
    })
    .await;
    let join = async |query: &str| get(run.address, &format!("/id?client=0&port=9&{query}")).await;
    for (query, words) in [
        ("memory=100000", "plain SGD alone"),
        ("can=privacy", "plain SGD alone"),
        ("can=optimizer", "cannot bound its update"),
        ("can=optimizer,privacy&memory=0", "are missing"),
    ] {
        let answer = join(query).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.reason());
        assert!(
            answer.reason().contains(words),
            "{query}: {}",
            answer.reason()
        );
    }
    let refused = join("can=optimizer,privacy&memory=0").await;
    let words = refused.reason();
    let missing: u64 = words.split(' ').rev().nth(2).unwrap().parse().unwrap();
    let plain = Run::start(config(2, 1)).await;
    let answer = get(plain.address, "/id?client=0&port=9&memory=0").await;
    let without: u64 = answer
        .reason()
        .split(' ')
        .rev()
        .nth(2)
        .unwrap()
        .parse()
        .unwrap();
    // Both averages of Adam, and the model that came.
    assert_eq!(missing - without, 3 * 4 * num_params() as u64);
    let exact = join(&format!("can=optimizer,privacy&memory={missing}")).await;
    assert_eq!(exact.status, 200, "{}", exact.reason());
    for run in [run, plain] {
        run.handle.cancel("enough was seen");
        run.finish().await;
    }
}

/// Examples in flash take no RAM but that of one as it comes.
#[tokio::test]
async fn a_device_with_flash_for_its_examples_needs_that_much_less_memory() {
    let run = Run::start(config(2, 1)).await;
    let join = async |query: &str| get(run.address, &format!("/id?client=0&port=9&{query}")).await;
    let missing = async |query: &str| -> u64 {
        let answer = join(query).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.reason());
        let reason = answer.reason();
        reason.split(' ').rev().nth(2).unwrap().parse().unwrap()
    };
    let (in_ram, beside) = (missing("memory=0").await, missing("memory=0&flash=0").await);
    let lists = missing(&format!("memory={beside}&flash=0")).await;
    let one = 4 * fl_nn::Lists::most_words(model().shape().num_inputs()) as u64;
    assert_eq!(in_ram, beside + lists - one);
    let flash = lists - 1;
    assert_eq!(missing(&format!("memory={beside}&flash={flash}")).await, 1);
    let exact = join(&format!("memory={beside}&flash={lists}")).await;
    assert_eq!(exact.status, 200, "{}", exact.reason());
    run.handle.cancel("enough was seen");
    run.finish().await;
}

#[tokio::test]
async fn a_device_without_the_codec_or_its_copy_of_the_model_is_refused() {
    let topk = |k: f64| {
        let mut encoding = fl_proto::codec::Encoding::new(&fl_proto::codec::TopK);
        encoding.set("k", k).unwrap();
        encoding
    };
    let mut missing = Vec::new();
    for k in [0.1, 1.0] {
        let mut config = config(2, 1);
        config.encoding_up = topk(k);
        let run = Run::start(config).await;
        let old = get(run.address, "/id?client=0&port=9&codecs=f32,f16").await;
        assert_eq!(old.status, 422);
        assert!(old.reason().contains("no codec topk"), "{}", old.reason());
        let able = "/id?client=0&port=9&codecs=f32,topk&memory=0";
        let refused = get(run.address, able).await;
        let reason = refused.reason();
        let words = reason.split(' ').rev().nth(2).unwrap();
        missing.push(words.parse::<u64>().unwrap());
        run.handle.cancel("enough was seen");
        run.finish().await;
    }
    // All of it is f32, which needs no model beside.
    assert_eq!(missing[0] - missing[1], 4 * num_params() as u64);
}

#[tokio::test]
async fn a_device_that_cannot_take_part_is_refused_before_any_round() {
    let mut halves = scaffold(2, 1);
    halves.encoding_up = fl_proto::codec::Encoding::new(&fl_proto::codec::F16);
    let run = Run::start(halves).await;
    let able = "codecs=f32,f16&rules=fedavg,scaffold";
    for (query, word) in [
        ("client=0", "no codec f16"),
        ("client=0&codecs=f32", "no codec f16"),
        ("client=0&codecs=f16&rules=fedavg,scaffold", "no codec f32"),
        ("client=0&codecs=f32,f16&rules=fedavg", "no rule scaffold"),
        (&format!("client=0&{able}&memory=100"), "100 are free"),
        (&format!("{able}&memory=0"), "are missing"),
    ] {
        let answer = get(run.address, &format!("/id?{query}&port=9")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.reason());
        assert!(
            answer.reason().contains(word),
            "{query}: {}",
            answer.reason()
        );
    }
    let answer = get(
        run.address,
        &format!("/id?client=0&{able}&memory=100000&port=9"),
    )
    .await;
    let welcome: fl_proto::Welcome = answer.json();
    assert_eq!((&*welcome.rule, &*welcome.encoding_up), ("scaffold", "f16"));
    run.handle.cancel("enough was seen");
    run.finish().await;
}
