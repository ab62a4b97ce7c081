//! Whole runs on native devices whose local training is not that of plain SGD at one rate.

mod support;

use support::{Live, Run, SMALL, signal};

const FLEET: [&str; 6] = ["--clients", "3", "--rounds", "2", "--dashboard", "off"];

/// A small run with more flags, separated by spaces; they take the place of the usual ones.
#[track_caller]
fn run(flags: &str) -> Run {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let usual = [&SMALL[..], &FLEET].concat();
    let kept = usual.chunks(2).filter(|pair| !flags.contains(&pair[0]));
    Run::of(&[&kept.flatten().copied().collect::<Vec<_>>()[..], &flags].concat())
}

#[track_caller]
fn model(flags: &str) -> String {
    let run = run(flags);
    assert_eq!(run.said.status, Some(0), "{flags}: {run:?}");
    run.model()
}

/// The run is refused before anything is made, and says these words.
#[track_caller]
fn is_refused(flags: &str, words: &str) {
    let run = run(flags);
    assert_eq!(run.said.status, Some(2), "{flags}: {run:?}");
    assert!(run.said.err.contains(words), "{flags}: {}", run.said.err);
    assert!(!run.out().exists(), "{flags}");
}

#[test]
fn every_optimizer_gives_one_model_for_one_seed() {
    let all = [
        "--optimizer momentum --lr 0.05",
        "--optimizer adam",
        "--optimizer sgd --optimizer-arg weight_decay=0.01",
        "--optimizer sgd --optimizer-arg clip_norm=0.1",
    ];
    let mut models: Vec<_> = all.iter().map(|flags| model(flags)).collect();
    assert_eq!(models[1], model(all[1]));
    models.push(model(""));
    models.sort_unstable();
    models.dedup();
    assert_eq!(models.len(), all.len() + 1);
}

#[test]
fn sgd_by_name_is_the_default_to_the_bit() {
    let plain = model("");
    assert_eq!(
        plain,
        model("--optimizer sgd --optimizer-arg weight_decay=0")
    );
    assert_eq!(
        plain,
        model("--optimizer sgd --optimizer-arg clip_norm=1e9")
    );
    let adam = model("--optimizer adam");
    assert_eq!(adam, model("--optimizer adam --lr 0.001"));
    assert_ne!(adam, plain);
}

/// Values of a column of `rounds.csv`, from round 1 on.
fn column(run: &Run, name: &str) -> Vec<String> {
    let table = std::fs::read_to_string(run.out().join("rounds.csv")).unwrap();
    let mut lines = table.lines();
    let at = lines
        .next()
        .unwrap()
        .split(',')
        .position(|head| head == name);
    let cell = |line: &str| line.split(',').nth(at.unwrap()).unwrap().to_owned();
    lines.skip(1).map(cell).collect()
}

#[test]
fn the_rate_of_a_round_follows_from_its_number() {
    let halves = "--schedule exponential --schedule-arg gamma=0.5 --lr 0.5";
    let whole = run(halves);
    assert_eq!(column(&whole, "learning_rate"), ["0.5", "0.25"]);
    assert_eq!(column(&run(""), "learning_rate"), ["0.5", "0.5"]);
    assert_ne!(whole.model(), model(""));
    assert_eq!(model("--schedule constant"), model(""));
    let steps = "--schedule step --schedule-arg step_size=1 --schedule-arg gamma=0.5";
    assert_eq!(model(steps), whole.model());
    let warm = run("--schedule warm-up --schedule-arg warmup_rounds=2 --lr 0.5");
    assert_eq!(column(&warm, "learning_rate"), ["0.25", "0.5"]);
    is_refused(
        "--schedule cosine --schedule-arg min_lr=0.6 --lr 0.5",
        "above the learning rate",
    );
    is_refused(
        "--schedule step --schedule-arg gamma=2",
        "from 0.000001 to 1",
    );
}

