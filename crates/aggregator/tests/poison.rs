//! Updates that pass every check of their own and leave a mean that nobody can evaluate: they fail their
//! devices, never the run.

mod support;

use fl_algo::{SectionSpec, Sizes, Way};
use fl_nn::{Activation, Model, Shape};
use fl_proto::Arithmetic;
use fl_proto::codec::F32;
use fl_proto::message::{self, Kind, MODEL, Outgoing};
use support::{Device, Finished, Order, Run, config, data, get};
use zfl_aggregator::Config;

/// The largest number that an update may bring.
const LARGEST: f32 = 1e9;

/// A model with so many layers that numbers which an update may bring overflow in it.
const LAYERS: [usize; 8] = [4, 3, 3, 3, 3, 3, 3, 2];

/// Four clients, all of them in each round.
fn deep(strategy: &str, rounds: u32) -> Config {
    let mut algorithm = fl_algo::Choice::named(strategy).unwrap();
    match strategy {
        "fedbuff" => algorithm.set("buffer_size", 4.0).unwrap(),
        "fedavgm" | "fednova" => algorithm.set("server_momentum", 0.9).unwrap(),
        _ => {}
    }
    Config {
        model: Model::new(Shape::new(&LAYERS).unwrap(), Activation::Relu),
        arithmetic: Arithmetic::Float,
        algorithm,
        ..config(4, rounds)
    }
}

/// Harm that an update does to the mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    /// None: the update is honest.
    None,
    /// It overflows, but not on the client's own examples.
    Hidden,
    /// The first half of the layers is as large as can be, the second is zero.
    FirstHalf,
    /// The other way round.
    SecondHalf,
    /// It is refused when it comes.
    Refused,
    /// One number is larger than any update may bring.
    TooLarge,
}

/// Places of the weight from the first unit to the first, and of the first bias, layer by layer.
fn places() -> Vec<(usize, usize)> {
    let mut at = 0;
    let mut places = Vec::new();
    for pair in LAYERS.windows(2) {
        places.push((at, at + pair[0] * pair[1]));
        at += pair[0] * pair[1] + pair[1];
    }
    places
}

/// Parameters that do it.
async fn harmful(run: &Run, device: &Device, order: &Order, harm: Harm) -> Vec<f32> {
    let mut params = device.train(order);
    let layers = places();
    match harm {
        Harm::None => {}
        Harm::Refused => params[0] = f32::NAN,
        Harm::TooLarge => params[0] = 2.0 * LARGEST,
        Harm::FirstHalf | Harm::SecondHalf => {
            params.fill(0.0);
            let half = layers.len() / 2;
            let own = if harm == Harm::FirstHalf {
                &layers[..half]
            } else {
                &layers[half..]
            };
            own.iter().for_each(|(weight, _)| params[*weight] = LARGEST);
        }
        Harm::Hidden => {
            let own = get(run.address, &format!("/training-data?id={}", device.id)).await;
            let most = |inputs: &[u8], at: usize| {
                inputs.chunks(4).map(|example| example[at]).max().unwrap()
            };
            let (own, test) = (own.body, data().test.inputs);
            let gap = |at: &usize| i16::from(most(&test, *at)) - i16::from(most(&own, *at));
            let input = (0..4).max_by_key(gap).unwrap();
            assert!(
                gap(&input) > 0,
                "the test set has an input that is larger than its own"
            );
            params.fill(0.0);
            params[input * LAYERS[1]] = LARGEST;
            params[layers[0].1] = -LARGEST * (f32::from(most(&own, input)) + 0.5) / 255.0;
            layers[1..]
                .iter()
                .for_each(|(weight, _)| params[*weight] = LARGEST);
        }
    }
    params
}

/// A message with all that the strategy's devices send.
fn message_of(device: &Device, order: &Order, strategy: &str, params: &[f32]) -> Vec<u8> {
    let choice = fl_algo::Choice::named(strategy).unwrap();
    let mut results = device.results(order);
    for (name, told) in [("global_loss", 1.5), ("learning_rate", 0.5)] {
        assert!(results.metrics.set(name, told));
    }
    let sizes = Sizes::from(&Shape::new(&LAYERS).unwrap());
    let half = choice.algorithm.device;
    let sections = half.sections(&choice.device_params, Way::Up, &sizes);
    let small: Vec<f32> = params.iter().map(|param| param.clamp(-1e5, 1e5)).collect();
    let outgoing = |section: SectionSpec| Outgoing {
        name: section.name,
        codec: &F32,
        plan: fl_proto::codec::Plan::default(),
        numbers: match section.name {
            MODEL => params,
            _ => &small[..section.count],
        },
    };
    let sections: Vec<_> = sections.map(outgoing).collect();
    let control = serde_json::to_vec(&results).unwrap();
    message::encode(Kind::Results, &control, &sections).unwrap()
}

/// Runs a strategy in which clients do harm in each round but the last; they deliver in that order.
async fn run(config: Config, harm: [Harm; 4], order: [usize; 4]) -> Finished {
    let strategy = config.algorithm.algorithm.name;
    let rounds = config.rounds;
    let run = Run::start(config).await;
    let mut devices = run.devices(4).await;
    for _ in 1..rounds {
        deliver(&run, &mut devices, strategy, harm, order).await;
    }
    deliver(&run, &mut devices, strategy, [Harm::None; 4], order).await;
    run.finish().await
}

/// Lets all deliver for a round, in that order.
async fn deliver(
    run: &Run,
    devices: &mut [Device],
    strategy: &str,
    harm: [Harm; 4],
    order: [usize; 4],
) {
    for client in order {
        let (device, harm) = (&mut devices[client], harm[client]);
        let order = device.order().await;
        let params = harmful(run, device, &order, harm).await;
        let body = message_of(device, &order, strategy, &params);
        let answer = device.post(&body).await;
        let refused = [Harm::Refused, Harm::TooLarge].contains(&harm);
        let status = if refused { 422 } else { 200 };
        assert_eq!(answer.status, status, "{harm:?}: {}", answer.reason());
    }
}

