//! The object that a device runs a client rule by, with a rule made for these tests.

use fl_algo::*;
use fl_nn::{Activation, Correction, Model, Shape};

/// Parameters of [`model`].
const NUM_PARAMS: usize = 3 * 2;

fn model() -> Model {
    Model::new(Shape::new(&[2, 2]).unwrap(), Activation::Relu)
}

/// Two passes a round, a vector of each kind, and numbers to tell.
struct Everything;

static SPECS: [VectorSpec; 3] = [
    spec("down", Length::Fixed(2), [true, false, false]),
    spec("kept", Length::Fixed(3), [false, true, true]),
    spec("own", Length::Model, [false, false, true]),
];

const fn spec(name: &'static str, length: Length, [down, up, kept]: [bool; 3]) -> VectorSpec {
    VectorSpec {
        name,
        length,
        down,
        up,
        kept,
    }
}

static HALF: DeviceHalf = DeviceHalf {
    rule: "everything",
    params: &[],
    client: &Everything,
};

impl ClientRule for Everything {
    fn vectors(&self, _: &Params) -> &'static [VectorSpec] {
        &SPECS
    }

    fn corrects(&self, _: &Params, _: &Vectors) -> bool {
        true
    }

    fn stays(&self, _: &Params) -> Stays {
        Stays::LastLayers(1)
    }

    fn correct(&self, _: &Params, _: &mut Vectors, first: usize, _: &[f32], gradient: &mut [f32]) {
        gradient.fill(first as f32);
    }

    fn end(&self, _: &Params, job: &LocalJob<'_>, _: &mut [f32], vectors: &mut Vectors) -> Pass {
        vectors.get_mut(1).fill(job.round as f32);
        if job.pass == 0 {
            Pass::Again
        } else {
            Pass::Done
        }
    }

    fn metrics(&self, _: &Params, vectors: &Vectors, report: &mut dyn FnMut(&str, f32)) {
        report("kept", vectors.get(1)[0]);
    }
}

fn prepared() -> LocalRule {
    let mut rule = LocalRule::new(&HALF, Sizes::from(model().shape()));
    rule.prepare([("unknown", 1.0)]).unwrap();
    rule
}

/// Runs a pass of `round`.
fn pass(rule: &mut LocalRule, round: u32, pass: u32) -> Pass {
    let model = model();
    let job = LocalJob {
        round,
        state_round: 0,
        pass,
        local_epochs: 1,
        batch_size: 1,
        learning_rate: 0.1,
        seed: 1,
        model: &model,
        inputs: (&[0; 0]).into(),
        labels: &[],
        steps: 0,
        loss: 0.0,
    };
    rule.begin(&job, &mut [0.0; NUM_PARAMS]);
    rule.end(&job, &mut [0.0; NUM_PARAMS])
}

#[test]
fn sections_go_where_the_rule_says() {
    let mut rule = prepared();
    assert_eq!(rule.bytes(), 4 * (2 + 3 + NUM_PARAMS as u64));
    assert_eq!(rule.down_mut("down").map(|values| values.len()), Some(2));
    assert!(rule.down_mut("kept").is_none() && rule.down_mut("own").is_none());
    assert_eq!(rule.state_mut("kept").map(|values| values.len()), Some(3));
    assert!(rule.state_mut("down").is_none() && rule.state_mut("own").is_none());
    assert_eq!(
        (rule.vector("kept"), rule.vector("none")),
        (&[0.0; 3][..], &[][..])
    );
    assert_eq!(rule.name(), "everything");
}

#[test]
fn sections_of_every_message_are_told_with_their_exactness() {
    let section = |name, count, exact| SectionSpec { name, count, exact };
    let sections = |rule: &LocalRule, way| rule.sections(way).collect::<Vec<_>>();
    // A rule of which no part of the model travels, and that keeps what goes up.
    let rule = prepared();
    assert_eq!(sections(&rule, Way::Down), [section("down", 2, true)]);
    assert_eq!(sections(&rule, Way::Up), [section("kept", 3, true)]);
    assert_eq!(sections(&rule, Way::State), [section("kept", 3, true)]);
    let mut plain = LocalRule::named("fedavg", 5).unwrap();
    assert_eq!(sections(&plain, Way::Up), [section(MODEL, 5, false)]);
    assert_eq!(sections(&plain, Way::State), []);
    assert!(
        plain.correction().is_none(),
        "so that training takes the short way"
    );
}

#[test]
fn the_state_is_that_of_the_last_round_that_was_done() {
    let mut rule = prepared();
    assert!(!rule.needs_state(0));
    assert!(rule.needs_state(3), "its own is of round 0");
    assert_eq!(pass(&mut rule, 3, 0), Pass::Again);
    assert!(rule.needs_state(3), "the round is not done");
    assert_eq!(pass(&mut rule, 3, 1), Pass::Done);
    assert!(!rule.needs_state(3));
    // A server without a copy: the device begins anew.
    assert!(!rule.needs_state(0));
    assert_eq!(rule.state_mut("kept").unwrap(), [0.0; 3]);
    rule.state_arrived(7);
    assert!(!rule.needs_state(7));
    assert!(!LocalRule::named("fedavg", 5).unwrap().needs_state(7));
}

#[test]
fn a_broken_fetch_leaves_the_state_of_no_round() {
    let mut rule = prepared();
    pass(&mut rule, 3, 1);
    assert!(!rule.needs_state(3));
    // Half of a section came, and then the connection broke.
    rule.state_mut("kept").unwrap()[0] = 9.0;
    assert!(rule.needs_state(3), "a mixture is the state of no round");
    rule.state_arrived(3);
    assert!(!rule.needs_state(3));
}

#[test]
fn a_rule_tells_its_numbers_and_corrects_by_segments() {
    let mut rule = prepared();
    pass(&mut rule, 4, 1);
    let mut told = Vec::new();
    rule.metrics(&mut |name, value| told.push((name.to_owned(), value)));
    assert_eq!(told, [("kept".to_owned(), 4.0)]);
    let mut gradient = [1.0; 2];
    let mut correction = rule.correction().unwrap();
    correction.correct(6, &[0.0; 2], &mut gradient);
    assert_eq!(gradient, [6.0; 2]);
}

#[test]
fn what_a_device_cannot_run_is_refused_with_why() {
    let text = |error: RuleError| error.to_string();
    let unknown = LocalRule::named("fedmagic", 5).unwrap_err();
    assert_eq!(text(unknown), "this device does not know the rule");
    let mut prox = LocalRule::named("fedprox", usize::MAX / 8).unwrap();
    let refused = prox.prepare([("proximal_mu", -1.0)]).unwrap_err();
    assert_eq!(
        text(refused),
        "proximal_mu is -1, it must be from 0 to 1000000"
    );
    let refused = prox.prepare([("proximal_mu", 1.0)]).unwrap_err();
    assert!(text(refused).contains("bytes, this device has not so many"));
}

#[test]
fn in_logs_a_rule_is_its_name_and_not_its_vectors() {
    let shown = format!("{:?}", prepared());
    assert!(shown.contains("everything") && shown.contains("state_round"));
    assert!(!shown.contains("buffers"), "{shown}");
    let shown = format!("{:?}", find("multi-krum").unwrap());
    assert!(
        shown.contains("multi-krum") && shown.contains("fedavg"),
        "{shown}"
    );
}