#[test]
fn a_resumed_run_goes_on_with_the_rate_of_its_round() {
    let flags = "--schedule cosine --schedule-arg warmup_rounds=1 --optimizer momentum --lr 0.05";
    let more: Vec<&str> = flags.split_whitespace().collect();
    let small = [&SMALL[..], &["--clients", "3", "--dashboard", "off"]].concat();
    let long = [&small[..], &["--rounds", "6"], &more].concat();
    let whole = Run::succeeds(&long);
    let mut live = Live::start(&long);
    live.wait_for_round(3);
    signal(live.pid(), "KILL");
    let resumed = Live::resume(live.finish(), &["--dashboard", "off"]).finish();
    assert_eq!(resumed.said.status, Some(0), "{resumed:?}");
    assert_eq!(resumed.model(), whole.model());
    let rates = [&whole, &resumed].map(|run| column(run, "learning_rate"));
    assert_eq!(rates[0], rates[1]);
}

#[test]
fn devices_may_have_hyper_parameters_of_their_own() {
    let flags = "--epochs 1..9 --lr 0.1..0.5 --batch-size 10..60";
    let drawn = run(flags);
    let config = std::fs::read_to_string(drawn.out().join("config.toml")).unwrap();
    assert!(config.contains("uniform = [1, 9]"), "{config}");
    assert_eq!(drawn.model(), model(flags));
    assert_ne!(drawn.model(), model("--epochs 9 --lr 0.5 --batch-size 60"));
    assert_eq!(model("--epochs 2..2 --batch-size 60..60"), model(""));
    is_refused("--epochs 3..1", "lower end");
    let file = support::folder();
    let path = file.path().join("rates.toml");
    let groups = "fleet = [{ count = 1, learning_rate = 0.1 }, { count = 2, local_epochs = { uniform = [1, 4] } }]";
    std::fs::write(&path, groups).unwrap();
    let path = path.to_str().unwrap();
    let flags = [
        "--rounds",
        "1",
        "--dashboard",
        "off",
        "--body",
        "native",
        "--examples",
        "60",
    ];
    let of_groups = Run::succeeds(&[&[path][..], &flags].concat());
    let of_all = Run::succeeds(&[&["--clients", "3"][..], &flags].concat());
    assert_ne!(of_groups.model(), of_all.model());
}

#[test]
fn stragglers_do_some_of_their_epochs_and_may_be_dropped() {
    let four = "--clients 4 --epochs 8 --stragglers 0.75";
    let some = run(four);
    assert_eq!(some.results(), [0, 4, 4]);
    assert_eq!(some.model(), run(four).model());
    let all = run("--clients 4 --epochs 8");
    assert_ne!(some.model(), all.model());
    let dropped = run(&format!("{four} --drop-stragglers"));
    assert_eq!(dropped.said.status, Some(0), "{dropped:?}");
    assert_eq!(dropped.results(), [0, 1, 1]);
    assert!(!dropped.said.err.contains("warning"), "{dropped:?}");
    assert_eq!(dropped.summary()["failures"].as_array().unwrap().len(), 0);
    assert_ne!(dropped.model(), some.model());
    is_refused("--stragglers 1 --drop-stragglers", "lower --stragglers");
    is_refused(
        "--stragglers 0.5 --drop-stragglers --use-late",
        "leave --over-commit",
    );
}

#[test]
fn privacy_without_noise_and_bound_is_fedavg_to_the_bit() {
    let plain = model("--weighting uniform");
    for mechanism in ["central", "local"] {
        let open = format!(
            "--privacy {mechanism} --privacy-arg noise_multiplier=0 --privacy-arg clipping_norm=1e9 --weighting uniform"
        );
        assert_eq!(model(&open), plain, "{mechanism}");
    }
}

#[test]
fn privacy_repeats_and_tells_what_it_cost() {
    let central = run("--privacy central");
    assert_eq!(central.said.status, Some(0), "{central:?}");
    assert_eq!(central.model(), model("--privacy central"));
    assert_ne!(central.model(), model("--weighting uniform"));
    let epsilon = central.summary()["epsilon"].as_f64().unwrap();
    // Two rounds of the Gaussian mechanism with noise 1.
    assert!((5.0..9.0).contains(&epsilon), "{epsilon}");
    let adaptive = "--clients 6 --privacy central-adaptive --privacy-arg noise_multiplier=0.4";
    let adaptive = run(adaptive);
    let table = std::fs::read_to_string(adaptive.out().join("rounds.csv")).unwrap();
    assert!(table.contains("clipping_norm"), "{table}");
    let local =
        "--privacy local --privacy-arg noise_multiplier=0.01 --privacy-arg clipping_norm=0.5";
    assert_eq!(model(local), model(local));
}

