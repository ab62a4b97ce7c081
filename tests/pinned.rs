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
        "268ca8bee32321a34cd10ae91844b3e1a79337cd39afffa792379f1ee741f791",
    );
}

#[test]
fn mixed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments/mixed.toml");
    check(
        &[file, "--body", "native"],
        "f130f9a64f03187c136c1631e90ca6e0534bf8de902161ac33a70a7cc352ceac",
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
        "c3e94fb2dc60d46f9f2eae97be050d7cb88be5574d014e26e3bd97c7420a75a1",
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
        "927a2e24f252e6a7012a47a5563adede583a0f477e615fa2424ea6e879852e80",
    );
}
