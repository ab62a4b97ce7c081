//! Tells the sources which role Kconfig gives the image, and whether it measures its stacks.

use std::{env, fs};

/// Switches of Kconfig, and what the sources call them.
const SWITCHES: [(&str, &str); 3] = [
    ("CONFIG_ZFL_GATEWAY=y", "zfl_gateway"),
    ("CONFIG_ZFL_RADIO=y", "zfl_radio"),
    ("CONFIG_INIT_STACKS=y", "zfl_measures_stacks"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DOTCONFIG");
    let path = env::var("DOTCONFIG").expect("Zephyr's build names its configuration in DOTCONFIG");
    println!("cargo::rerun-if-changed={path}");
    let config = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    for (switch, name) in SWITCHES {
        println!("cargo::rustc-check-cfg=cfg({name})");
        if config.lines().any(|line| line == switch) {
            println!("cargo::rustc-cfg={name}");
        }
    }
}
