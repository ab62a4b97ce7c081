//! Fleets of emulated devices, each a QEMU that boots: they train, and to the bit what native devices
//! do.
//!
//! Run by `cargo xtask test-fleet`.

mod support;

use support::Run;

/// The model of a run.
#[track_caller]
fn model(body: &[&str], arguments: &[&str]) -> String {
    Run::succeeds(&[body, arguments].concat()).model()
}

const NATIVE: [&str; 2] = ["--body", "native"];
const BARE: [&str; 2] = ["--body", "bare"];

#[test]
fn two_devices_agree_on_every_body_and_board() {
    let arguments = ["--clients", "2", "--rounds", "3", "--seed", "4"];
    let native = model(&NATIVE, &arguments);
    assert_eq!(model(&NATIVE, &arguments), native, "native, again");
    assert_eq!(model(&BARE, &arguments), native, "bare");
    assert_eq!(model(&BARE, &arguments), native, "bare, again");
    assert_eq!(
        model(&["--board", "q35"], &arguments),
        native,
        "bare on q35"
    );
}

#[test]
fn all_of_the_arithmetic_agrees() {
    for arguments in [
        [
            "--arithmetic",
            "float",
            "--hidden",
            "20,12",
            "--activation",
            "sigmoid",
        ],
        [
            "--arithmetic",
            "fixed",
            "--hidden",
            "33,7",
            "--activation",
            "relu",
        ],
    ] {
        let sizes = [
            "--clients",
            "2",
            "--rounds",
            "2",
            "--examples",
            "300",
            "--batch-size",
            "70",
        ];
        let arguments = [&arguments[..], &sizes].concat();
        assert_eq!(
            model(&NATIVE, &arguments),
            model(&BARE, &arguments),
            "{arguments:?}"
        );
    }
}

#[test]
fn qemus_own_network_gives_the_same_model() {
    let arguments = ["--clients", "3", "--rounds", "2"];
    let native = model(&NATIVE, &arguments);
    assert_eq!(model(&["--network", "user"], &arguments), native);
}

#[test]
fn fifty_devices_agree_and_are_small() {
    let arguments = ["--clients", "50", "--rounds", "2", "--epochs", "1"];
    let native = model(&NATIVE, &arguments);
    for _ in 0..2 {
        let run = Run::succeeds(&arguments);
        assert_eq!(run.model(), native);
        let memory = &run.summary()["memory"];
        assert_eq!(memory["devices"], 50);
        // What the README promises: 16 MB of private memory a device.
        assert!(
            memory["private_bytes_max"].as_u64().unwrap() <= 16_000_000,
            "{memory}"
        );
    }
}

#[test]
fn some_of_the_fleet_in_each_round() {
    let arguments = [
        "--clients",
        "6",
        "--clients-per-round",
        "2",
        "--rounds",
        "4",
        "--epochs",
        "1",
    ];
    assert_eq!(model(&BARE, &arguments), model(&NATIVE, &arguments));
}