#[test]
fn an_adapted_bound_survives_a_kill() {
    let flags =
        "--rounds 6 --clients 6 --privacy central-adaptive --privacy-arg noise_multiplier=0.4";
    let usual = "--body native --examples 120 --epochs 2 --batch-size 60 --dashboard off";
    let all = format!("{usual} {flags}");
    let long: Vec<&str> = all.split_whitespace().collect();
    let whole = Run::succeeds(&long);
    let mut live = Live::start(&long);
    live.wait_for_round(4);
    signal(live.pid(), "KILL");
    let resumed = Live::resume(live.finish(), &["--dashboard", "off"]).finish();
    assert_eq!(resumed.said.status, Some(0), "{resumed:?}");
    assert_eq!(resumed.model(), whole.model());
    let spent = [&whole, &resumed].map(|run| run.summary()["epsilon"].clone());
    assert_eq!(spent[0], spent[1]);
}

#[test]
fn privacy_that_would_not_hold_is_refused() {
    is_refused("--privacy-arg noise_multiplier=1", "has no name");
    is_refused("--privacy central --strategy scaffold", "client_variate");
    is_refused(
        "--privacy central --strategy multi-krum",
        "take --strategy fedavg",
    );
    is_refused(
        "--privacy central --weighting num-examples",
        "leave --weighting out",
    );
    is_refused(
        "--privacy central --selection round-robin",
        "leave --selection out",
    );
    is_refused("--privacy central --use-late", "leave --use-late out");
    is_refused("--privacy central-adaptive", "clipped_count_stddev");
    is_refused(
        "--privacy local --privacy-arg delta=1",
        "from 0.000000000001 to 0.5",
    );
}

#[test]
fn integer_arithmetic_is_refused_for_all_but_plain_sgd() {
    for asked in [
        "--optimizer adam",
        "--optimizer momentum",
        "--optimizer-arg weight_decay=0.1",
        "--optimizer-arg clip_norm=1",
        "--strategy fedprox --strategy-arg proximal_mu=0.1",
        "--strategy scaffold",
        "--strategy feddyn",
        "--strategy ditto",
        "--strategy fedrep",
        "--strategy distillation",
    ] {
        let asked = format!("--arithmetic integer {asked}");
        is_refused(&asked, "arithmetic integer trains by plain SGD");
    }
    for strategy in [
        "fedprox --strategy-arg proximal_mu=0",
        "fedavgm",
        "fednova",
        "median",
    ] {
        let run = run(&format!("--arithmetic integer --strategy {strategy}"));
        assert_eq!(run.said.status, Some(0), "{strategy}: {:?}", run.said);
    }
}

#[test]
fn an_optimizer_is_refused_where_the_algorithm_counts_the_steps_of_sgd() {
    is_refused(
        "--strategy scaffold --optimizer adam",
        "take --optimizer sgd",
    );
    is_refused(
        "--strategy scaffold --optimizer-arg weight_decay=0.1",
        "without weight_decay",
    );
    is_refused(
        "--strategy fednova --optimizer adam",
        "take --optimizer sgd",
    );
    let nova = "--strategy fednova --strategy-arg rho=0.9 --optimizer";
    is_refused(
        &format!("{nova} sgd"),
        "--optimizer momentum with momentum=0.9",
    );
    assert_eq!(
        run(&format!("{nova} momentum --lr 0.05")).said.status,
        Some(0)
    );
    is_refused("--optimizer adamw", "'adam'");
    is_refused("--optimizer-arg momentum=0.9", "no `momentum`");
    is_refused(
        "--optimizer momentum --optimizer-arg momentum=1",
        "from 0 to 0.99",
    );
}
