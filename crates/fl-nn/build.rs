//! Says `cfg(dsp)` for the targets that have the DSP extension of Arm and `cfg(mainline)` for the others of Armv7-M and
//! Armv8-M, for which stable Rust has no `cfg`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(dsp)");
    println!("cargo::rustc-check-cfg=cfg(mainline)");
    if std::env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv7em")) {
        println!("cargo::rustc-cfg=dsp");
    }
    let mainline = ["thumbv7m", "thumbv8m.main"];
    if std::env::var("TARGET")
        .is_ok_and(|target| mainline.iter().any(|name| target.starts_with(name)))
    {
        println!("cargo::rustc-cfg=mainline");
    }
}
