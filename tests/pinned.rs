//! Pins the models of the default run and of the ready experiments by their SHA-256.
//!
//! A change of one of these hashes changes every result of zfl. It needs a record in docs/adr.
//!
//! Run by `cargo xtask test-fleet`.

mod support;

use support::Run;

#[track_caller]
fn check(arguments: &[&str], sha256: &str) {
    assert_eq!(Run::succeeds(arguments).model(), sha256, "{arguments:?}");
}

#[test]
fn the_default_run() {
    check(
        &["--body", "native"],
        "f5b00331701914a6645723980ace0dd3c6e102ade66e1e2265f7835f7f23f194",
    );
}

/// Small, since the default run in integers has no vectors.
#[test]
fn three_devices_in_integers() {
    check(
        &[
            "--body",
            "native",
            "--arithmetic",
            "integer",
            "--clients",
            "3",
            "--rounds",
            "3",
            "--examples",
            "200",
        ],
        "304489e21b864e0b7878280473f59b6ee7890a4c88540f7bb2e486c2bcad8b0a",
    );
}

#[test]
fn mixed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/mixed.toml");
    check(
        &[file, "--body", "native"],
        "5cf816865771894d065b32246c3b485e2ee9b7700abd8b9c7467119403f261ce",
    );
}

#[test]
fn narrowband() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../experiments/narrowband.toml"
    );
    check(
        &[file, "--body", "native"],
        "a1e6df969a2976232006fb9533fd689918d0624fda4821868da6e9f61ae3e0aa",
    );
}

#[test]
fn fedprox() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../experiments/fedprox.toml"
    );
    check(
        &[file, "--body", "native"],
        "66ca9f77939aca35c78999babdefe2b5942ed8df6ed103f7c6b4fa8a8143c3a2",
    );
}

#[test]
fn scaffold() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../experiments/scaffold.toml"
    );
    check(
        &[file, "--body", "native"],
        "2bb5d622b0e765312b4b2fa4d49860970ffc56846ed37864e95a0b2f22c85ebf",
    );
}

/// Emulated, since native devices have no link to cut and no memory of their own.
#[test]
fn unreliable() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../experiments/unreliable.toml"
    );
    check(
        &[file, "--body", "bare", "--rounds", "4"],
        "3eca481ab15d39bcfe4d3f6945707af44fba264430d35a047026c2663ca44fbf",
    );
}
