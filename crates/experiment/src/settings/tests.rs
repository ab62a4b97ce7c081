use super::*;

const FILE: &str = "\
rounds = 4
link = \"wifi\"
[[fleet]]
count = 3
board = \"q35\"
[[fleet]]
name = \"slow\"
count = 2
mips = 31.25
loss = 0.1
examples = 200
local_epochs = 2
batch_size = 20
[faults]
drop_out = 0.3
crash = { probability = 0.1, reboot = true }
";

#[test]
fn a_file_is_read() {
    let file = Settings::parse(FILE).unwrap();
    assert_eq!((file.rounds, file.fleet.len()), (Some(4), 2));
    assert_eq!(file.device.link.as_deref(), Some("wifi"));
    let slow = &file.fleet[1];
    assert_eq!((slow.count, slow.device.mips), (Some(2), Some(31.25)));
    assert!(file.faults.crash.reboot);
}

#[test]
fn flags_go_first() {
    let flags = Settings {
        rounds: Some(9),
        device: DeviceSettings {
            body: Some(BodyChoice::Native),
            loss: Some(0.2),
            ..DeviceSettings::default()
        },
        ..Settings::default()
    };
    let both = flags
        .over(Settings::parse(FILE).unwrap(), &|_| None)
        .unwrap();
    assert_eq!(both.rounds, Some(9));
    let first = &both.fleet[0].device;
    assert_eq!(
        (first.body, &first.board),
        (Some(BodyChoice::Native), &None)
    );
    assert_eq!(both.fleet[1].device.loss, Some(0.2));
    assert_eq!(
        both.fleet[1].device.mips, None,
        "native devices have no speed of their own"
    );
    assert_eq!(
        (both.faults.drop_out, both.faults.crash.probability),
        (0.3, 0.1)
    );
}

/// The `config.toml` of a run has a line for each group: there a flag would else change nothing.
#[test]
fn flags_go_before_what_a_group_says() {
    let file = || Settings::parse(FILE).unwrap();
    let flags = Settings {
        examples_per_client: Some(300),
        training: TrainingSettings {
            local_epochs: Some(Spread::All(7)),
            batch_size: Some(Spread::All(30)),
            learning_rate: None,
        },
        time: Some(Time::Host),
        ..Settings::default()
    };
    let both = flags.over(file(), &|_| None).unwrap();
    assert_eq!(both.examples_per_client, Some(300));
    let most = |spread: Option<Spread<u32>>| spread.map(|spread| spread.most());
    let of = |training: &TrainingSettings| (most(training.local_epochs), most(training.batch_size));
    assert_eq!(of(&both.training), (Some(7), Some(30)));
    let slow = &both.fleet[1];
    assert_eq!((slow.examples, of(&slow.training)), (None, (None, None)));
    assert_eq!(slow.device.mips, None);
    let none = Settings::default().over(file(), &|_| None).unwrap();
    let slow = &none.fleet[1];
    let own = (Some(200), (Some(2), Some(20)));
    assert_eq!((slow.examples, of(&slow.training)), own);
    assert_eq!(slow.device.mips, Some(31.25));
}

#[test]
fn a_flag_takes_trouble_away_too() {
    let over = |flags: FaultFlags| {
        let flags = Settings {
            fault_flags: flags,
            ..Settings::default()
        };
        flags.over(Settings::parse(FILE).unwrap(), &|_| None)
    };
    let none = FaultFlags {
        drop_out: Some(0.0),
        crash: Some(0.0),
        reboot: None,
    };
    assert!(over(none.clone()).unwrap().faults.is_empty());
    let reboot = FaultFlags {
        reboot: Some(true),
        ..none
    };
    let Refusal(reason) = over(reboot).unwrap_err();
    assert!(reason.contains("--crash"), "{reason}");
    let more = FaultFlags {
        crash: Some(0.4),
        ..FaultFlags::default()
    };
    let crash = over(more).unwrap().faults.crash;
    assert_eq!((crash.probability, crash.reboot), (0.4, true));
}

