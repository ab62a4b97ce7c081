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
            local_epochs: Some(7),
            batch_size: Some(30),
        },
        time: Some(Time::Host),
        ..Settings::default()
    };
    let both = flags.over(file(), &|_| None).unwrap();
    assert_eq!(both.examples_per_client, Some(300));
    let of = |training: &TrainingSettings| (training.local_epochs, training.batch_size);
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
fn mistakes_are_named() {
    let refused = |text: &str, part: &str| {
        let reason = Settings::parse(text).unwrap_err();
        assert!(reason.contains(part), "{reason}");
    };
    refused("round = 3", "unknown field `round`, did you mean `rounds`?");
    refused("rounds = 0", "rounds: give at least 1");
    refused("[[fleet]]\nname = \"x\"", "fleet 1: count: give at least 1");
    refused("[[fleet]]\ncount = 1\nloss = 5", "fleet 1: loss");
    refused("[[fleet]]\ncount = 1\nspeed = 5", "unknown field `speed`");
    refused("learning_rate = nan", "learning_rate");
    refused("name = \"../x\"", "name: take letters");
    refused("[faults]\ndropout = 1", "unknown field `dropout`");
    refused(
        "[[fleet]]\ncount = 1\nexample = 5",
        "did you mean `examples`?",
    );
    refused(
        "[faults]\ncrash = { probability = 0, reboot = true }",
        "a probability above 0",
    );
}
