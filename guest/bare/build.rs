//! Links the firmware by the memory map of its machine. A PC's stands in `arch/x86/link.ld`; that of a
//! microcontroller comes from `[firmware]` of the board's file, with what else the firmware has to know of the board.

use std::env;
use std::path::PathBuf;

#[cfg(feature = "board")]
use board::microcontroller;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build_board.rs");
    println!("cargo::rustc-check-cfg=cfg(armv8m)");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    if target.starts_with("thumbv8m") {
        println!("cargo::rustc-cfg=armv8m");
    }
    println!("cargo::rustc-link-arg-bins=--gc-sections");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86") {
        println!("cargo::rustc-link-arg-bins=--build-id=none");
        if env::var_os("CARGO_FEATURE_RADIO").is_some() {
            println!("cargo::rustc-link-arg-bins=--defsym=RADIO=1");
        }
        script("src/arch/x86/link.ld");
    } else if ["FIRMWARE", "BENCH"].map(|name| env::var_os(format!("CARGO_FEATURE_{name}")))
        != [None, None]
    {
        microcontroller();
    }
}

/// A microcontroller's board is read with a crate that nothing else of the firmware needs.
#[cfg(not(feature = "board"))]
fn microcontroller() {
    panic!(
        "a microcontroller's firmware needs the feature `board`: cargo xtask build-guest --board sets it"
    );
}

#[cfg(feature = "board")]
#[path = "build_board.rs"]
mod board;

fn folder() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .expect("cargo sets CARGO_MANIFEST_DIR")
        .into()
}

fn script(path: &str) {
    println!(
        "cargo::rustc-link-arg-bins=-T{}",
        folder().join(path).display()
    );
    println!("cargo::rerun-if-changed={path}");
}