const ORDER: [usize; 4] = [0, 1, 2, 3];

#[tokio::test]
async fn an_update_that_ruins_the_mean_fails_its_device_whatever_the_algorithm() {
    use Harm::{Hidden, None, Refused};
    for strategy in [
        "fedavg", "fedprox", "scaffold", "fedbuff", "fedavgm", "fednova",
    ] {
        let without = run(deep(strategy, 3), [Refused, None, None, None], ORDER).await;
        assert!(without.summary.success, "{:?}", without.summary.reason);
        for order in [ORDER, [3, 1, 2, 0]] {
            let with = run(deep(strategy, 3), [Hidden, None, None, None], order).await;
            assert!(
                with.summary.success,
                "{strategy}: {:?}",
                with.summary.reason
            );
            assert_eq!(
                with.summary.model_sha256, without.summary.model_sha256,
                "{strategy}"
            );
            let failures = with.failures();
            assert_eq!(failures.len(), 2, "{failures:?}");
            for (at, (round, client, reason)) in failures.into_iter().enumerate() {
                assert_eq!((round, client), (at as u32 + 1, 0));
                assert!(reason.contains("the model cannot be tested"), "{reason}");
            }
            let rows = with.table("rounds.csv", &["results", "failures"]);
            assert_eq!(rows[1..], [["3", "1"], ["3", "1"], ["4", "0"]]);
        }
    }
}

/// All of them but those that end a round before all have delivered, or move no whole model.
#[tokio::test]
async fn an_update_fails_no_run_whatever_the_algorithm() {
    use Harm::{FirstHalf, Hidden, None, SecondHalf};
    for strategy in fl_algo::ALGORITHMS.iter().map(|known| known.name) {
        let config = || deep(strategy, 3);
        let Config {
            algorithm, model, ..
        } = config();
        let rule = algorithm.server(model.shape(), 4, 4, 1).unwrap();
        if rule.depends_on_time() || !algorithm.has_global_model() {
            continue;
        }
        for harm in [
            [Hidden, None, None, None],
            [FirstHalf, None, None, SecondHalf],
        ] {
            let one = run(config(), harm, ORDER).await;
            let reason = &one.summary.reason;
            assert!(one.summary.success, "{strategy}, {harm:?}: {reason:?}");
            let other = run(config(), harm, [3, 1, 2, 0]).await;
            let models = [one, other].map(|run| run.summary.model_sha256);
            assert_eq!(models[0], models[1], "{strategy}, {harm:?}");
        }
    }
}

#[tokio::test]
async fn several_ruin_nothing_but_their_own_rounds() {
    use Harm::{FirstHalf, Hidden, None, Refused, SecondHalf};
    let cases = [
        (
            [Hidden, Hidden, Hidden, None],
            [Refused, Refused, Refused, None],
        ),
        // Either could be tested alone.
        (
            [FirstHalf, SecondHalf, None, None],
            [Refused, None, None, None],
        ),
    ];
    for (harm, like) in cases {
        let mut models = Vec::new();
        for order in [ORDER, [2, 0, 3, 1]] {
            let with = run(deep("fedavg", 2), harm, order).await;
            assert!(with.summary.success, "{harm:?}: {:?}", with.summary.reason);
            models.push(with.summary.model_sha256);
        }
        assert_eq!(models[0], models[1], "{harm:?}");
        if harm[1] == Hidden {
            assert_eq!(
                models[0],
                run(deep("fedavg", 2), like, ORDER)
                    .await
                    .summary
                    .model_sha256
            );
        }
    }
}

#[tokio::test]
async fn where_all_are_ruinous_the_run_fails_and_names_the_largest() {
    let run = Run::start(deep("fedavg", 2)).await;
    let mut devices = run.devices(4).await;
    deliver(&run, &mut devices, "fedavg", [Harm::Hidden; 4], ORDER).await;
    let finished = run.finish().await;
    let reason = finished.summary.reason.expect("it fails");
    for part in [
        "round 1: the largest parameter, 1e9, is of client",
        "diverged",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn a_number_that_no_training_comes_to_is_refused_when_it_comes() {
    let finished = run(
        deep("fedavg", 2),
        [Harm::TooLarge, Harm::None, Harm::None, Harm::None],
        ORDER,
    );
    let finished = finished.await;
    assert!(finished.summary.success, "{:?}", finished.summary.reason);
    let [(1, 0, why)] = finished.failures()[..] else {
        panic!("{:?}", finished.failures());
    };
    assert_eq!(
        why,
        "parameter 0 is 2e9, more than 1e9: the training diverged, lower the learning rate"
    );
}

#[tokio::test]
async fn a_quorum_counts_the_updates_that_were_used() {
    let strict = Config {
        quorum: 4,
        ..deep("fedavg", 1)
    };
    let run = Run::start(strict).await;
    let mut devices = run.devices(4).await;
    let harm = [Harm::None, Harm::Hidden, Harm::None, Harm::None];
    deliver(&run, &mut devices, "fedavg", harm, ORDER).await;
    let finished = run.finish().await;
    let reason = finished.summary.reason.as_ref().expect("it fails");
    let said = "round 1: 3 of 4 updates could be used, the quorum is 4: that of client 1: left out";
    assert!(reason.starts_with(said), "{reason}");
    let clients = finished.table("clients.csv", &["client", "outcome"]);
    assert_eq!(clients.len(), 4);
    assert!(clients[1][1].starts_with("left out"), "{clients:?}");
}
