//! Says `cfg(dsp)` for the targets that have the DSP extension of Arm and `cfg(mainline)` for the others of Armv7-M and
//! Armv8-M, for which stable Rust has no `cfg`.

/// Processor of Armv8-M with the extension, which that target's name does not promise.
const WITH_DSP: &str = "target-cpu=cortex-m33";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(dsp)");
    println!("cargo::rustc-check-cfg=cfg(mainline)");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (target, flags) = (variable("TARGET"), variable("CARGO_ENCODED_RUSTFLAGS"));
    let is_of = |name| target.starts_with(name);
    if is_of("thumbv7em") || is_of("thumbv8m.main") && flags.contains(WITH_DSP) {
        println!("cargo::rustc-cfg=dsp");
    } else if is_of("thumbv7m") || is_of("thumbv8m.main") {
        println!("cargo::rustc-cfg=mainline");
    }
}