#[test]
fn a_fleet_says_how_many_it_is() {
    let flags = Settings {
        clients: Some(9),
        ..Settings::default()
    };
    let file = Settings::parse(FILE).unwrap();
    let Refusal(reason) = flags.over(file, &|_| None).unwrap_err();
    assert!(reason.contains("leave --clients out"), "{reason}");
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, line, column, words) in [
        (
            "round = 3",
            1,
            1,
            "there is no key `round` here: did you mean `rounds`?",
        ),
        (
            "# night\n\nlearning_rat = 0.1",
            3,
            1,
            "did you mean `learning_rate`?",
        ),
        (
            "rounds = 0",
            1,
            10,
            "`rounds` is 0: give a whole number from 1",
        ),
        ("body = \"Native\"", 1, 8, "did you mean \"native\"?"),
        (
            "loss = \"5%\"",
            1,
            8,
            "`loss` is \"5%\": give a number from 0 to 1, such as 0.05",
        ),
        (
            "seed = 2\n[[fleet]]\nname = \"x\"",
            2,
            1,
            "`count` is missing in an item of `fleet`",
        ),
        ("[[fleet]]\ncount = 1\nloss = 5", 3, 8, "`loss` is 5"),
        (
            "[[fleet]]\ncount = 1\nbody = \"Bare\"",
            3,
            8,
            "did you mean \"bare\"?",
        ),
        (
            "[[fleet]]\ncount = 1\nspeed = 5",
            3,
            1,
            "there is no key `speed` here",
        ),
        (
            "[[fleet]]\ncount = 1\nexample = 5",
            3,
            1,
            "did you mean `examples`?",
        ),
        (
            "[[fleet]]\ncount = 1\nseed = 5",
            3,
            1,
            "`seed` belongs to the top of the file",
        ),
        (
            "learning_rate = nan",
            1,
            17,
            "`learning_rate` is nan: give a number above 0",
        ),
        (
            "learning_rate = inf",
            1,
            17,
            "`learning_rate`: give a number above 0",
        ),
        ("name = \"../x\"", 1, 8, "`name`: take letters"),
        ("[faults]\ndropout = 1", 2, 1, "did you mean `drop_out`?"),
        ("drop_out = 0.1", 1, 1, "`drop_out` belongs to [faults]"),
        (
            "faults.crash = { probability = 0, reboot = true }",
            1,
            44,
            "a probability above 0",
        ),
        (
            "[faults]\ncrash = 0.1",
            2,
            9,
            "`crash` is 0.1: give a table",
        ),
        (
            "[faults.freeze]\nprobability = 0.5\nfor_ms = 0",
            1,
            2,
            "freeze needs for_ms",
        ),
        (
            "[[faults.schedule]]\nround = 1\nclient = 0\nfault = \"fire\"",
            4,
            9,
            "give one of \"drop-out\"",
        ),
        (
            "[[faults.schedule]]\nround = 1\nclient = 0\nfault = \"cut\"",
            1,
            1,
            "`for_ms` is missing",
        ),
        (
            "[[faults.schedule]]\nround = 1\nclient = 0\nfault = \"cut\"\nreboot = true\nfor_ms = 1",
            5,
            1,
            "no key `reboot`",
        ),
        (
            "strategy = \"fedprocks\"",
            1,
            12,
            "did you mean \"fedprox\"?",
        ),
        (
            "[strategy]\nname = \"fedprox\"\nproximal_nu = 1",
            3,
            1,
            "did you mean `proximal_mu`?",
        ),
        (
            "[strategy]\nname = \"fedprox\"\nproximal_mu = -1",
            3,
            15,
            "give a number from 0",
        ),
        (
            "[strategy]\nname = \"fedprox\"\nbuffer_size = 2",
            3,
            15,
            "strategy fedprox: there is no `buffer_size`",
        ),
        (
            "strategy.name = \"fedbuff\"\nstrategy.buffer_size = 2.5",
            2,
            24,
            "it must be a whole number",
        ),
        (
            "[[fleet]]\ncount = 1\nattack = \"sign-flap\"",
            3,
            10,
            "did you mean \"sign-flip\"?",
        ),
        (
            "hidden = \"16\"",
            1,
            10,
            "give a list in brackets, each a whole number from 1",
        ),
    ] {
        let found = Settings::parse(text).unwrap_err();
        assert!(
            found.problem.contains(words),
            "{text:?}: no {words:?} in {found}"
        );
        assert_eq!(
            (found.line, found.column),
            (line, column),
            "{text:?}: {found}"
        );
    }
}
