//! The profile of releases: what runs for each example and each parameter is optimised there, what stands in it exists, and no
//! crate of a newcomer's first run is built twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use toml::Table;

fn read(path: &str) -> Table {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join(path)).unwrap();
    text.parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Packages of a workspace's release profile, with the level of each.
fn levels(path: &str) -> Vec<(String, i64)> {
    let file = read(path);
    let packages = file["profile"]["release"]["package"].as_table().unwrap();
    let level = |package: &toml::Value| package.get("opt-level").and_then(toml::Value::as_integer);
    let levels = packages.iter();
    levels
        .filter_map(|(name, package)| Some((name.clone(), level(package)?)))
        .collect()
}

#[test]
fn what_is_fast_in_firmware_is_fast_on_the_host() {
    let host = levels("Cargo.toml");
    let hot = levels("guest/bare/Cargo.toml");
    assert!(hot.len() > 4, "{hot:?}");
    for fast in hot {
        assert!(
            host.contains(&fast),
            "{fast:?} of the firmware is slower in Cargo.toml"
        );
    }
}

#[test]
fn no_crate_of_the_profile_is_gone() {
    let lock = read("Cargo.lock");
    let packages = lock["package"].as_array().unwrap().iter();
    let known: BTreeSet<_> = packages
        .filter_map(|package| package["name"].as_str())
        .collect();
    for (name, _) in levels("Cargo.toml") {
        assert!(
            name == "*" || known.contains(name.as_str()),
            "{name} is no crate of Cargo.lock"
        );
    }
}

/// Packages of a program, with their features, as `cargo xtask run` builds it.
fn made_of(package: &str) -> BTreeMap<String, String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    cargo.args(["tree", "--locked", "--offline", "--edges", "normal,build"]);
    cargo.args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"]);
    let output = cargo.args(["--package", package]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let pairs = lines.lines().filter_map(|line| line.split_once('|'));
    pairs
        .map(|(name, features)| (name.to_owned(), features.to_owned()))
        .collect()
}

#[test]
fn xtask_and_zfl_share_their_crates() {
    let (own, zfl) = (made_of("xtask"), made_of("zfl"));
    // A fifth of a second, of a build script there.
    let is_small = |name: &str| name.starts_with("semver ");
    let shared = own
        .iter()
        .filter(|(name, _)| zfl.contains_key(*name) && !is_small(name));
    let shared: Vec<_> = shared.collect();
    assert!(shared.len() > 30, "{shared:?}");
    for (name, features) in shared {
        assert_eq!(
            (name, features),
            (name, &zfl[name]),
            "it is built twice: xtask/Cargo.toml has to ask for what zfl asks for"
        );
    }
}
